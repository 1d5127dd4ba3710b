"""What can go wrong between us and a homeserver, as exceptions that say what to do.

Every failure of :mod:`agents.matrix.client` is a :class:`MatrixError`; the class says what kind it is, ``retryable`` whether the
same call may succeed later, ``sentence`` what an operator should read. Error codes are those of the Matrix specification
(client-server API, "Standard error response").
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar

_MAX_MESSAGE = 300
_MAX_RETRY_AFTER = 3600.0
_SHORTEST_SECRET = 6


class MatrixError(Exception):
    """A request to a homeserver failed.

    ``errcode`` is Matrix's code (``M_…``) or ``""`` when there was none, ``status`` the HTTP status or 0 when there was no answer,
    ``message`` the server's own words (shortened), ``retry_after`` seconds or ``None``, ``where`` the homeserver's address.
    """

    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        errcode: str = "",
        status: int = 0,
        retry_after: float | None = None,
        where: str = "",
        action: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.errcode = errcode
        self.status = status
        self.retry_after = retry_after
        self.where = where
        self.action = action

    def __str__(self) -> str:
        code = self.errcode or (f"HTTP {self.status}" if self.status else type(self).__name__)
        doing = f" while we tried to {self.action}" if self.action else ""
        return f"{code}: {self.message}{doing}"

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.message, self._facts()))

    def _facts(self) -> dict[str, Any]:
        return {
            "errcode": self.errcode,
            "status": self.status,
            "retry_after": self.retry_after,
            "where": self.where,
            "action": self.action,
        }

    @property
    def code(self) -> str:
        """The Matrix code, or ``HTTP 502``, or ``no answer``: what stands in brackets in a sentence."""
        return self.errcode or (f"HTTP {self.status}" if self.status else "no answer")

    @property
    def general(self) -> bool:
        """Whether it is about the homeserver or our token, and not about what was asked: whoever goes on to the next account, room or
        person must not take it for their fault, but stop.
        """
        return self.retryable or isinstance(self, TokenRefused)

    @property
    def _server(self) -> str:
        return f"The homeserver at {self.where}" if self.where else "The homeserver"

    @property
    def _doing(self) -> str:
        return f" when we tried to {self.action}" if self.action else ""

    @property
    def sentence(self) -> str:
        """What happened, what it means and what to do, for an operator."""
        return f"{self._server} answered with an error{self._doing} ({self.code}): {_full_stop(self.message)}"


class HomeserverUnreachable(MatrixError):
    """No usable answer: refused, timed out, reset, 5xx, or something that is no homeserver. Worth trying again."""

    retryable = True

    @property
    def sentence(self) -> str:
        return (
            f"{self._server} does not answer ({self.code}): {_full_stop(self.message)} Agents cannot speak until it does; "
            "what they say is kept and sent then. Start the homeserver, or correct the address of its service."
        )


class RateLimited(MatrixError):
    """Too many requests (429 or ``M_LIMIT_EXCEEDED``); ``retry_after`` says how long to wait, in seconds."""

    retryable = True

    @property
    def sentence(self) -> str:
        wait = f" for {self.retry_after:.0f} s" if self.retry_after else ""
        return (
            f"{self._server} asks us to wait{wait} ({self.code}). Nothing is lost; it is tried again by itself. "
            "If this lasts, lift the limits for our accounts there (for an appservice: rate_limited: false in its registration)."
        )


class Refused(MatrixError):
    """The homeserver understood and said no (4xx). The same request will be refused again."""

    @property
    def sentence(self) -> str:
        return f"{self._server} refused the request{self._doing} ({self.code}): {_full_stop(self.message)}"


class NotFound(Refused):
    """``M_NOT_FOUND``: the homeserver knows the question, and the thing does not exist."""

    @property
    def sentence(self) -> str:
        return f"{self._server} does not know what we asked for{self._doing} ({self.code}): {_full_stop(self.message)}"


class TokenRefused(Refused):
    """``M_UNKNOWN_TOKEN`` or ``M_MISSING_TOKEN``: our token is not, or no longer, valid."""

    @property
    def sentence(self) -> str:
        return (
            f"{self._server} refused our token ({self.code}). Agents cannot speak. "
            "Register the appservice again, or paste the new token."
        )


class SessionRefused(MatrixError):
    """One account's own session does not work, and could not be renewed for now. It concerns this account only.

    ``message`` says why in a sentence; ``retry_after`` when the next attempt is allowed.
    """

    retryable = True

    @property
    def code(self) -> str:
        return self.errcode or "session.refused"

    @property
    def sentence(self) -> str:
        return _full_stop(self.message)


class Taken(Refused):
    """``M_USER_IN_USE`` or ``M_ROOM_IN_USE``: the name exists already. The caller adopts it."""

    @property
    def sentence(self) -> str:
        return (
            f"{self._server} says that the name is taken ({self.code}): {_full_stop(self.message)} It can be adopted."
        )


class Forbidden(Refused):
    """``M_FORBIDDEN``: the account may not do this, is not in the room, or was never registered."""

    @property
    def sentence(self) -> str:
        if "not registered this user" in self.message:
            return (
                f"{self._server} does not know the account yet ({self.code}): {_full_stop(self.message)} "
                "Sync the agent to register it."
            )
        if "masquerade" in self.message:
            return (
                f"{self._server} does not let us speak as this account ({self.code}): it lies outside the appservice's "
                "user namespace. Correct the prefix in the registration and register the appservice again."
            )
        return (
            f"{self._server} forbids this{self._doing} ({self.code}): {_full_stop(self.message)} "
            "Check that the account is in the room and has the power level."
        )


class Exclusive(Refused):
    """``M_EXCLUSIVE``: the name lies in, or outside, somebody's exclusive namespace."""

    @property
    def sentence(self) -> str:
        return (
            f"{self._server} reserves this name ({self.code}): {_full_stop(self.message)} "
            "Compare the prefix of our accounts with the namespaces in the registration, and look for another appservice on it."
        )


