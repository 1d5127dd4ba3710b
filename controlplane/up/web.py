"""Daphne inside this process: the reactor runs in the main thread, on asyncio's loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from daphne.endpoints import build_endpoint_description_strings
from daphne.server import Server, reactor
from django.conf import settings


class WebServer(Server):
    """``run`` blocks until ``finish`` is called from any thread or signal handler, or until it cannot listen.

    ``failure`` then says why it could not. The loop is known from the beginning, so that other threads can hand work to it.
    """

    connections: dict[Any, dict[str, Any]]

    def __init__(self, application: Any, *, on_listening: Callable[[], None]) -> None:
        trusted = bool(settings.ENVIRONMENT["TRUST_PROXY"])
        super().__init__(
            application,
            endpoints=build_endpoint_description_strings(host=settings.HOST, port=settings.PORT),
            # Signals are for the whole of `up`, which stops its parts in order.
            signal_handlers=False,
            proxy_forwarded_address_header="X-Forwarded-For" if trusted else None,
            proxy_forwarded_port_header="X-Forwarded-Port" if trusted else None,
            proxy_forwarded_proto_header="X-Forwarded-Proto" if trusted else None,
            application_close_timeout=2,
            verbosity=0,
            server_name="switchboard",
        )
        self.failure = ""
        self._on_listening = on_listening

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that requests, and the in-memory channel layer, live on."""
        loop: asyncio.AbstractEventLoop = reactor._asyncioEventloop
        return loop

    def listen_success(self, port: Any) -> None:
        super().listen_success(port)
        reactor.callLater(0, self._on_listening)

    def listen_error(self, failure: Any) -> None:
        self.failure = failure.getErrorMessage()
        super().listen_error(failure)

    def kill_all_applications(self) -> Any:
        # Kept-alive connections without a request have no application to end.
        self.connections = {key: known for key, known in self.connections.items() if "application_instance" in known}
        return super().kill_all_applications()

    def finish(self) -> None:
        """Stop serving. Safe from a signal handler and from any thread."""
        reactor.callFromThread(self._finish)

    def _finish(self) -> None:
        if reactor.running:
            reactor.stop()
