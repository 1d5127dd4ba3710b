"""Who a bearer token stands for: an access token of a program's sign-in, or a personal token."""

from __future__ import annotations

import time
from threading import Lock
from uuid import UUID

from chat.access.identity import Identity, still_valid
from chat.access.signing import read_access_token
from chat.models import Person
from ops.models import TokenScope
from ops.services.tokens import token_authenticate

# A sign-in that was ended in another process still counts for as long in this one.
CACHE_SECONDS = 1.0
_MOST = 10_000


def identity_of_bearer(text: str) -> Identity | None:
    """The identity of ``Authorization: Bearer <text>``; ``None`` for every kind of wrong, expired or ended token."""
    text = text.strip()
    if text.startswith("swb_"):
        return _of_personal_token(text)
    claims = read_access_token(text)
    if claims is None:
        return None
    known = _recent.get(claims.login_id)
    if known is not None:
        return known if (known.person_id, known.epoch) == (claims.person_id, claims.epoch) else None
    name = Person.objects.filter(pk=claims.person_id).values_list("username", flat=True).first()
    if name is None:
        return None
    identity = Identity(claims.person_id, name, claims.epoch, login_id=claims.login_id)
    if not still_valid([identity]):
        return None
    _recent.put(claims.login_id, identity)
    return identity


def _of_personal_token(text: str) -> Identity | None:
    token = token_authenticate(text)
    if token is None or token.scope != TokenScope.CHAT:
        return None
    owner: Person = token.owner
    return Identity(owner.pk, owner.get_username(), owner.access_epoch, token_id=token.pk)


class _Recent:
    """Identities that were valid a moment ago, by their sign-in."""

    def __init__(self) -> None:
        self._known: dict[UUID, tuple[Identity, float]] = {}
        self._lock = Lock()

    def get(self, login_id: UUID) -> Identity | None:
        known = self._known.get(login_id)
        return known[0] if known is not None and time.monotonic() - known[1] < CACHE_SECONDS else None

    def put(self, login_id: UUID, identity: Identity) -> None:
        with self._lock:
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[login_id] = (identity, time.monotonic())

    def forget(self, login_id: UUID) -> None:
        with self._lock:
            self._known.pop(login_id, None)


_recent = _Recent()


def forget_login(login_id: UUID) -> None:
    """Ask the database about this sign-in at its next use: it has ended."""
    _recent.forget(login_id)
