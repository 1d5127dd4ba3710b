"""HTTP to one homeserver: a shared pool, the token in the header only, answers as dictionaries, failures as MatrixError."""

from __future__ import annotations

import contextlib
import json
import ssl
import time
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, BinaryIO
from urllib.parse import quote, urlsplit, urlunsplit

import httpx

from agents.matrix.errors import HomeserverUnreachable, MatrixError, Refused, from_response, without_secret
from ops.logbook.tap import tap

# nio's builders put the token first in the query; it is given an empty one, and what is left of it is cut out again.
_NIO_TOKEN = "?access_token="  # noqa: S105 (a parameter name, no secret)
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_REPEATABLE = frozenset({"GET", "PUT", "DELETE"})
_JSON = {"Content-Type": "application/json"}
# Seconds between two looks at its clock; what differs by less is the same time.
CLOCK_EVERY = 30.0
_SAME_TIME = timedelta(seconds=2)


@lru_cache(maxsize=1)
def ssl_context() -> ssl.SSLContext:
    """The one TLS context of this process: building it reads every root certificate (tens of milliseconds)."""
    return httpx.create_ssl_context()


def quote_part(value: str) -> str:
    """Percent-encode one part of a path. Room ids are opaque (version 12 has no server part), so nothing is left as it is.

    ``.`` and ``..`` survive percent-encoding and would be folded away by the HTTP client: they are no Matrix identifier.
    """
    if value in {".", ".."}:
        raise ValueError(f"{value!r} is not a Matrix identifier")
    return quote(value, safe="", errors="replace")


def strip_token(path: str) -> str:
    """Take the (empty) ``access_token`` out of a path built by nio: a token in a URL ends up in logs."""
    head, mark, tail = path.partition(_NIO_TOKEN)
    if not mark:
        return path
    return f"{head}?{tail[1:]}" if tail.startswith("&") else head


