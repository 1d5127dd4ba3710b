"""One-use tickets that open a socket: 30 seconds, stored hashed, worth as much as what proved the person."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta

from django.utils import timezone

from chat.access.identity import Identity, identity_of_session_key, still_valid
from chat.models import Person, SocketTicket

LIFETIME = timedelta(seconds=30)
# Used and expired ones are kept so long, for whoever wonders about a refused one.
KEPT = timedelta(hours=1)


def ticket_issue(*, identity: Identity, actor: str) -> str:
    """A ticket for whoever asks, to be redeemed within ``LIFETIME``. Ending what proved the person ends what it opened.

    Not in the audit log, as little as the requests of a signed-in browser are: it gives no right that the identity has not got.
    """
    text = secrets.token_urlsafe(24)
    SocketTicket.objects.create(
        digest=_digest(text),
        person_id=identity.person_id,
        epoch=identity.epoch,
        session_key=identity.session_key,
        login_id=identity.login_id,
        token_id=identity.token_id,
        expires_at=timezone.now() + LIFETIME,
    )
    return text


def ticket_redeem(text: str) -> Identity | None:
    """The identity that a ticket stands for; ``None`` when it is unknown, used, expired or its ground has ended.

    One conditional UPDATE takes it: of two that come with the same ticket, one gets in.
    """
    if not text or len(text) > 100:
        return None
    now = timezone.now()
    tickets = SocketTicket.objects.filter(digest=_digest(text))
    if not tickets.filter(used_at=None, expires_at__gt=now).update(used_at=now):
        return None
    ticket = tickets.select_related("person").get()
    person: Person = ticket.person
    if ticket.session_key:
        found = identity_of_session_key(ticket.session_key)
        if found is None or found.person_id != person.pk or found.epoch != ticket.epoch:
            return None
        return found
    identity = Identity(
        person.pk, person.get_username(), ticket.epoch, login_id=ticket.login_id, token_id=ticket.token_id
    )
    return identity if still_valid([identity]) else None


def tickets_prune() -> int:
    """Forget old tickets. Returns how many."""
    return SocketTicket.objects.filter(expires_at__lt=timezone.now() - KEPT).delete()[0]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
