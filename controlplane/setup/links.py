"""Makes, finds and uses up set-up links."""

from __future__ import annotations

import hmac
import secrets
from datetime import timedelta

from django.db.models import QuerySet
from django.urls import reverse
from django.utils import timezone
from django.utils.crypto import salted_hmac

from chat.models import Person
from controlplane.models import SetupLink
from ops.services import audit

LIFETIME = timedelta(hours=24)
# A link about to expire is of no use to somebody who has just been shown it.
_WORTH_SHOWING = timedelta(hours=1)


def operator_exists() -> bool:
    """Whether somebody can sign in and operate."""
    return Person.objects.filter(is_staff=True, is_superuser=True, is_active=True).exists()


def setup_token(*, person: Person | None, actor: str, fresh: bool = False) -> str:
    """The secret part of the link for the first operator (``person`` None) or for a person.

    One that is still good for an hour is given again and nothing is written, unless ``fresh``; else a new one is made, and
    those that were made before for the same purpose stop working.
    """
    now = timezone.now()
    still_open = _open_links().filter(person=person)
    known = still_open.filter(expires_at__gt=now + _WORTH_SHOWING).first()
    if known is not None and not fresh:
        return _token(known.nonce)
    still_open.update(expires_at=now)
    link = SetupLink.objects.create(nonce=secrets.token_hex(16), person=person, expires_at=now + LIFETIME)
    audit.record(actor=actor, action="setup_link.created", target=person or link)
    return _token(link.nonce)


def setup_url(base: str, token: str) -> str:
    """The whole link below the address ``base``."""
    return base.rstrip("/") + reverse("setup", args=[token])


def find_link(token: str) -> SetupLink | None:
    """The link that this token opens: known, unused, not expired, and still of use."""
    for link in _open_links().select_related("person"):
        if hmac.compare_digest(_token(link.nonce).encode(), token.encode()):
            return link if link.person is not None or not operator_exists() else None
    return None


def use_up(link: SetupLink) -> bool:
    """Mark the link as used; False when another request was faster. Inside the transaction that does what it is for."""
    return (
        SetupLink.objects.filter(pk=link.pk, used_at=None, expires_at__gt=timezone.now()).update(used_at=timezone.now())
        == 1
    )


def _open_links() -> QuerySet[SetupLink]:
    return SetupLink.objects.filter(used_at=None, expires_at__gt=timezone.now())


def _token(nonce: str) -> str:
    return salted_hmac("switchboard.setup-link", nonce, algorithm="sha256").hexdigest()[:43]
