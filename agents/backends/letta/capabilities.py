"""What a particular Letta server can do, found by asking once and without any effect."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from agents.backends.errors import BackendError, BackendRejected, BackendUnavailable
from agents.backends.http import HttpServer

NO_RUN = "run-00000000-0000-4000-8000-000000000000"
QUICK_SECONDS = 10.0


class Capabilities:
    """Answers are remembered for as long as the backend is open; a server that did not answer is asked again."""

    def __init__(self, server: HttpServer, options: Mapping[str, Any]) -> None:
        self._server = server
        self._lock = threading.Lock()
        self._conversations: bool | None = False if options.get("conversations") is False else None
        self._background: bool | None = False if options.get("background") is False else None

    @property
    def conversations(self) -> bool:
        """``/v1/conversations`` exists since 0.16; 422 also means that it is there."""
        with self._lock:
            if self._conversations is None:
                try:
                    answer = self._server.json(
                        "GET", "/v1/conversations/", params={"limit": 1}, read_seconds=QUICK_SECONDS
                    )
                    self._conversations = isinstance(answer, list)
                except BackendRejected as error:
                    if error.status not in (404, 405, 422):
                        raise
                    self._conversations = error.status == 422
            return self._conversations

    @property
    def background(self) -> bool:
        """Runs that go on by themselves and can be re-attached need Redis on the server's side.

        Asked by resuming a run that does not exist: 503 means no Redis, 404 about the *run* means Redis is there.
        """
        if self._background is not None:
            return self._background
        if not self.conversations:
            self._background = False
            return False
        with self._lock:
            try:
                self._server.json(
                    "POST", "/v1/conversations/default/stream", body={"run_id": NO_RUN}, read_seconds=QUICK_SECONDS
                )
                self._background = False
            except BackendUnavailable as error:
                if "Redis" not in error.reason:
                    return False
                self._background = False
            except BackendRejected as error:
                self._background = error.status == 404 and NO_RUN in error.reason
            except BackendError:
                return False
            return self._background

    def no_background(self) -> None:
        """Redis was there and is not any more."""
        self._background = False

    def refuse_app_server(self) -> None:
        """Raises ``BackendRejected`` when the other product called Letta answers at this address."""
        if is_app_server(self._server):
            raise BackendRejected(
                f"{self._server.address} is a Letta App Server (Letta Code), which speaks another protocol than Letta's V1 "
                "REST. Use a service of its own kind for it, or give the address of a V1 server (package letta==0.16.8)."
            )


def is_app_server(server: HttpServer) -> bool:
    """The App Server describes itself at ``/app-server-info``; without its token it refuses in its own words."""
    try:
        info = server.json("GET", "/app-server-info", read_seconds=QUICK_SECONDS)
    except BackendError as error:
        return error.status == 401 and "websocket" in error.reason
    return isinstance(info, dict) and ("app_server" in str(info.get("type", "")) or "protocol_version" in info)
