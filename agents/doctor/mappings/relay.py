"""A proxy as one meets them: passes everything on, and cuts lists in half. Only for causing that failure on purpose."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx


@contextmanager
def cutting_relay(target: str) -> Iterator[str]:
    """While the block lasts, a server on 127.0.0.1 that relays GET requests to ``target``; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            """Silent."""

        def do_GET(self) -> None:
            headers = {
                name: value for name, value in self.headers.items() if name.lower() in ("authorization", "accept")
            }
            answer = httpx.get(target.rstrip("/") + self.path, headers=headers, timeout=60, follow_redirects=True)
            body = _cut(answer)
            self.send_response(answer.status_code)
            self.send_header("Content-Type", answer.headers.get("content-type", "application/json"))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def _cut(answer: httpx.Response) -> bytes:
    try:
        data = answer.json()
    except ValueError:
        return answer.content
    return json.dumps(data[: len(data) // 2]).encode() if isinstance(data, list) else answer.content
