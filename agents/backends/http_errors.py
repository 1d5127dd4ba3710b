"""Turns what went wrong over HTTP into the few errors that a turn knows how to act on."""

from __future__ import annotations

import json
import math
import ssl
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from agents.backends.errors import (
    BackendBroken,
    BackendBusy,
    BackendError,
    BackendNoCredit,
    BackendRateLimited,
    BackendRejected,
    BackendTimeout,
    BackendUnavailable,
    ProviderRefused,
)
from agents.backends.redact import short

LONGEST_RETRY_AFTER = 3600.0

ERROR_OF_STATUS: dict[int, type[BackendError]] = {
    402: BackendNoCredit,
    408: BackendTimeout,
    409: BackendBusy,
    423: BackendBusy,
    425: BackendBusy,
    429: BackendRateLimited,
    504: BackendTimeout,
}

_HINTS = {
    401: "refused our credentials; check the token or password of this service",
    402: "says that its credit is used up",
    403: "does not allow this with our credentials",
    404: "found nothing there",
}


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds to wait, from ``retry-after-ms``, or ``Retry-After`` as seconds or HTTP date (RFC 9110, 10.2.3)."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        raw = headers.get(name, "").strip()
        if not raw:
            continue
        try:
            seconds = float(raw) * unit
        except ValueError:
            try:
                when = parsedate_to_datetime(raw)
            except ValueError:
                continue
            if when.tzinfo is None:
                when = when.replace(tzinfo=UTC)
            seconds = (when - (now or datetime.now(UTC))).total_seconds()
        if math.isfinite(seconds):
            return min(max(0.0, seconds), LONGEST_RETRY_AFTER)
    return None


def words_of(body: Any) -> str:
    """The server's own explanation out of the usual shapes: ``{error:{type,message,detail}}``, ``{detail}``, ``{message}``."""
    if isinstance(body, str):
        return body
    if isinstance(body, list):
        return "; ".join(filter(None, (words_of(item) for item in body[:3])))
    if not isinstance(body, dict):
        return ""
    error = body.get("error")
    if isinstance(error, dict):
        parts = [error.get("type") or error.get("code"), error.get("message"), error.get("detail")]
        return ": ".join(str(part) for part in parts if part and isinstance(part, str | int))
    for key in ("error", "detail", "message", "msg"):
        if body.get(key):
            words = words_of(body[key])
            code = body.get("code")
            return f"{code}: {words}" if isinstance(code, str) and code else words
    return ""


_CREDIT = (
    "insufficient_quota",
    "insufficient_credits",
    "billing_error",
    "credit balance is too low",
    "exceeded your current quota",
)


def is_about_credit(words: str) -> bool:
    """Whether a provider's words say that its credit is used up, rather than that it was asked too often."""
    lowered = words.lower()
    return any(mark in lowered for mark in _CREDIT)


def error_of(
    status: int, headers: Mapping[str, str], body: str, *, where: str, secrets: Iterable[str] = ()
) -> BackendError:
    """The error for an HTTP answer that is not a success. ``where`` is method and address without secrets."""
    try:
        words = words_of(json.loads(body))
    except ValueError:
        words = "" if "<html" in body[:500].lower() else body
    said = short(words, secrets)
    if 300 <= status < 400:
        target = short(headers.get("location", "elsewhere").partition("?")[0], secrets)
        moved = BackendRejected(f"{where} redirects ({status}) to {target}; set that as the address of this service.")
        moved.status = status
        return moved
    hint = _HINTS.get(status, "is in trouble" if status >= 500 else "answered with an error")
    reason = f"{where} {hint} (HTTP {status})" + (f": {said}" if said else ".")
    wait = retry_after(headers)
    kind = ERROR_OF_STATUS.get(status) or (BackendUnavailable if status >= 500 else BackendRejected)
    if status in (400, 403, 429) and is_about_credit(words):
        # OpenAI says it as a 429 and Anthropic as a 400; waiting mends neither.
        kind, wait = BackendNoCredit, None
    elif status == 401 and words.startswith("llm_authentication"):
        kind = ProviderRefused
    error = kind(reason, retry_after=wait)
    error.status = status
    return error


def error_of_exception(error: Exception, *, where: str, secrets: Iterable[str] = ()) -> BackendError:
    """The error for a request that got no whole answer."""
    said = short(str(error), secrets) or type(error).__name__
    if isinstance(error, httpx.ConnectTimeout):
        return BackendTimeout(f"{where}: no connection within the time allowed; check the address and the firewall.")
    if isinstance(error, httpx.PoolTimeout):
        return BackendUnavailable(f"{where}: all connections to this server are in use.")
    if isinstance(error, httpx.TimeoutException):
        return BackendTimeout(f"{where}: nothing arrived in the time allowed.")
    if isinstance(error, httpx.ConnectError):
        if isinstance(_root(error), ssl.SSLError):
            return BackendRejected(f"{where}: the server's certificate is not accepted: {said}")
        return BackendUnavailable(f"{where}: cannot connect ({said}); is the server running at this address?")
    if isinstance(error, httpx.RemoteProtocolError) and "without sending a response" in said:
        return BackendUnavailable(f"{where}: the server closed the connection without an answer.")
    if isinstance(error, httpx.DecodingError | httpx.RemoteProtocolError):
        return BackendBroken(f"{where}: the answer broke off or is not HTTP ({said}).")
    if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol | UnicodeError):
        return BackendRejected(f"{where}: the address or a credential cannot be sent ({type(error).__name__}).")
    return BackendUnavailable(f"{where}: the connection failed ({said}).")


def _root(error: BaseException) -> BaseException:
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return error
