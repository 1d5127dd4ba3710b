"""Asks one address in stages: name, connection, proxy, encryption, answer. Says at which stage it ends, and why.

Sends one plain GET without credentials. Any HTTP answer counts as reached; what the answer means is for the caller.
"""

from __future__ import annotations

import errno
import http.client
import socket
import ssl
import time
from base64 import b64encode
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from ops.configuration.masks import mask_address
from ops.network import dns

Stage = Literal["address", "dns", "tcp", "proxy", "tls", "http", "done"]

CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 5.0
PORTS = {
    "http": 80,
    "https": 443,
    "ws": 80,
    "wss": 443,
    "redis": 6379,
    "rediss": 6379,
    "amqp": 5672,
    "amqps": 5671,
    **dict.fromkeys(("postgres", "postgresql", "psql", "pgsql"), 5432),
}
_HTTP = ("http", "https", "ws", "wss")
_TLS = ("https", "wss", "rediss", "amqps")


@dataclass(frozen=True, slots=True)
class Probe:
    """How far it came. ``stage`` is where it ended ("done" when it was reached), ``kind`` why in one word, ``status`` the HTTP one.

    ``hop`` is the host and port that was connected to first (the proxy's when there is one).
    """

    url: str
    stage: Stage
    ok: bool
    kind: str
    sentence: str
    milliseconds: int = 0
    hop: str = ""
    addresses: tuple[str, ...] = ()
    status: int = 0
    stages: dict[str, int] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)

    def to_dict(self) -> dict[str, Any]:
        """JSON shape: ``{url, stage, ok, kind, sentence, milliseconds, hop, addresses, status, stages: {stage: ms}}``."""
        return {
            "url": mask_address(self.url),
            "stage": self.stage,
            "ok": self.ok,
            "kind": self.kind,
            "sentence": self.sentence,
            "milliseconds": self.milliseconds,
            "hop": self.hop,
            "addresses": list(self.addresses[:4]),
            "status": self.status,
            "stages": dict(self.stages),
        }


class _Ended(Exception):
    def __init__(self, stage: Stage, kind: str, sentence: str) -> None:
        self.stage: Stage = stage
        self.kind, self.sentence = kind, sentence


@dataclass(slots=True)
class _Walk:
    url: str
    hop: str = ""
    addresses: tuple[str, ...] = ()
    status: int = 0
    body: bytes = b""
    stages: dict[str, int] = field(default_factory=dict)
    _began: float = field(default_factory=time.monotonic)

    def passed(self, stage: str) -> None:
        now = time.monotonic()
        self.stages[stage] = round((now - self._began) * 1000)
        self._began = now


def probe(
    url: str, *, proxy: str = "", until: Stage = "http", timeout: float = CONNECT_SECONDS, path: str = ""
) -> Probe:
    """Ask ``url`` (``proxy`` in between when given) up to the stage ``until``. Never raises.

    Addresses of databases and brokers end with the connection. ``path`` replaces that of the address. Seconds: ``timeout`` for
    each connection, ``ANSWER_SECONDS`` for an answer.
    """
    walk = _Walk(url)
    started = time.monotonic()
    stage: Stage = "done"
    kind, sentence = "ok", ""
    try:
        sentence = _walk(walk, url, proxy, until, timeout, path)
    except _Ended as end:
        stage, kind, sentence = end.stage, end.kind, end.sentence
    milliseconds = round((time.monotonic() - started) * 1000)
    return Probe(
        url, stage, stage == "done", kind, sentence, milliseconds, walk.hop, walk.addresses, walk.status, walk.stages,
        walk.body,
    )  # fmt: skip


def endpoint(url: str) -> tuple[str, str, int]:
    """(scheme, host, port) of an address. Raises ``ValueError``."""
    parts = urlsplit(url)
    port = parts.port or PORTS.get(parts.scheme, 0)
    if not parts.hostname or not port:
        raise ValueError("it names no host or no port")
    return parts.scheme, parts.hostname, port


def _walk(walk: _Walk, url: str, proxy: str, until: Stage, timeout: float, path: str) -> str:
    try:
        scheme, host, port = endpoint(url)
        first = endpoint(proxy) if proxy else (scheme, host, port)
    except ValueError as error:
        raise _Ended("address", "address", f"This is not an address: {error}.") from None
    walk.hop = f"{first[1]}:{first[2]}"
    found = dns.resolver().resolve(first[1])
    walk.addresses = found.addresses
    if not found.ok:
        raise _Ended("dns", found.kind, found.sentence)
    walk.passed("dns")
    if until == "dns":
        return found.sentence
    wire: socket.socket = _connect(found.addresses, first[1], first[2], timeout)
    try:
        walk.passed("tcp")
        if until == "tcp" or scheme not in _HTTP:
            return f"{walk.hop} accepts connections."
        if proxy and first[0] == "https":
            wire = _encrypt(wire, first[1])
        if proxy and scheme in _TLS:
            _tunnel(wire, proxy, host, port)
            walk.passed("proxy")
        if scheme in _TLS:
            wire = _encrypt(wire, host)
            walk.passed("tls")
        if until == "tls":
            return f"{host} proves who it is."
        _ask(walk, wire, url, host, port, path, proxy if proxy and scheme not in _TLS else "")
        walk.passed("http")
        return f"{host}:{port} answers {walk.status}."
    finally:
        wire.close()