_BY_CODE: dict[str, type[MatrixError]] = {
    "M_LIMIT_EXCEEDED": RateLimited,
    "M_UNKNOWN_TOKEN": TokenRefused,
    "M_MISSING_TOKEN": TokenRefused,
    "M_NOT_FOUND": NotFound,
    "M_USER_IN_USE": Taken,
    "M_ROOM_IN_USE": Taken,
    "M_FORBIDDEN": Forbidden,
    "M_EXCLUSIVE": Exclusive,
}


def from_response(
    status: int,
    body: bytes,
    headers: Mapping[str, str] | None = None,
    *,
    where: str = "",
    action: str = "",
    secret: str = "",
) -> MatrixError:
    """Build the error for an answer that is not a success.

    ``body`` may be anything at all (an HTML page of a proxy, half a JSON, nothing). A 404 counts as :class:`NotFound` only when
    the homeserver itself says ``M_NOT_FOUND``: a proxy's page must not make us believe that a room is gone. ``secret`` is
    taken out of the server's words should it ever repeat it.
    """
    data = _json_object(body)
    errcode = data.get("errcode")
    errcode = errcode[:100] if isinstance(errcode, str) else ""
    message = data.get("error")
    if not isinstance(message, str) or not message.strip():
        message = _describe(status, body)
    message, errcode = without_secret(message, secret), without_secret(errcode, secret)
    message = " ".join(message.split())[:_MAX_MESSAGE]
    if status >= 500:
        kind: type[MatrixError] = HomeserverUnreachable
    elif status == 429:
        kind = RateLimited
    elif errcode in _BY_CODE:
        kind = _BY_CODE[errcode]
    elif status == 409:
        kind = Taken  # an alias that exists is 409 with M_UNKNOWN
    elif status == 401:
        kind = TokenRefused
    else:
        kind = Refused
    retry_after = _retry_after(data, headers or {}) if kind is RateLimited or status >= 500 else None
    return kind(message, errcode=errcode, status=status, retry_after=retry_after, where=where, action=action)


def without_secret(text: str, secret: str) -> str:
    """``text`` with the secret taken out. A secret of a few characters is left: it would only garble ordinary words."""
    return text.replace(secret, "[token]") if len(secret) >= _SHORTEST_SECRET else text


def _rebuild(kind: type[MatrixError], message: str, facts: dict[str, Any]) -> MatrixError:
    return kind(message, **facts)


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def _describe(status: int, body: bytes) -> str:
    if 300 <= status < 400:
        return "it redirects elsewhere; the service's address should be the homeserver itself"
    if not body.strip():
        return "it gave no reason"
    return "its answer is not a Matrix error; perhaps a proxy answered in its place"


def _retry_after(data: Mapping[str, Any], headers: Mapping[str, str]) -> float | None:
    millis = data.get("retry_after_ms")
    if isinstance(millis, (int, float)) and not isinstance(millis, bool) and millis >= 0 and math.isfinite(millis):
        return min(millis / 1000, _MAX_RETRY_AFTER)
    value = headers.get("retry-after") or headers.get("Retry-After")
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            when = parsedate_to_datetime(value)
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
        if when.tzinfo is None:
            when = when.replace(tzinfo=UTC)
        seconds = (when - datetime.now(UTC)).total_seconds()
    return min(max(seconds, 0.0), _MAX_RETRY_AFTER) if math.isfinite(seconds) else None


def account_is_missing(error: MatrixError) -> bool:
    """Whether a refusal means that there is no such account. Synapse and Tuwunel say it in words only, under ``M_FORBIDDEN``."""
    words = error.message.lower()
    told = "not registered this user" in words or "does not exist" in words
    return isinstance(error, NotFound) or (isinstance(error, Forbidden) and told)


def _full_stop(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", "!", "?")) else f"{text}."
