"""Who opens a socket: a ticket or a token in the address, the browser's session with a checked origin, or a first frame.

Nothing of what is read here is ever logged: only what became of it.
"""

from __future__ import annotations

from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

from django.conf import settings
from django.http.request import split_domain_port, validate_host

from chat.access.identity import Identity, identity_of_session_key
from chat.access.programs import identity_of_bearer
from chat.access.tickets import ticket_redeem
from chat.socket.protocol import Close, Refused
from ops.origins import is_allowed, note_refused

_BAD_TICKET = "The ticket is unknown, used or older than 30 seconds. Ask for another one."
_BAD_TOKEN = "The token is wrong, expired or revoked. Sign in again."  # noqa: S105 - a sentence
_ENDED = "The session has ended. Sign in again."


def identity_of_scope(scope: dict[str, Any]) -> Identity | None:
    """The identity that the handshake brought; ``None`` when it brought nothing and a first frame has to. Raises ``Refused``.

    Asks the database.
    """
    query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
    if "ticket" in query:
        return of_ticket(query["ticket"][0])
    if "token" in query:
        return of_token(query["token"][0])
    headers = dict(scope["headers"])
    key = _session_key(headers.get(b"cookie", b"").decode("latin-1"))
    if not key:
        return None
    origin = headers.get(b"origin", b"").decode("latin-1")
    if not _origin_is_ours(origin, scope, headers):
        note_refused(origin, place=scope["path"])
        raise Refused(Close.NOT_ALLOWED, "Pages of this address may not open a socket here (ALLOWED_ORIGINS).")
    identity = identity_of_session_key(key)
    if identity is None:
        raise Refused(Close.NOT_SIGNED_IN, _ENDED)
    return identity


def identity_of_hello(frame: dict[str, Any]) -> Identity:
    """The identity that a first frame brings. Raises ``Refused``. Asks the database."""
    if frame.get("ticket"):
        return of_ticket(frame["ticket"])
    if frame.get("token"):
        return of_token(frame["token"])
    raise Refused(
        Close.NOT_SIGNED_IN, "Sign in first, then open the socket with a ticket, a token or the session's cookie."
    )


def of_ticket(text: str) -> Identity:
    """Raises ``Refused``."""
    identity = ticket_redeem(text)
    if identity is None:
        raise Refused(Close.NOT_SIGNED_IN, _BAD_TICKET)
    return identity


def of_token(text: str) -> Identity:
    """Raises ``Refused``."""
    identity = identity_of_bearer(text)
    if identity is None:
        raise Refused(Close.NOT_SIGNED_IN, _BAD_TOKEN)
    return identity


def _session_key(cookies: str) -> str:
    try:
        found = SimpleCookie(cookies).get(settings.SESSION_COOKIE_NAME)
    except CookieError:
        return ""
    return found.value if found is not None else ""


def _origin_is_ours(origin: str, scope: dict[str, Any], headers: dict[bytes, bytes]) -> bool:
    """Browsers send the session's cookie whatever page opens the socket, so the page's origin has to be ours or an allowed one."""
    name = b"x-forwarded-host" if settings.USE_X_FORWARDED_HOST and b"x-forwarded-host" in headers else b"host"
    host = headers.get(name, b"").decode("latin-1").split(",")[0].strip()
    domain, _ = split_domain_port(host)
    secure = scope.get("scheme") == "wss"
    if settings.SECURE_PROXY_SSL_HEADER is not None:
        secure = secure or headers.get(b"x-forwarded-proto", b"").split(b",")[0].strip() == b"https"
    known = host if domain and validate_host(domain, settings.ALLOWED_HOSTS) else ""
    return is_allowed(origin, host=known, secure=secure)
