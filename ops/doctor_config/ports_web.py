"""The web server's port: where the next start listens, which processes may have it, and how another one is written."""

from __future__ import annotations

import os
from typing import Any

from ops.configuration import edit
from ops.configuration.schema import configuration
from ops.network import ports
from ops.processes.facts import boot_id
from ops.processes.queries import alive


def _address() -> tuple[str, int]:
    values = configuration().read().values
    return str(values["HOST"]), int(values["PORT"])


def _owners() -> set[int]:
    here = boot_id()
    return {os.getpid(), *(row.pid for row in alive(("up", "web")) if row.boot_id == here)}


def _write(port: int) -> dict[str, Any]:
    try:
        return edit.change("PORT", str(port))
    except edit.CannotEdit as error:
        raise ports.PortFixed(str(error)) from error


def _restore(memory: dict[str, Any]) -> None:
    try:
        edit.restore(memory)
    except edit.CannotEdit as error:
        raise ports.PortFixed(str(error)) from error


ports.register_port(
    ports.PortUse(
        name="web",
        label="the web server",
        address=_address,
        owners=_owners,
        write=_write,
        restore=_restore,
        can_write=lambda port: edit.why_not("PORT", str(port)),
        restart="Start Switchboard again; then links and your proxy lead to the new port.",
    )
)
