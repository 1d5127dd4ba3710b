"""A connection to the homeserver that is kept open for one purpose: to break when the homeserver does.

An appservice cannot hold a long poll (Synapse serves no ``/sync`` to its users), and a pooled HTTP client hides broken
connections by making new ones. So this is a bare connection that asks for ``/versions`` now and then, and in between waits for the
kernel to say that the other side is gone: a crash is noticed at once, even when the restart takes a second.
"""

from __future__ import annotations

import http.client
import select
import ssl
import threading
from urllib.parse import urlsplit

ASK_EVERY = 2.0
TIMEOUT = 10.0


class Broken(Exception):
    """The connection broke, or the homeserver answered with an error of its own."""


class Tripwire:
    """One open connection. Raises ``Broken`` from ``watch`` when the homeserver goes away."""

    def __init__(self, base_url: str) -> None:
        parts = urlsplit(base_url)
        self._path = f"{parts.path.rstrip('/')}/_matrix/client/versions"
        host, port = parts.hostname or "", parts.port
        self._connection: http.client.HTTPConnection = (
            http.client.HTTPSConnection(host, port, timeout=TIMEOUT, context=ssl.create_default_context())
            if parts.scheme == "https"
            else http.client.HTTPConnection(host, port, timeout=TIMEOUT)
        )

    def watch(self, stop: threading.Event, seconds: float) -> None:
        """Return after ``seconds`` of an unbroken connection (or when ``stop`` is set)."""
        rounds = max(1, round(seconds / ASK_EVERY))
        for _ in range(rounds):
            self._ask()
            if stop.is_set() or self._closed_within(ASK_EVERY, stop):
                return

    def _ask(self) -> None:
        try:
            self._connection.request("GET", self._path, headers={"Connection": "keep-alive"})
            response = self._connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException) as error:
            raise Broken(f"{type(error).__name__}: {error}") from error
        if response.status >= 500:
            # A proxy in front tells us that what is behind it does not answer.
            raise Broken(f"HTTP {response.status}")

    def _closed_within(self, seconds: float, stop: threading.Event) -> bool:
        """Wait; True when asked to stop. Raises ``Broken`` when the other side closes."""
        socket = self._connection.sock
        if socket is None:
            # The server does not keep connections: the questions alone have to do.
            return stop.wait(seconds)
        readable, _, _ = select.select([socket], [], [], seconds)
        if readable:
            raise Broken("the homeserver closed the connection")
        return stop.is_set()

    def close(self) -> None:
        self._connection.close()
