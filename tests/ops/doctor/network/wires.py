"""Real servers on loopback that behave badly: a DNS server, a black hole, proxies, a registry, a Docker socket."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@contextlib.contextmanager
def name_server(answer: Callable[[str], tuple[int, str] | None]) -> Iterator[tuple[str, int]]:
    """A DNS server over UDP. ``answer(name)`` gives (rcode, IPv4 address or ""), or None to say nothing."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            packet, wire = self.request
            labels, at = [], 12
            while packet[at]:
                labels.append(packet[at + 1 : at + 1 + packet[at]].decode())
                at += 1 + packet[at]
            question = packet[12 : at + 5]
            found = answer(".".join(labels))
            if found is None:
                return
            rcode, address = found
            wants_a = question[-4:-2] == b"\0\1"
            records = 1 if address and wants_a else 0
            reply = packet[:2] + struct.pack(">5H", 0x8180 | rcode, 1, records, 0, 0) + question
            if records:
                reply += b"\xc0\x0c" + struct.pack(">2HIH", 1, 1, 60, 4) + socket.inet_aton(address)
            wire.sendto(reply, self.client_address)

    with socketserver.ThreadingUDPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address
        server.shutdown()


@contextlib.contextmanager
def black_hole() -> Iterator[int]:
    """A port whose backlog is full: the kernel drops every further attempt to connect."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(4):
            held = stack.enter_context(socket.socket())
            held.setblocking(False)
            held.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]


@contextlib.contextmanager
def web(handle: Callable[[BaseHTTPRequestHandler], None], *, unix: str = "") -> Iterator[int]:
    """An HTTP server whose GET, HEAD and CONNECT are ``handle``; on a Unix socket when a path is given."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            handle(self)

        do_HEAD = do_CONNECT = do_GET

        def log_message(self, *arguments: Any) -> None:
            pass

        def address_string(self) -> str:
            return "local"

    class UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
        daemon_threads = True

    server: Any = UnixServer(unix, Handler) if unix else ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield 0 if unix else server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        if unix:
            with contextlib.suppress(OSError):
                os.unlink(unix)


def say(handler: BaseHTTPRequestHandler, status: int, body: Any = b"", **headers: str) -> None:
    """Answer a request; a body that is no bytes becomes JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    if "Content_Length" not in headers:
        handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(data)


def closed_port() -> int:
    with socket.socket() as wire:
        wire.bind(("127.0.0.1", 0))
        return int(wire.getsockname()[1])
