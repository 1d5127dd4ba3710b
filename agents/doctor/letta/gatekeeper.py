"""A model provider in miniature that insists on a key: for showing what a missing or refused key looks like.

``python gatekeeper.py PORT KEY`` serves ``GET /v1/models`` on loopback and ends by itself after two hours.
"""

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LIVES_SECONDS = 2 * 3600.0
MODEL = "gatekeeper"


class _Door(BaseHTTPRequestHandler):
    key = ""

    def do_GET(self) -> None:
        """The list of models with the right key, else 401 in OpenAI's words."""
        if self.headers.get("Authorization") != f"Bearer {self.key}":
            self._say(401, {"error": {"message": "Incorrect API key provided.", "type": "invalid_request_error"}})
        elif self.path.rstrip("/").endswith("/models"):
            self._say(200, {"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": MODEL}]})
        else:
            self._say(404, {"error": {"message": "There is nothing here.", "type": "invalid_request_error"}})

    def _say(self, status: int, body: dict[str, object]) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads its log."""


def main(port: int, key: str) -> None:
    """Serve until the time is over."""
    server = ThreadingHTTPServer(("127.0.0.1", port), type("Door", (_Door,), {"key": key}))
    end = threading.Timer(LIVES_SECONDS, server.shutdown)
    end.daemon = True
    end.start()
    server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