def _connect(addresses: tuple[str, ...], host: str, port: int, timeout: float) -> socket.socket:
    last: _Ended | None = None
    for address in addresses[:3]:
        try:
            wire = socket.create_connection((address, port), timeout=timeout)
            wire.settimeout(ANSWER_SECONDS)
            return wire
        except OSError as error:
            last = _tcp_end(error, f"{host}:{port}", address, timeout)
    raise last or _Ended("dns", "nxdomain", f"{host} has no address.")


def _tcp_end(error: OSError, where: str, address: str, timeout: float) -> _Ended:
    at = "" if where.startswith(address) else f" ({address})"
    if isinstance(error, TimeoutError) or error.errno == errno.ETIMEDOUT:
        return _Ended("tcp", "timeout", f"{where}{at} does not answer within {timeout:g} s: timed out, not refused.")
    if isinstance(error, ConnectionRefusedError):
        return _Ended("tcp", "refused", f"{where}{at} refuses connections: nothing listens there.")
    if error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES, errno.EPERM):
        return _Ended("tcp", "unreachable", f"There is no way to {where}{at}: {error.strerror}.")
    return _Ended("tcp", "error", f"No connection to {where}{at}: {error.strerror or type(error).__name__}.")


@lru_cache(maxsize=1)
def _context() -> ssl.SSLContext:
    """Reading the root certificates takes tens of milliseconds. The same roots as the HTTP client that does the real work."""
    import httpx

    return httpx.create_ssl_context()


def _encrypt(wire: socket.socket, host: str) -> socket.socket:
    try:
        return _context().wrap_socket(wire, server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        text = f"The certificate of {host} is not accepted: {error.verify_message or error.reason}."
        raise _Ended("tls", "certificate", text) from None
    except TimeoutError:
        raise _Ended("tls", "timeout", f"{host} accepts the connection and then says nothing (TLS).") from None
    except (ssl.SSLError, OSError) as error:
        reason = getattr(error, "reason", None) or type(error).__name__
        raise _Ended("tls", "tls", f"No encrypted connection to {host}: {reason}. Does it speak https?") from None


def _tunnel(wire: socket.socket, proxy: str, host: str, port: int) -> None:
    """CONNECT (RFC 9110, 9.3.6)."""
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}", *_authorization(proxy)]
    try:
        wire.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        head = b""
        while b"\r\n\r\n" not in head and len(head) < 16384:
            piece = wire.recv(1024)
            if not piece:
                break
            head += piece
    except OSError as error:
        raise _Ended("proxy", "error", f"The proxy {_at(proxy)} hung up: {type(error).__name__}.") from None
    words = head.split(b"\r\n")[0].split(b" ", 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        raise _Ended("proxy", "not_a_proxy", f"What listens at {_at(proxy)} is no proxy.")
    if not 200 <= int(words[1]) < 300:
        raise _proxy_end(proxy, int(words[1]), target)


def _proxy_end(proxy: str, status: int, target: str) -> _Ended:
    if status == 407:
        return _Ended("proxy", "proxy_auth", f"The proxy {_at(proxy)} asks for a user and a password (407).")
    return _Ended("proxy", "proxy_refused", f"The proxy {_at(proxy)} does not let us through to {target} ({status}).")


def _authorization(proxy: str) -> list[str]:
    parts = urlsplit(proxy)
    if parts.username is None:
        return []
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
    return [f"Proxy-Authorization: Basic {b64encode(pair).decode()}"]


def _at(proxy: str) -> str:
    _, host, port = endpoint(proxy)
    return f"{host}:{port}"


def _ask(walk: _Walk, wire: socket.socket, url: str, host: str, port: int, path: str, proxy: str) -> None:
    parts = urlsplit(url)
    wanted = path or parts.path or "/"
    netloc = parts.netloc.rpartition("@")[2]
    headers = {"Host": netloc, "User-Agent": "Switchboard", "Accept": "*/*", "Connection": "close"}
    for line in _authorization(proxy) if proxy else ():
        name, _, value = line.partition(": ")
        headers[name] = value
    connection = http.client.HTTPConnection(host, port, timeout=ANSWER_SECONDS)
    connection.sock = wire
    try:
        connection.putrequest(
            "GET", f"http://{netloc}{wanted}" if proxy else wanted, skip_host=True, skip_accept_encoding=True
        )
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        walk.status = response.status
        walk.body = response.read(2048)
    except TimeoutError:
        text = f"{host}:{port} takes the question and does not answer within {ANSWER_SECONDS:g} s."
        raise _Ended("http", "timeout", text) from None
    except (http.client.HTTPException, OSError, ValueError) as error:
        raise _Ended("http", "not_http", f"{host}:{port} gives no HTTP answer ({type(error).__name__}).") from None
    if proxy and walk.status == 407:
        raise _proxy_end(proxy, walk.status, netloc)
    if proxy and walk.status in (502, 503, 504):
        raise _proxy_end(proxy, walk.status, netloc)
