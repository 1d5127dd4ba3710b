"""What can be known of a server's process when it runs on this machine: its environment's names, its Python, its packages.

Only names of variables are read out, never their values. Linux only, and only processes that we may look at (``proc(5)``).
"""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

_PROC = Path("/proc")
_LISTENING = "0A"


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """The process that listens at an address. ``environment`` holds the names of its variables; ``prefix`` is where its Python
    environment lies (None: not to be found out); ``started_at`` is in seconds since 1970."""

    pid: int
    environment: frozenset[str]
    home: str = ""
    prefix: Path | None = None
    started_at: float = 0.0
    command: tuple[str, ...] = field(default=(), repr=False)


def server_process(address: str) -> tuple[ServerProcess | None, str]:
    """The process behind a loopback address, or None and why it cannot be known."""
    parts = urlsplit(address)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    if sys.platform != "linux":
        return None, "Processes of other programs can be looked at on Linux only."
    if not _is_here(parts.hostname or ""):
        return None, f"{parts.hostname} is another machine (or a container of its own)."
    inodes = _listeners(port)
    if not inodes:
        return None, f"No process of this machine listens at port {port}; it may run in a container of its own."
    pid = _holder(inodes)
    if pid is None:
        return None, f"The process that listens at port {port} belongs to another user, or to a container."
    try:
        return _read(pid), ""
    except OSError as error:
        return None, f"The process that listens at port {port} cannot be looked at: {error.strerror}."


def _is_here(host: str) -> bool:
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        return False
    return bool(found) and all(ipaddress.ip_address(str(one).partition("%")[0]).is_loopback for one in found)


def _listeners(port: int) -> set[str]:
    """Inodes of the sockets that listen at this port."""
    found = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = (_PROC / "net" / table).read_text("ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            columns = line.split()
            if columns[3] == _LISTENING and int(columns[1].rpartition(":")[2], 16) == port:
                found.add(columns[9])
    return found


def _holder(inodes: set[str]) -> int | None:
    wanted = {f"socket:[{inode}]" for inode in inodes}
    # The oldest one: children inherit the socket.
    for pid in sorted(int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit()):
        try:
            for handle in os.scandir(_PROC / str(pid) / "fd"):
                if os.readlink(handle.path) in wanted:
                    return pid
        except OSError:
            continue
    return None


def _read(pid: int) -> ServerProcess:
    folder = _PROC / str(pid)
    pairs = [entry.partition(b"=") for entry in (folder / "environ").read_bytes().split(b"\0") if entry]
    names = {name.decode("utf-8", "replace"): value for name, _, value in pairs}
    command = tuple(part.decode("utf-8", "replace") for part in (folder / "cmdline").read_bytes().split(b"\0") if part)
    # An empty variable counts as none.
    given = frozenset(name for name, value in names.items() if value)
    home = names.get("HOME", b"").decode("utf-8", "replace")
    return ServerProcess(pid, given, home, _prefix(command), _started_at(folder), command)


def _prefix(command: tuple[str, ...]) -> Path | None:
    """``/x/venv`` of ``/x/venv/bin/python /x/venv/bin/letta …``."""
    for part in command[:3]:
        path = Path(part)
        if path.is_absolute() and path.parent.name == "bin" and (path.parent.parent / "lib").is_dir():
            return path.parent.parent
    return None


def _started_at(folder: Path) -> float:
    try:
        ticks = float((folder / "stat").read_text().rpartition(")")[2].split()[19])
        boot = next(line for line in (_PROC / "stat").read_text().splitlines() if line.startswith("btime"))
    except (OSError, IndexError, ValueError, StopIteration):
        return 0.0
    return float(boot.split()[1]) + ticks / os.sysconf("SC_CLK_TCK")
