"""A small receiver of webhooks for practising: refuses the first message with 503, takes all later ones, ends after an hour.

Run as a program (``python practice_receiver.py``); it prints its port. It is what the fault of ``alerts.health`` puts up.
"""

from __future__ import annotations

import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

LIFE_SECONDS = 3600.0


class _Door(BaseHTTPRequestHandler):
    refused = False

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, _Door.refused = (200 if _Door.refused else 503), True
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing: nobody reads its output."""


def main() -> None:
    """Serve on a free port of this machine."""
    server = HTTPServer(("127.0.0.1", 0), _Door)
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    timer = threading.Timer(LIFE_SECONDS, server.shutdown)
    timer.daemon = True
    timer.start()
    server.serve_forever()


if __name__ == "__main__":
    main()
