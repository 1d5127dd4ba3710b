"""Lets a thread that waits on a socket be asked to stop, without a second thread and without losing a byte.

A short read time-out in httpx ends the stream, so it cannot be used to look up now and then. Here the wait itself is sliced:
while a ``Watch`` is set for the running thread, every read on a socket asks it several times a second, and only a silence
longer than the watch allows becomes a ``ReadTimeout``. Bytes that arrive wake the read at once, so streaming costs nothing.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import httpcore

SLICE_SECONDS = 0.4
_local = threading.local()


class StopRequested(Exception):
    """Raised out of a read when the watch was told to stop. The connection is closed, since an answer is still on its way."""


class Watch:
    """Asks ``should_stop`` while waiting, and limits silence to ``silence_seconds`` counted from the last ``progress()``."""

    def __init__(self, should_stop: Callable[[], bool], silence_seconds: float) -> None:
        self._should_stop = should_stop
        self._silence = max(0.05, silence_seconds)
        self._deadline = time.monotonic() + self._silence

    def progress(self) -> None:
        """Something meaningful arrived; pings do not count."""
        self._deadline = time.monotonic() + self._silence

    def check(self) -> float:
        """Seconds that may still pass in silence. Raises ``StopRequested``."""
        if self._should_stop():
            raise StopRequested
        return self._deadline - time.monotonic()


@contextmanager
def watching(watch: Watch) -> Iterator[None]:
    """Reads on this thread obey ``watch``. Set it around each read and not around a ``yield``: generators change threads."""
    before = getattr(_local, "watch", None)
    _local.watch = watch
    try:
        yield
    finally:
        _local.watch = before


class WatchedStream(httpcore.NetworkStream):
    """A socket whose reads are sliced while the thread has a watch."""

    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        watch: Watch | None = getattr(_local, "watch", None)
        if watch is None:
            return self._inner.read(max_bytes, timeout)
        while True:
            remaining = watch.check()
            if remaining <= 0:
                raise httpcore.ReadTimeout("silent for too long")
            try:
                return self._inner.read(max_bytes, min(SLICE_SECONDS, remaining))
            except httpcore.ReadTimeout:
                continue

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, timeout)

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return WatchedStream(self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class WatchedNetwork(httpcore.NetworkBackend):
    """The ordinary network, with watched sockets."""

    def __init__(self, inner: httpcore.NetworkBackend | None = None) -> None:
        self._inner = inner or httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        return WatchedStream(self._inner.connect_tcp(host, port, timeout, local_address, socket_options))

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None
    ) -> httpcore.NetworkStream:
        return WatchedStream(self._inner.connect_unix_socket(path, timeout, socket_options))

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)
