"""Ports that Switchboard listens on: which they are, who has them, and which one is free.

Whoever starts a server registers its port here, with a function that writes another one into its configuration.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psutil

ANY = ("", "0.0.0.0", "::")  # noqa: S104 - named to be recognised


class PortFixed(Exception):
    """The port cannot be written from here. The text says which line to change, and where."""


@dataclass(frozen=True, slots=True)
class PortUse:
    """A port of ours. ``address`` gives (host, port) as the next start would use it; ``owners`` the ids of our processes that may
    listen there. ``write(port)`` changes it for the next start and returns what ``restore`` needs; it raises ``PortFixed``.
    ``restart`` says what makes the change count.
    """

    name: str
    label: str
    address: Callable[[], tuple[str, int] | None]
    owners: Callable[[], set[int]]
    write: Callable[[int], dict[str, Any]]
    restore: Callable[[dict[str, Any]], None]
    can_write: Callable[[int], str]
    restart: str = ""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who listens on a port. ``pid`` 0: somebody whose process we may not see."""

    pid: int = 0
    name: str = ""
    command: str = ""

    def __str__(self) -> str:
        return f"{self.name} (process {self.pid})" if self.pid else "a program that we may not see"


_uses: dict[str, PortUse] = {}


def register_port(use: PortUse) -> None:
    """Make a port known; the last registration of a name counts."""
    _uses[use.name] = use


def port_uses() -> list[PortUse]:
    """All ports of ours, by name."""
    return [_uses[name] for name in sorted(_uses)]


def port_use(name: str) -> PortUse | None:
    """One of them, or None."""
    return _uses.get(name)


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now."""
    host = "127.0.0.1" if host == "localhost" else host
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as wire:
        # As servers do: connections that were closed a moment ago do not count.
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            wire.bind((host, port))
            wire.listen(1)
        except OSError as error:
            # Anything else (no such address, not allowed) is not for want of a free port.
            return error.errno != errno.EADDRINUSE
    return True


def next_free(host: str, port: int, *, taken: set[int] | None = None) -> int:
    """The first free port behind ``port``. Raises ``PortFixed`` when there is none among the next 200."""
    for candidate in range(port + 1, min(port + 201, 65536)):
        if candidate not in (taken or set()) and is_free(host, candidate):
            return candidate
    raise PortFixed(f"No port from {port + 1} to {port + 200} is free on {host}.")


def holder_of(host: str, port: int) -> Holder | None:
    """Who listens on the port of this host, None when nobody does as far as can be seen."""
    try:
        listening = [c for c in psutil.net_connections(kind="tcp") if c.status == psutil.CONN_LISTEN]
    except (psutil.Error, OSError):
        return Holder() if not is_free(host, port) else None
    found = [one for one in listening if one.laddr and one.laddr.port == port and _meets(host, one.laddr.ip)]
    if not found:
        return Holder() if not is_free(host, port) else None
    pid = next((one.pid for one in found if one.pid), 0) or 0
    if not pid:
        return Holder()
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            return Holder(pid, process.name(), " ".join(process.cmdline())[:200])
    except psutil.Error:
        return Holder(pid, "a program")


def _meets(wanted: str, listening: str) -> bool:
    """Whether a server at one address keeps another from listening at the other."""
    local = {"localhost": "127.0.0.1"}
    wanted, listening = local.get(wanted, wanted), local.get(listening, listening)
    return wanted in ANY or listening in ANY or wanted == listening
