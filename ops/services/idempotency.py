"""Lets a client send the same write twice: the second time gets the first one's answer.

The rules of draft-ietf-httpapi-idempotency-key-header: the same key with another body is 422, a key whose request is still being
answered is 409. Use: ``begin`` before the work, ``finish`` with the answer, ``abandon`` when there is none.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from ops.models import IdempotencyRecord

# A request that has not ended after this time died with its process; its key may be used again.
IN_FLIGHT_LIMIT = timedelta(minutes=5)
KEPT_FOR = timedelta(hours=24)
LONGEST_KEY = 200


class IdempotencyError(Exception):
    """The key cannot be used now. ``status`` is the HTTP status that says so."""

    status = 400


class KeyInvalid(IdempotencyError):
    """The key is empty or too long."""


class KeyInFlight(IdempotencyError):
    """The first request with this key is still being answered."""

    status = 409


class KeyReused(IdempotencyError):
    """The key was used for a request with another body."""

    status = 422


@dataclass(frozen=True, slots=True)
class Replay:
    """The answer that the first request got: HTTP status and JSON body."""

    status: int
    response: Any


def begin(*, key: str, principal: str, method: str, path: str, body: bytes) -> IdempotencyRecord | Replay:
    """A record to ``finish`` when the request is new, or the answer to send again.

    Raises ``KeyInFlight`` (409), ``KeyReused`` (422) or ``KeyInvalid`` (400). Commits on its own: call it outside of the transaction
    that does the work.
    """
    if not key or len(key) > LONGEST_KEY:
        raise KeyInvalid(f"Idempotency-Key has 1 to {LONGEST_KEY} characters.")
    now = timezone.now()
    identity = {"key": key, "principal": principal[:255], "method": method, "path": path[:500]}
    body_hash = hashlib.sha256(body).hexdigest()
    IdempotencyRecord.objects.filter(**identity, created_at__lt=now - KEPT_FOR).delete()
    try:
        with transaction.atomic():
            return IdempotencyRecord.objects.create(**identity, body_hash=body_hash, created_at=now)
    except IntegrityError:
        known = IdempotencyRecord.objects.filter(**identity).first()
    if known is None:
        raise KeyInFlight(
            "The first request with this Idempotency-Key has just ended without an answer. Send it again."
        )
    if known.body_hash != body_hash:
        raise KeyReused("This Idempotency-Key was used for another request body. Use a new key.")
    if known.status is not None:
        return Replay(known.status, known.response if known.response is not None else dict(known.sealed) or None)
    taken = IdempotencyRecord.objects.filter(
        pk=known.pk, status=None, created_at=known.created_at, created_at__lt=now - IN_FLIGHT_LIMIT
    ).update(created_at=now)
    if not taken:
        raise KeyInFlight("The first request with this Idempotency-Key is still being answered. Ask again later.")
    known.created_at = now
    return known


def finish(record: IdempotencyRecord, *, status: int, response: Any, secret: bool = False) -> None:
    """Keep the answer, encrypted when it is ``secret``. One of 500 or more is not kept: the client should be able to try again."""
    if status >= 500:
        abandon(record)
        return
    # ``created_at`` fences: a request that was taken for dead does not overwrite the answer of its successor.
    IdempotencyRecord.objects.filter(pk=record.pk, created_at=record.created_at).update(
        status=status, response=None if secret else response, sealed=response if secret else {}
    )


def abandon(record: IdempotencyRecord) -> None:
    """Forget a request that got no answer."""
    IdempotencyRecord.objects.filter(pk=record.pk, created_at=record.created_at, status=None).delete()


def prune() -> int:
    """Delete records past their time; returns how many."""
    return IdempotencyRecord.objects.filter(created_at__lt=timezone.now() - KEPT_FOR).delete()[0]
