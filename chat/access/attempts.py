"""Notes who tried to get in, with the true outcome; the client is told less."""

from __future__ import annotations

import hashlib

from django.core.cache import cache
from django.http import HttpRequest

from chat.access.client import address_of, user_agent_of
from chat.models import AccessAttempt, AttemptKind, Invite, Person

# A refusal by a limit is noted once in this time for each address: whoever knocks a hundred thousand times leaves no such heap of rows.
_QUIET_SECONDS = 60
LIMITED = "limited"


def note(
    kind: AttemptKind | str,
    outcome: str,
    *,
    name: str = "",
    person: Person | None = None,
    invite: Invite | None = None,
    request: HttpRequest | None = None,
) -> None:
    """Keep one attempt. ``outcome`` is "ok" or a stable word (see ``AccessAttempt``); ``name`` is what was typed, never a password."""
    address = address_of(request) if request is not None else ""
    if outcome == LIMITED and not _first(str(kind), address):
        return
    AccessAttempt.objects.create(
        kind=kind,
        outcome=outcome[:30],
        name=name.replace("\x00", "\N{REPLACEMENT CHARACTER}")[:255],
        person=person,
        invite=invite,
        address=address or None,
        user_agent=user_agent_of(request) if request is not None else "",
    )


def _first(kind: str, address: str) -> bool:
    digest = hashlib.sha256(address.encode()).hexdigest()[:16]
    return cache.add(f"attempt:limited:{kind}:{digest}", 1, timeout=_QUIET_SECONDS)
