"""One ``up`` for each data directory: a file lock that the kernel frees whatever ends the process."""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from controlplane.up.errors import CannotStart


@dataclass(frozen=True, slots=True)
class Running:
    """The ``up`` that holds a data directory: its process id and address."""

    pid: int
    url: str


class DataDirLock:
    """Held from ``take`` until the process ends. The file says who holds it; it stays, since removing it would race."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "up.lock"
        self._descriptor: int | None = None

    def take(self, url: str) -> None:
        """Raises ``CannotStart`` when another ``up`` runs on this data directory."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            text = os.read(descriptor, 4096).decode("utf-8", "replace")
            os.close(descriptor)
            holder = _parse(text)
            who = f" (process {holder.pid}, {holder.url})" if holder else ""
            raise CannotStart(
                f"Switchboard already runs on this data directory{who}: {self.path.parent}. "
                "Stop it there with Ctrl-C, or give this one another DATA_DIR (and PORT).",
                cause="running",
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "url": url}).encode() + b"\n", 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Free it before the process ends."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None


def running(folder: Path | None = None) -> Running | None:
    """The ``up`` that runs on a data directory now (the configured one), if any."""
    path = (folder or Path(settings.DATA_DIR)) / "up.lock"
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return _parse(os.read(descriptor, 4096).decode("utf-8", "replace"))
    finally:
        os.close(descriptor)
    return None


def public_url() -> str:
    """The address to print in links: that of the ``up`` that runs here, whose port may come from its command line."""
    found = None if settings.ENVIRONMENT["PUBLIC_URL"] else running()
    return found.url if found is not None else str(settings.PUBLIC_URL)


def _parse(text: str) -> Running | None:
    try:
        data = json.loads(text)
        return Running(int(data["pid"]), str(data["url"]))
    except (ValueError, KeyError, TypeError):
        return None
