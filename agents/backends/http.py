"""One HTTP server: its connection pool, its credentials, its errors.

Shared by all threads that talk to the server; connections are kept alive. Every failure comes out as a ``BackendError``.
"""

from __future__ import annotations

import json
import ssl
import threading
import tomllib
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import httpx

from agents.backends.base import ServiceSpec, ShouldStop
from agents.backends.errors import BackendBroken, BackendError, BackendRejected, BackendUnavailable
from agents.backends.http_errors import error_of, error_of_exception
from agents.backends.redact import plain_url, short
from agents.backends.sse import SseEvent, SseGarbage, parse_events
from agents.backends.watch import Watch, WatchedNetwork, watching
from ops.logbook.tap import tap

CONNECT_SECONDS = 5.0
READ_SECONDS = 30.0
CONNECTIONS = 256
LONGEST_BODY = 64 * 1024 * 1024
LONGEST_ERROR_BODY = 64 * 1024


@lru_cache(maxsize=1)
def product_version() -> str:
    """Switchboard's version, from the project file."""
    try:
        project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))
        return str(project["project"]["version"])
    except (OSError, KeyError, tomllib.TOMLDecodeError):
        return "0"


@lru_cache(maxsize=1)
def tls_context() -> ssl.SSLContext:
    """Reading the root certificates takes about 20 ms, so it is done once for all servers."""
    return httpx.create_ssl_context()


def proxy_for(base_url: str, options: Mapping[str, Any]) -> str | None:
    """The proxy from the service's option ``proxy`` ("" means none), else from the environment, which never covers loopback."""
    if "proxy" in options:
        return str(options["proxy"]) or None
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    if host in ("localhost", "::1") or host.startswith("127.") or urllib.request.proxy_bypass(host):
        return None
    return urllib.request.getproxies().get(parts.scheme)


def make_client(base_url: str, headers: Mapping[str, str], proxy: str | None = None) -> httpx.Client:
    """A client with a kept-alive pool whose reads can be watched. Follows no redirect: a prompt goes where it was addressed."""
    limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=32, keepalive_expiry=30.0)
    transport = httpx.HTTPTransport(verify=tls_context(), limits=limits, proxy=proxy)
    # httpx has no public way to give its pool another network; httpcore's pool has one, so it is set there.
    pool = transport._pool
    pool._network_backend = WatchedNetwork(pool._network_backend)
    timeout = httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS, pool=CONNECT_SECONDS)
    agent = {"User-Agent": f"Switchboard/{product_version()}"}
    # Tapped, so that an operator can have calls written down for a while.
    return tap(httpx.Client(base_url=base_url, headers={**agent, **headers}, transport=transport, timeout=timeout))


