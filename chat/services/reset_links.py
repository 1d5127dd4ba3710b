"""Links by which somebody sets a new password: by mail, or shown to an operator where no mail server is set."""

from __future__ import annotations

from allauth.account.app_settings import PASSWORD_RESET_TOKEN_GENERATOR
from allauth.account.utils import user_pk_to_url_str
from django.conf import settings
from django.urls import reverse

from chat.models import Person
from ops.services.audit import record


def link_for(person: Person) -> str:
    """The link itself: counts once, for a day, and only until the person signs in or has another password or e-mail."""
    token = PASSWORD_RESET_TOKEN_GENERATOR().make_token(person)
    address = reverse("account_reset_password_from_key", kwargs={"uidb36": user_pk_to_url_str(person), "key": token})
    return f"{settings.PUBLIC_URL}{address}"


def reset_link(*, person: Person, actor: str) -> str:
    """A link for an operator to hand over; that one was made is in the audit log, the link is not."""
    link = link_for(person)
    record(actor=actor, action="person.reset_link", target=person)
    return link