class Transport:
    """Requests to ``base_url`` with a bearer token. Thread-safe; one instance keeps up to ``pool_size`` connections alive.

    ``timeout`` is in seconds and bounds connecting, sending and each wait for data.
    """

    def __init__(self, base_url: str, token: str, *, pool_size: int = 32, timeout: float = 30.0) -> None:
        parts = urlsplit(base_url.strip())
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("The homeserver's address must begin with http:// or https://")
        netloc = parts.netloc.rpartition("@")[2]
        self.base_url = urlunsplit((parts.scheme, netloc, parts.path.rstrip("/"), "", ""))
        self.timeout = timeout
        self._token = token
        headers = {"User-Agent": "Switchboard", "Accept": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        self._http = httpx.Client(
            verify=ssl_context(),
            timeout=httpx.Timeout(timeout, pool=timeout),
            limits=httpx.Limits(max_connections=pool_size, max_keepalive_connections=pool_size, keepalive_expiry=30.0),
            headers=headers,
            # A proxy from the environment must not come between us and a homeserver on this machine.
            trust_env=parts.hostname not in _LOOPBACK,
            follow_redirects=False,
        )
        # How far the homeserver's clock is ahead of ours, and when that was last looked at (monotonic).
        self._ahead, self._ahead_at = timedelta(0), float("-inf")
        # So that an operator can have calls written down for a while.
        tap(self._http)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.base_url}>"

    def close(self) -> None:
        """Close every connection. Further calls raise."""
        self._http.close()

    @property
    def ahead(self) -> timedelta:
        """How far the homeserver's clock is ahead of ours, as its answers of the last half minute said; nothing, when it is so little
        that seconds cannot tell."""
        return self._ahead if abs(self._ahead) > _SAME_TIME else timedelta(0)

    def _compare_clocks(self, headers: httpx.Headers) -> None:
        now = time.monotonic()
        if now - self._ahead_at < CLOCK_EVERY:
            return
        self._ahead_at = now
        with contextlib.suppress(TypeError, ValueError):
            # Whole seconds (RFC 9110, 5.6.7): on average half of one has passed since.
            said = parsedate_to_datetime(headers.get("date", "")).replace(tzinfo=UTC) + timedelta(seconds=0.5)
            self._ahead = said - datetime.now(UTC)

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self._http.is_closed

    def call(
        self,
        method: str,
        path: str,
        body: str | bytes | None = None,
        *,
        query: str = "",
        action: str = "",
        content_type: str = "",
        timeout: float | None = None,
    ) -> dict[str, Any]:
        """Send one request and return its JSON object; the arguments are those of :meth:`call_any`.

        Raises :class:`MatrixError` and nothing else, also when the answer is no JSON object.
        """
        data = self.call_any(method, path, body, query=query, action=action, content_type=content_type, timeout=timeout)
        if not isinstance(data, dict):
            raise self.not_matrix(action)
        return data

    def call_any(
        self,
        method: str,
        path: str,
        body: str | bytes | None = None,
        *,
        query: str = "",
        action: str = "",
        content_type: str = "",
        timeout: float | None = None,
        token: str | None = None,
    ) -> Any:
        """Send one request and return its JSON value.

        ``path`` begins with ``/`` and is already percent-encoded (it may carry a query); ``query`` is appended to it. ``action``
        names the call for error sentences ("create the room"). ``token`` is sent in place of this transport's own. Raises
        :class:`MatrixError` and nothing else.
        """
        path = strip_token(path)
        if "/." in path and not {".", ".."}.isdisjoint(path.partition("?")[0].split("/")):
            # They would be folded away, and the request would reach another endpoint than the one meant.
            raise Refused("'.' and '..' are no Matrix identifiers", where=self.base_url, action=action)
        url = self.base_url + path
        if query:
            url = f"{url}{'&' if '?' in url else '?'}{query}"
        headers = self._headers(token)
        if body is not None:
            headers |= {"Content-Type": content_type} if content_type else _JSON
        response = self._send(method, url, body, headers, action, timeout)
        self._compare_clocks(response.headers)
        if response.status_code >= 300:
            raise from_response(
                response.status_code,
                response.content,
                response.headers,
                where=self.base_url,
                action=action,
                secret=token or self._token,
            )
        try:
            return json.loads(response.content)
        except (ValueError, RecursionError):
            raise self.not_matrix(action) from None

    @staticmethod
    def _headers(token: str | None) -> dict[str, str]:
        """The headers of one request besides those that all have."""
        return {"Authorization": f"Bearer {token}"} if token is not None else {}

    def download(
        self,
        path: str,
        target: BinaryIO,
        *,
        limit: int,
        query: str = "",
        action: str = "",
        timeout: float = 60.0,
        token: str | None = None,
    ) -> int:
        """Write what is at ``path`` to a file as it arrives; returns its size in bytes.

        Raises :class:`MatrixError`, :class:`Refused` for what is larger than ``limit`` bytes.
        """
        url = f"{self.base_url}{strip_token(path)}{'?' + query if query else ''}"
        size = 0
        try:
            limits = httpx.Timeout(timeout, connect=self.timeout)
            with self._http.stream("GET", url, headers=self._headers(token), timeout=limits) as response:
                if response.status_code != 200:
                    raise from_response(
                        response.status_code,
                        response.read(),
                        response.headers,
                        where=self.base_url,
                        action=action,
                        secret=token or self._token,
                    )
                for piece in response.iter_bytes():
                    size += len(piece)
                    if size > limit:
                        raise Refused(f"it is larger than {limit:,} bytes", where=self.base_url, action=action)
                    target.write(piece)
        except (httpx.HTTPError, httpx.InvalidURL, RuntimeError) as error:
            raise self._unreachable(error, action) from None
        return size

    def not_matrix(self, action: str) -> MatrixError:
        """The error for a success whose body is not what Matrix prescribes."""
        return HomeserverUnreachable(
            "the answer is not what Matrix prescribes; perhaps something else answers at this address",
            status=200,
            where=self.base_url,
            action=action,
        )

    def _send(
        self,
        method: str,
        url: str,
        body: str | bytes | None,
        headers: dict[str, str],
        action: str,
        timeout: float | None,
    ) -> httpx.Response:
        limit = httpx.USE_CLIENT_DEFAULT if timeout is None else httpx.Timeout(timeout, connect=self.timeout)
        repeats = 1 if method in _REPEATABLE else 0
        while True:
            try:
                return self._http.request(method, url, content=body, headers=headers, timeout=limit)
            except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError) as error:
                # The server closed an idle connection just as we used it. What can be repeated safely is, once, at once.
                if repeats:
                    repeats -= 1
                    continue
                raise self._unreachable(error, action) from None
            except (httpx.HTTPError, httpx.InvalidURL, RuntimeError, OSError) as error:
                # httpx says RuntimeError for a client that was closed meanwhile.
                raise self._unreachable(error, action) from None

    def _unreachable(self, error: Exception, action: str) -> MatrixError:
        if isinstance(error, httpx.ConnectTimeout):
            text = f"no connection within {self.timeout:.0f} s"
        elif isinstance(error, httpx.PoolTimeout):
            text = "all our connections to it are busy"
        elif isinstance(error, httpx.TimeoutException):
            text = "it took the request and gave no answer in time"
        elif isinstance(error, httpx.ConnectError):
            text = f"no connection ({str(error)[:120] or 'refused'})"
        else:
            text = f"the connection broke ({type(error).__name__})"
        return HomeserverUnreachable(without_secret(text, self._token), where=self.base_url, action=action)
