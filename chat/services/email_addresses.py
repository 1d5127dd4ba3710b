"""E-mail addresses of people: the one beside the person, and whether somebody proved that it is theirs."""

from __future__ import annotations

from allauth.account.models import EmailAddress, EmailConfirmationHMAC
from django.conf import settings
from django.db import transaction
from django.urls import reverse

from chat.models import Person
from ops.services.audit import record


def email_follow(*, person: Person, verified: bool) -> EmailAddress | None:
    """Make the list of proven addresses follow ``person.email``. ``verified``: an operator vouches for it.

    An address that somebody else proved stays theirs: this one is then kept unproven.
    """
    address = person.email.strip().lower()
    with transaction.atomic():
        EmailAddress.objects.filter(user=person).exclude(email=address).delete()
        if not address:
            return None
        taken = EmailAddress.objects.filter(email=address, verified=True).exclude(user=person).exists()
        row, _ = EmailAddress.objects.get_or_create(user=person, email=address, defaults={"primary": True})
        row.primary, row.verified = True, row.verified or (verified and not taken)
        row.save(update_fields=["primary", "verified"])
    return row


def email_confirm(*, person: Person, email: str, actor: str) -> bool:
    """An operator vouches that an address is a person's. False: somebody else proved it, or the person does not have it."""
    address = email.strip().lower()
    with transaction.atomic():
        row = EmailAddress.objects.filter(user=person, email=address).first()
        if row is None or not row.can_set_verified():
            return False
        EmailAddress.objects.filter(user=person).exclude(pk=row.pk).delete()
        row.verified = row.primary = True
        row.save(update_fields=["verified", "primary"])
        if person.email != address:
            person.email = address
            person.save(update_fields=["email"])
        record(actor=actor, action="person.email_confirmed", target=person, after={"email": address})
    return True


def confirmation_link(address: EmailAddress) -> str:
    """The link by which somebody proves that an address is theirs: counts three days, and until it was used."""
    key: str = EmailConfirmationHMAC.create(address).key
    return settings.PUBLIC_URL + reverse("account_confirm_email", args=[key])


def open_confirmations(person: Person) -> list[tuple[str, str]]:
    """(address, link) of every address that a person has not proven yet: for operators where no mail server is set."""
    return [
        (row.email, confirmation_link(row))
        for row in EmailAddress.objects.filter(user=person, verified=False).order_by("pk")
    ]
