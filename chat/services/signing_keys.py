"""The keys that sign access tokens: made when the first is needed, kept in the database, rotated without signing anybody out."""

from __future__ import annotations

import secrets

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from chat.access.signing import LEEWAY, forget_keys, lifetime
from chat.models import SigningKey
from ops.locks import named_lock
from ops.services.audit import record
from ops.words import counted

_LOCK = "signing_keys"


def signing_keys() -> QuerySet[SigningKey]:
    """The keys that count for checking, newest first."""
    return SigningKey.objects.filter(Q(retired_at=None) | Q(retired_at__gt=timezone.now())).order_by("-id")


def signing_key() -> SigningKey:
    """The key that signs now; made, once in the whole installation, when there is none. Call it outside of transactions."""
    key = SigningKey.objects.filter(retired_at=None).order_by("-id").first()
    if key is not None:
        return key
    with named_lock(_LOCK, ttl=30, wait=20):
        key = SigningKey.objects.filter(retired_at=None).order_by("-id").first()
        if key is None:
            with transaction.atomic():
                key = _make()
                record(actor="system", action="signing_key.created", target=key, message="The first one.")
    return key


def signing_key_rotate(*, actor: str, at_once: bool = False) -> SigningKey:
    """A new key signs from now on. Older ones count until the tokens that they signed have expired; ``at_once``: not any more.

    ``at_once`` is for a key that became known to somebody: programs then fetch new access tokens with their refresh tokens.
    """
    now = timezone.now()
    with named_lock(_LOCK, ttl=30, wait=20), transaction.atomic():
        older = SigningKey.objects.filter(Q(retired_at=None) | Q(retired_at__gt=now))
        if not at_once:
            older = older.filter(retired_at=None)
        retired = older.update(retired_at=now if at_once else now + lifetime() + LEEWAY)
        key = _make()
        record(
            actor=actor,
            action="signing_key.rotated",
            target=key,
            message=f"{counted(retired, 'older key')} {'ended at once' if at_once else 'counts until its tokens expire'}.",
        )
        transaction.on_commit(forget_keys)
    return key


def _make() -> SigningKey:
    return SigningKey.objects.create(kid=secrets.token_hex(8), secret=secrets.token_urlsafe(48))
