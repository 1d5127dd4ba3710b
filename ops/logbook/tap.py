"""Listens to calls of HTTP clients: clients are tapped once, when they are made; whoever wants to hear sets the one listener.

While nobody listens a call costs one comparison more. ``ops`` knows no client: they come here to be tapped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

import httpx
import structlog
from django.utils import timezone

# So much of a body is heard; what is longer is cut.
HEARD_BYTES = 64 * 1024


@dataclass(slots=True)
class Heard:
    """One call as it went over the wire: nothing in here is redacted yet."""

    at: datetime
    method: str
    url: str
    agent: str
    request_headers: list[tuple[str, str]]
    request_body: bytes
    request_size: int
    status: int | None = None
    milliseconds: int = 0
    response_headers: list[tuple[str, str]] = field(default_factory=list)
    response_body: bytes = b""
    response_size: int = 0
    error: str = ""


Listener = Callable[[Heard], None]
_listener: Listener | None = None


def listen(listener: Listener | None) -> None:
    """Hear every call of tapped clients from now on; None: nobody listens any more."""
    global _listener
    _listener = listener


def listening() -> bool:
    """Whether somebody listens."""
    return _listener is not None


def tap(client: httpx.Client) -> httpx.Client:
    """Make the calls of ``client`` audible. Returns it.

    httpx takes another transport only when a client is made, and then drops the proxies of the environment; so both are wrapped
    where the client keeps them.
    """
    client._transport = Tapped(client._transport)
    client._mounts = {
        pattern: Tapped(transport) if transport is not None else None for pattern, transport in client._mounts.items()
    }
    return client


class Tapped(httpx.BaseTransport):
    """A transport that tells of each call, when somebody listens."""

    def __init__(self, inner: httpx.BaseTransport) -> None:
        self.inner = inner

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if _listener is None:
            return self.inner.handle_request(request)
        return self._heard(request)

    def close(self) -> None:
        self.inner.close()

    def _heard(self, request: httpx.Request) -> httpx.Response:
        body = request.read() if isinstance(request.stream, httpx.ByteStream) else b""
        heard = Heard(
            at=timezone.now(),
            method=request.method,
            url=str(request.url),
            agent=str(structlog.contextvars.get_contextvars().get("agent", "")),
            request_headers=list(request.headers.multi_items()),
            request_body=body[:HEARD_BYTES],
            request_size=len(body),
        )
        started = time.monotonic()
        try:
            response = self.inner.handle_request(request)
        except Exception as error:
            heard.error = f"{type(error).__name__}: {error}"
            _tell(heard, started)
            raise
        heard.status = response.status_code
        heard.response_headers = list(response.headers.multi_items())
        response.stream = _Overheard(response.stream, heard, started)
        return response


class _Overheard(httpx.SyncByteStream):
    """Passes a body on, keeps its beginning, and tells of the call when the body is closed."""

    def __init__(self, inner: object, heard: Heard, started: float) -> None:
        self._inner, self._heard, self._started, self._told = inner, heard, started, False

    def __iter__(self) -> Iterator[bytes]:
        heard = self._heard
        try:
            for piece in self._inner:  # type: ignore[attr-defined]
                heard.response_size += len(piece)
                room = HEARD_BYTES - len(heard.response_body)
                if room > 0:
                    heard.response_body += piece[:room]
                yield piece
        except Exception as error:
            heard.error = f"{type(error).__name__}: {error}"
            raise

    def close(self) -> None:
        try:
            self._inner.close()  # type: ignore[attr-defined]
        finally:
            if not self._told:
                self._told = True
                _tell(self._heard, self._started)


def _tell(heard: Heard, started: float) -> None:
    heard.milliseconds = round((time.monotonic() - started) * 1000)
    listener = _listener
    if listener is not None:
        # Whatever the listener suffers from, the call must not.
        with suppress(Exception):
            listener(heard)
