"""The local homeserver's port: known to the doctor, who can give it another one while it is taken."""

from __future__ import annotations

import dataclasses
from typing import Any

import psutil

from controlplane.homeserver import paths
from ops.network.ports import PortFixed, PortUse, register_port


def _address() -> tuple[str, int] | None:
    local = paths.known_local()
    return ("127.0.0.1", local.port) if local is not None else None


def _owners() -> set[int]:
    """Our Synapse: by its process id, if that is still one that was started with our configuration."""
    local = paths.known_local()
    if local is None:
        return set()
    noted = paths.read_text(local.pid_file).strip()
    try:
        process = psutil.Process(int(noted))
        family = [process, *process.children(recursive=True)]
        return {one.pid for one in family} if str(local.config) in process.cmdline() else set()
    except (ValueError, psutil.Error):
        return set()


def _write(port: int) -> dict[str, Any]:
    local = paths.known_local()
    if local is None:
        raise PortFixed("There is no local homeserver in this data directory.")
    try:
        paths.remember(dataclasses.replace(local, port=port))
    except OSError as error:
        raise PortFixed(f"{local.folder / 'local.json'} could not be written: {error.strerror}.") from error
    return {"before": local.port, "after": port}


def _restore(memory: dict[str, Any]) -> None:
    local = paths.known_local()
    if local is None or local.port != memory["after"]:
        raise PortFixed("The homeserver's port was changed by somebody since.")
    _write(int(memory["before"]))


register_port(
    PortUse(
        name="homeserver",
        label="the local homeserver",
        address=_address,
        owners=_owners,
        write=_write,
        restore=_restore,
        can_write=lambda port: "" if paths.known_local() is not None else "There is no local homeserver here.",
        restart="It counts from the next start; Matrix clients then need the new address.",
    )
)
