"""Looks names up, and when that fails finds out why: no such name, no answer, or a name server that gives up.

The system's own resolver decides whether a name resolves (hosts file, container names, search domains). It tells "no answer"
and "the server failed" apart no better than "try again", so then the name servers are asked directly (RFC 1035, 4.1).
"""

from __future__ import annotations

import contextlib
import ipaddress
import secrets
import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["ok", "nxdomain", "timeout", "servfail", "refused", "error"]

LOOKUP_SECONDS = 4.0
ASK_SECONDS = 1.0
_TYPES = {1: socket.AF_INET, 28: socket.AF_INET6}
_RCODES: dict[int, Kind] = {0: "ok", 2: "servfail", 3: "nxdomain", 5: "refused"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a name. ``servers`` are the name servers that were asked, ``sentence`` is for people."""

    name: str
    kind: Kind
    addresses: tuple[str, ...] = ()
    servers: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return self.kind == "ok"

    @property
    def sentence(self) -> str:
        where = ", ".join(self.servers) or "the system's resolver"
        return {
            "ok": f"{self.name} is {', '.join(self.addresses[:4])}.",
            "nxdomain": f"There is no name {self.name} (NXDOMAIN from {where}).",
            "timeout": f"No name server answered for {self.name} ({where}).",
            "servfail": f"The name server failed for {self.name} (SERVFAIL from {where}).",
            "refused": f"The name server refused to look {self.name} up ({where}).",
            "error": f"{self.name} could not be looked up ({where}).",
        }[self.kind]


class Resolver:
    """The system's resolver; with ``nameservers`` (address, port) those and nothing else."""

    def __init__(self, nameservers: Sequence[tuple[str, int]] = ()) -> None:
        self._nameservers = tuple(nameservers)

    def resolve(self, name: str, *, timeout: float = LOOKUP_SECONDS) -> Answer:
        """The addresses of a name (an address is its own), or why there are none. Never raises."""
        with contextlib.suppress(ValueError):
            return Answer(name, "ok", (str(ipaddress.ip_address(name)),))
        if self._nameservers:
            return self._ask_all(name, self._nameservers)
        kind, addresses = _system(name, timeout)
        if kind == "ok":
            return Answer(name, kind, addresses)
        servers = nameservers()
        if kind != "again" or not servers:
            told: Kind = "timeout" if kind in ("again", "timeout") else "nxdomain" if kind == "nxdomain" else "error"
            return Answer(name, told, (), tuple(address for address, _ in servers))
        asked = self._ask_all(name, servers)
        # The resolver has just said that it did not get an answer: one that comes now is no better than that.
        return asked if not asked.ok else Answer(name, "timeout", (), asked.servers)

    def _ask_all(self, name: str, servers: Sequence[tuple[str, int]]) -> Answer:
        told: Kind = "timeout"
        asked: list[str] = []
        for server in servers[:3]:
            asked.append(server[0])
            kinds = []
            addresses: list[str] = []
            for record in _TYPES:
                kind, found = ask(name, record, server)
                kinds.append(kind)
                addresses += found
                if kind != "ok":
                    break
            if addresses:
                return Answer(name, "ok", tuple(addresses), tuple(asked))
            told = kinds[0] if kinds[0] != "ok" else "nxdomain"
            if told == "nxdomain":
                break
        return Answer(name, told, (), tuple(asked))


def ask(name: str, record: int, server: tuple[str, int], *, timeout: float = ASK_SECONDS) -> tuple[Kind, list[str]]:
    """Ask one name server for records of one type (1: A, 28: AAAA) over UDP. Never raises."""
    number = secrets.randbelow(0xFFFF)
    try:
        question = b"".join(
            bytes([len(label)]) + label for label in (part.encode("idna") for part in name.rstrip(".").split("."))
        )
        packet = struct.pack(">6H", number, 0x0100, 1, 0, 0, 0) + question + b"\0" + struct.pack(">2H", record, 1)
        with socket.socket(socket.AF_INET6 if ":" in server[0] else socket.AF_INET, socket.SOCK_DGRAM) as wire:
            wire.connect(server)
            wire.send(packet)
            until = time.monotonic() + timeout
            while (left := until - time.monotonic()) > 0:
                wire.settimeout(left)
                reply = wire.recv(4096)
                if len(reply) >= 12 and struct.unpack(">H", reply[:2])[0] == number:
                    return _read(reply, record)
    except TimeoutError:
        return "timeout", []
    except ConnectionRefusedError:
        return "timeout", []
    except (OSError, UnicodeError, struct.error, IndexError):
        return "error", []
    return "timeout", []


def _read(reply: bytes, record: int) -> tuple[Kind, list[str]]:
    _, flags, questions, answers, _, _ = struct.unpack(">6H", reply[:12])
    kind = _RCODES.get(flags & 0xF, "error")
    at, found = 12, []
    for _ in range(questions):
        at = _skip(reply, at) + 4
    for _ in range(answers):
        at = _skip(reply, at)
        kind_of_record, _, _, length = struct.unpack(">2HIH", reply[at : at + 10])
        data = reply[at + 10 : at + 10 + length]
        at += 10 + length
        if kind_of_record == record and len(data) == (4 if record == 1 else 16):
            found.append(socket.inet_ntop(_TYPES[record], data))
    return kind, found


def _skip(reply: bytes, at: int) -> int:
    """The place behind a name, which ends with a zero or a pointer."""
    while True:
        length = reply[at]
        if length == 0:
            return at + 1
        if length >= 0xC0:
            return at + 2
        at += 1 + length


def _system(name: str, timeout: float) -> tuple[Kind | Literal["again"], tuple[str, ...]]:
    """``getaddrinfo`` with a time limit: it knows none, and may wait for many seconds."""
    box: list[tuple[Kind | Literal["again"], tuple[str, ...]]] = []

    def look() -> None:
        try:
            rows = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
            box.append(("ok", tuple(dict.fromkeys(str(row[4][0]) for row in rows))))
        except socket.gaierror as error:
            kinds: dict[int, Kind | Literal["again"]] = {socket.EAI_NONAME: "nxdomain", socket.EAI_AGAIN: "again"}
            kinds[getattr(socket, "EAI_NODATA", socket.EAI_NONAME)] = "nxdomain"
            box.append((kinds.get(error.errno or 0, "error"), ()))
        except (OSError, UnicodeError):
            box.append(("error", ()))

    # Daemon: a resolver that hangs must not keep the process from ending.
    thread = threading.Thread(target=look, name=f"lookup {name}", daemon=True)
    thread.start()
    thread.join(timeout)
    return box[0] if box else ("timeout", ())


def nameservers(path: Path = Path("/etc/resolv.conf")) -> list[tuple[str, int]]:
    """The name servers of this machine, as its resolver's file lists them."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    words = [line.split() for line in lines]
    return [(parts[1].partition("%")[0], 53) for parts in words if len(parts) > 1 and parts[0] == "nameserver"]


_resolver = Resolver()


def resolver() -> Resolver:
    """The resolver that probes use."""
    return _resolver


@contextlib.contextmanager
def using(other: Resolver) -> Iterator[Resolver]:
    """Let all probes of this process ask ``other`` meanwhile."""
    global _resolver
    before, _resolver = _resolver, other
    try:
        yield other
    finally:
        _resolver = before
