"""What programs are answered that sign in: Portagent's shapes, in which its clients can be pointed here unchanged."""

from __future__ import annotations

import json
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from chat.models import Person
from chat.services.program_logins import Tokens
from ops.api.answers import answer

_LARGEST = 64 * 1024
_LONGEST = 4096


class Refused(Exception):
    """An answer ``{"error": …}``. ``more`` stands beside it."""

    def __init__(self, status: int, error: str, **more: Any) -> None:
        super().__init__(error)
        self.status, self.error, self.more = status, error, more
        self.headers: dict[str, str] = {}


def refusal(error: Refused) -> HttpResponse:
    """The answer. ``own_shape``: it is not turned into a problem as other errors below /api/ are."""
    response = answer({"error": error.error, **error.more}, status=error.status)
    response.own_shape = True  # type: ignore[attr-defined]
    for name, value in error.headers.items():
        response.headers[name] = value
    return kept_nowhere(response)


def kept_nowhere(response: HttpResponse) -> HttpResponse:
    """Tokens and what they open belong in no cache."""
    response.headers["Cache-Control"] = "no-store"
    return response


def body_of(request: HttpRequest) -> dict[str, Any]:
    """The JSON object that was sent; {} for an empty body. Raises ``Refused``."""
    if int(request.headers.get("Content-Length") or 0) > _LARGEST:
        raise Refused(413, "The request is too large")
    if not request.body:
        return {}
    try:
        body = json.loads(request.body)
    except (ValueError, RecursionError):
        raise Refused(400, "The body must be JSON") from None
    if not isinstance(body, dict):
        raise Refused(400, "The body must be a JSON object")
    return body


def text_of(body: dict[str, Any], name: str, *, needed: bool = False) -> str:
    """A text field; "" when it is missing or null and not ``needed``. Raises ``Refused``."""
    value = body.get(name)
    if value is None or value == "":
        if needed:
            raise Refused(400, f"{name} is required")
        return ""
    if not isinstance(value, str) or len(value) > _LONGEST or "\x00" in value:
        raise Refused(400, f"{name} must be a text of at most {_LONGEST} characters")
    return value


def user_json(person: Person) -> dict[str, Any]:
    """``{userId, username, email, containerId, displayName, avatar, createdAt}``; ``createdAt`` is in milliseconds."""
    avatar = person.preferences.get("avatar") if isinstance(person.preferences, dict) else None
    return {
        "userId": str(person.pk),
        "username": person.get_username(),
        "email": person.email or None,
        "containerId": f"user-{person.pk}",
        "displayName": person.display_name or None,
        "avatar": avatar if isinstance(avatar, str) and avatar else None,
        "createdAt": int(person.date_joined.timestamp() * 1000),
    }


def tokens_json(tokens: Tokens) -> dict[str, Any]:
    """``{token, user, expiresIn, refreshToken, refreshExpiresIn}``; times as Portagent wrote them (``15m``, ``30d``)."""
    return {
        "token": tokens.access,
        "user": user_json(tokens.login.person),
        "expiresIn": f"{settings.ACCESS_TOKEN_MINUTES}m",
        "refreshToken": tokens.refresh,
        "refreshExpiresIn": f"{settings.REFRESH_TOKEN_DAYS}d",
    }


def bearer_of(request: HttpRequest) -> str:
    """What stands behind ``Authorization: Bearer``; "" when nothing does."""
    kind, _, value = request.headers.get("Authorization", "").partition(" ")
    return value.strip() if kind.lower() == "bearer" else ""
