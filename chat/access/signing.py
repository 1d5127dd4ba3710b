"""Access tokens of programs: short-lived JWTs (HS256) that name their key, a person, a sign-in and the epoch of their access.

Claims: ``sub`` (the person's id as text), ``sid`` (the sign-in, ``ProgramLogin``), ``epoch``, ``jti``, ``iat``, ``exp``, ``iss``.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from datetime import timedelta
from threading import Lock
from typing import Any
from uuid import UUID

import jwt
from django.conf import settings
from django.utils import timezone

from chat.models import SigningKey

ALGORITHM = "HS256"
ISSUER = "switchboard"
# Clocks of several machines differ by this much at most.
LEEWAY = timedelta(seconds=10)
# A key that was retired by somebody else counts for as long here.
_KEYS_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class AccessClaims:
    """What a valid access token says. Whether the sign-in still counts is another question."""

    person_id: int
    login_id: UUID
    epoch: int


def lifetime() -> timedelta:
    """How long an access token counts."""
    return timedelta(minutes=settings.ACCESS_TOKEN_MINUTES)


def access_token(*, key: SigningKey, person_id: int, login_id: UUID, epoch: int) -> str:
    """A new access token, signed with ``key``."""
    now = int(time.time())
    claims = {
        "iss": ISSUER,
        "sub": str(person_id),
        "sid": str(login_id),
        "epoch": epoch,
        "jti": uuid.uuid4().hex,
        "iat": now,
        "exp": now + int(lifetime().total_seconds()),
    }
    return jwt.encode(claims, str.__str__(key.secret), algorithm=ALGORITHM, headers={"kid": key.kid})


def read_access_token(text: str) -> AccessClaims | None:
    """What the token says when its signature and times are right, ``None`` for everything else. Never raises."""
    if len(text) > 2048 or text.count(".") != 2:
        return None
    try:
        kid = jwt.get_unverified_header(text).get("kid")
        secret = _secrets.get(kid) if isinstance(kid, str) and len(kid) <= 32 else None
        if secret is None:
            return None
        claims: dict[str, Any] = jwt.decode(
            text,
            secret,
            algorithms=[ALGORITHM],
            issuer=ISSUER,
            leeway=LEEWAY,
            options={"require": ["exp", "iat", "sub", "sid", "epoch"]},
        )
        return AccessClaims(int(claims["sub"]), UUID(claims["sid"]), int(claims["epoch"]))
    except (jwt.InvalidTokenError, ValueError, TypeError, AttributeError):
        return None


class _Secrets:
    """The keys that count, by their ids; each is read again after a second."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, float]] = {}
        self._lock = Lock()

    def get(self, kid: str) -> str | None:
        known = self._known.get(kid)
        if known is not None and time.monotonic() - known[1] < _KEYS_SECONDS:
            return known[0]
        row = SigningKey.objects.filter(kid=kid).first()
        with self._lock:
            if row is None or (row.retired_at is not None and row.retired_at <= timezone.now()):
                self._known.pop(kid, None)
                return None
            if len(self._known) > 100:
                self._known.clear()
            secret = str.__str__(row.secret)
            self._known[kid] = (secret, time.monotonic())
            return secret

    def forget(self) -> None:
        with self._lock:
            self._known.clear()


_secrets = _Secrets()


def forget_keys() -> None:
    """Read the keys anew at the next token: after a rotation."""
    _secrets.forget()
