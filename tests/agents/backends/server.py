"""A server that says exactly what a test tells it to, down to the byte."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

DONE = "data: [DONE]\n\n"


class Asked:
    """One request as it arrived, and the means to answer it."""

    def __init__(self, handler: BaseHTTPRequestHandler, body: Any) -> None:
        parts = urlsplit(handler.path)
        self.method = handler.command
        self.path = parts.path
        self.query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        self.headers = handler.headers
        self.body = body
        self._handler = handler

    def answer(self, data: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        """JSON, or text when ``data`` is a string."""
        text = data if isinstance(data, str) else json.dumps(data)
        raw = text.encode()
        self._handler.send_response(status)
        kind = "text/html" if isinstance(data, str) else "application/json"
        for key, value in {"Content-Type": kind, "Content-Length": str(len(raw)), **(headers or {})}.items():
            self._handler.send_header(key, value)
        self._handler.end_headers()
        self._handler.wfile.write(raw)

    def hang_up(self) -> None:
        """Close the connection without a word."""
        self._handler.close_connection = True

    def stream(self, *parts: str | float | bytes | dict[str, Any], cut: bool = False) -> None:
        """Server-sent events: text as it is, a dict as one event, a number as a silence. ``cut`` breaks the connection off."""
        self.stream_from(parts, cut=cut)

    def stream_from(self, parts: Iterable[str | float | bytes | dict[str, Any]], *, cut: bool = False) -> None:
        """As ``stream``, of parts that are made one by one."""
        out = self._handler
        out.send_response(200)
        out.send_header("Content-Type", "text/event-stream; charset=utf-8")
        out.send_header("Transfer-Encoding", "chunked")
        out.end_headers()
        for part in parts:
            if isinstance(part, int | float):
                time.sleep(part)
                continue
            if isinstance(part, dict):
                part = f"data: {json.dumps(part)}\n\n"
            raw = part if isinstance(part, bytes) else part.encode()
            out.wfile.write(f"{len(raw):x}\r\n".encode() + raw + b"\r\n")
            out.wfile.flush()
        if cut:
            out.close_connection = True
        else:
            out.wfile.write(b"0\r\n\r\n")


Handler = Callable[[Asked], None]


class ScriptedServer:
    """``on("GET", "/path", handler)``; a ``*`` at the end of a path stands for anything. ``asked`` is the ledger."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self._handlers: list[tuple[str, str, Handler]] = []
        server = self

        class Requests(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                size = int(self.headers.get("Content-Length") or 0)
                raw = self.rfile.read(size)
                asked = Asked(self, json.loads(raw) if raw else None)
                server.asked.append(asked)
                try:
                    server.find(asked)(asked)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

            do_GET = do_POST = do_PATCH = handle_any

            def log_message(self, *args: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Requests)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def on(self, method: str, path: str, handler: Handler) -> None:
        """The newest matching handler wins."""
        self._handlers.insert(0, (method, path, handler))

    def find(self, asked: Asked) -> Handler:
        for method, path, handler in self._handlers:
            fits = asked.path.startswith(path[:-1]) if path.endswith("*") else asked.path == path
            if method == asked.method and fits:
                return handler
        return lambda missing: missing.answer({"detail": "Not Found"}, 404)

    def requests(self, method: str, path: str) -> list[Asked]:
        return [one for one in self.asked if one.method == method and one.path == path]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