class HttpServer:
    """The server of one service. ``headers`` carry the credentials; ``secrets`` are what must never be repeated."""

    def __init__(self, spec: ServiceSpec, headers: Mapping[str, str] | None = None, base_url: str = "") -> None:
        url = (base_url or spec.base_url).strip().rstrip("/")
        parts = urlsplit(url)
        self.address = plain_url(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise BackendRejected(
                f"The address of service {spec.name} must begin with http:// or https:// and name a host: {self.address!r}."
            )
        self._users = 0
        self._closing = False
        self._lock = threading.Lock()
        self.secrets = tuple(v for v in (*spec.credentials.values(), parts.password or "") if v)
        try:
            self._client = make_client(url, headers or {}, proxy_for(url, spec.options))
        except (httpx.InvalidURL, UnicodeError, ValueError) as error:
            raise BackendRejected(
                f"The address, proxy or a credential of service {spec.name} cannot be used ({type(error).__name__}); "
                "look for stray spaces or unusual characters."
            ) from None

    def where(self, method: str, path: str) -> str:
        """Method and address, for error messages."""
        return f"{method} {self.address}{path.partition('?')[0]}"

    def json(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        read_seconds: float = READ_SECONDS,
    ) -> Any:
        """The decoded JSON answer. Raises ``BackendError``."""
        return self.json_with_headers(
            method, path, params=params, body=body, headers=headers, read_seconds=read_seconds
        )[0]

    def json_with_headers(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        read_seconds: float = READ_SECONDS,
    ) -> tuple[Any, httpx.Headers]:
        """The decoded JSON answer and its headers."""
        where = self.where(method, path)
        with self._open(method, path, params=params, body=body, headers=headers, read_seconds=read_seconds) as response:
            raw = b""
            with self._translated(where):
                for piece in response.iter_bytes():
                    raw += piece
                    if len(raw) > LONGEST_BODY:
                        raise BackendBroken(f"{where}: the answer is larger than {LONGEST_BODY >> 20} MiB.")
        if not raw.strip():
            return None, response.headers
        try:
            return json.loads(raw), response.headers
        except ValueError:
            begin = short(raw[:200].decode("utf-8", "replace"), self.secrets, 80)
            raise BackendBroken(f"{where}: the answer is not JSON; it begins with {begin!r}.") from None

    def download(self, path: str, target: BinaryIO, *, read_seconds: float = READ_SECONDS) -> int:
        """Write the answer to a GET into a file, whatever its size. Returns how many bytes came. Raises ``BackendError``."""
        where, size = self.where("GET", path), 0
        with self._open("GET", path, read_seconds=read_seconds) as response, self._translated(where):
            for piece in response.iter_bytes():
                target.write(piece)
                size += len(piece)
        return size

    def upload(
        self, path: str, *, fields: Mapping[str, str], name: str, file: BinaryIO, read_seconds: float = READ_SECONDS
    ) -> Any:
        """POST a file as a form's ``file`` and return the decoded JSON answer. Raises ``BackendError``."""
        where = self.where("POST", path)
        timeout = httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS, pool=CONNECT_SECONDS, read=read_seconds)
        with self._in_use(where):
            with self._translated(where):
                files = {"file": (name, file, "application/json")}
                response = self._client.post(path, data=dict(fields), files=files, timeout=timeout)
            if not response.is_success:
                raise error_of(
                    response.status_code,
                    response.headers,
                    response.text[:LONGEST_ERROR_BODY],
                    where=where,
                    secrets=self.secrets,
                )
            try:
                return response.json()
            except ValueError:
                raise BackendBroken(f"{where}: the answer is not JSON.") from None

    def events(
        self,
        method: str,
        path: str,
        *,
        body: Any,
        should_stop: ShouldStop,
        silence_seconds: float,
        means_progress: Callable[[SseEvent], bool] = lambda event: event.event != "comment",
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[SseEvent]:
        """Server-sent events as they arrive, comments included.

        ``should_stop`` is asked at least twice a second, also before the answer begins; ``StopRequested`` is raised when it
        turns true. Events for which ``means_progress`` is false (pings) do not lengthen ``silence_seconds``. Whether the
        stream reached its end marker is for the caller to judge: here it just ends. Raises ``BackendError``.
        """
        where = self.where(method, path)
        watch = Watch(should_stop, silence_seconds)
        watch.check()
        sent = {"Accept": "text/event-stream", **(headers or {})}
        with self._open(method, path, body=body, headers=sent, read_seconds=silence_seconds, watch=watch) as response:
            kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != "text/event-stream":
                raise self._not_a_stream(response, where, kind, watch)
            source = parse_events(self._watched_bytes(response, watch, where))
            while True:
                try:
                    event = next(source)
                except StopIteration:
                    return
                except SseGarbage as garbage:
                    begin = short(str(garbage), self.secrets, 80)
                    raise BackendBroken(f"{where}: the stream holds something that is no event: {begin!r}.") from None
                if means_progress(event):
                    watch.progress()
                yield event
                watch.check()

    def close(self) -> None:
        """Close the pool, or leave that to the last request that is still running: a changed option breaks no answer off."""
        with self._lock:
            self._closing = True
            idle = self._users == 0
        if idle:
            self._client.close()

    @contextmanager
    def _in_use(self, where: str) -> Iterator[None]:
        with self._lock:
            if self._closing and self._users == 0:
                raise BackendUnavailable(f"{where}: the service's settings changed just now; try again.")
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                last = self._closing and self._users == 0
            if last:
                self._client.close()

    def _watched_bytes(self, response: httpx.Response, watch: Watch, where: str) -> Iterator[bytes]:
        source = response.iter_bytes()
        while True:
            with self._translated(where), watching(watch):
                piece = next(source, None)
            if piece is None:
                return
            yield piece

    def _not_a_stream(self, response: httpx.Response, where: str, kind: str, watch: Watch) -> BackendError:
        """Some servers report a failure as JSON with status 200."""
        raw = b""
        for piece in self._watched_bytes(response, watch, where):
            raw += piece
            if len(raw) > LONGEST_ERROR_BODY:
                break
        begin = short(raw.decode("utf-8", "replace"), self.secrets, 160)
        return BackendBroken(f"{where}: expected an event stream and got {kind or 'no content type'}: {begin!r}.")

    @contextmanager
    def _open(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        read_seconds: float,
        watch: Watch | None = None,
    ) -> Iterator[httpx.Response]:
        """A successful response, not yet read. Closed at the end, also when a stream is left half read."""
        where = self.where(method, path)
        with self._in_use(where):
            yield from self._exchange(method, path, where, params, body, headers, read_seconds, watch)

    def _exchange(
        self,
        method: str,
        path: str,
        where: str,
        params: Mapping[str, Any] | None,
        body: Any,
        headers: Mapping[str, str] | None,
        read_seconds: float,
        watch: Watch | None,
    ) -> Iterator[httpx.Response]:
        timeout = httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS, pool=CONNECT_SECONDS, read=read_seconds)
        with self._translated(where):
            request = self._client.build_request(
                method, path, params=dict(params) if params else None, json=body, headers=headers, timeout=timeout
            )
            if watch is None:
                response = self._client.send(request, stream=True)
            else:
                with watching(watch):
                    response = self._client.send(request, stream=True)
        try:
            if not response.is_success:
                raise error_of(
                    response.status_code,
                    response.headers,
                    self._error_body(response),
                    where=where,
                    secrets=self.secrets,
                )
            yield response
        finally:
            response.close()

    def _error_body(self, response: httpx.Response) -> str:
        raw = b""
        try:
            for piece in response.iter_bytes():
                raw += piece
                if len(raw) > LONGEST_ERROR_BODY:
                    break
        except httpx.HTTPError:
            pass  # the status says enough; a cut explanation is better than hiding it behind a second error
        return raw.decode("utf-8", "replace")

    @contextmanager
    def _translated(self, where: str) -> Iterator[None]:
        try:
            yield
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, UnicodeError) as error:
            raise error_of_exception(error, where=where, secrets=self.secrets) from None
