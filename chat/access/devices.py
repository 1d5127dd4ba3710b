"""Browsers that know somebody: a signed cookie left by a sign-in that succeeded.

Other people's guesses at an account lock strangers out, not the browser in which its person signed in before: that one has a limit of
its own. The cookie opens nothing by itself. (OWASP: "Device cookies" against the locking out of accounts.)
"""

from __future__ import annotations

import secrets
from typing import Any

from django.conf import settings
from django.core import signing
from django.http import HttpRequest, HttpResponseBase

from chat.models import Person

COOKIE = "switchboard_browser"
_SALT = "switchboard.browser"
_MAX_AGE = 365 * 24 * 3600
_MOST = 5


def _read(request: HttpRequest) -> tuple[str, list[int]]:
    given = request.COOKIES.get(COOKIE, "")
    try:
        data: Any = signing.loads(given, salt=_SALT, max_age=_MAX_AGE) if given else {}
        return str(data["id"]), [int(pk) for pk in data["people"]]
    except (signing.BadSignature, KeyError, TypeError, ValueError):
        return "", []


def is_marked(request: HttpRequest) -> bool:
    """Whether anybody signed in here before: worth asking whose account it is about."""
    return bool(_read(request)[0])


def known_device(request: HttpRequest, person: Person | None) -> str:
    """The id of this browser when the person signed in here before, else ""."""
    device, people = _read(request)
    return device if person is not None and person.pk in people else ""


def remember(request: HttpRequest, response: HttpResponseBase, person: Person) -> None:
    """Leave the cookie: this browser knows the person from now on."""
    device, people = _read(request)
    people = [person.pk, *(pk for pk in people if pk != person.pk)][:_MOST]
    value = signing.dumps({"id": device or secrets.token_hex(12), "people": people}, salt=_SALT)
    response.set_cookie(
        COOKIE, value, max_age=_MAX_AGE, httponly=True, samesite="Lax", secure=bool(settings.SESSION_COOKIE_SECURE)
    )
