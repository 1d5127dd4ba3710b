"""Sends the link for a new password by mail. Tasks carry the id of the note of the attempt; whose it is, the worker finds out."""

from __future__ import annotations

from datetime import timedelta

from allauth.account.models import EmailAddress
from django.conf import settings
from django.core.mail import EmailMessage
from django.db import transaction
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils import timezone, translation
from django.utils.translation import gettext as _

from chat.access.client import address_of, user_agent_of
from chat.access.passwords import find_person
from chat.models import AccessAttempt, AttemptKind, Person
from chat.services.reset_links import link_for
from chat.wakeup import wake_reset_mail
from ops.logs import get_logger

log = get_logger(__name__)
ASKED = "asked"
_SENDING = "sending"
_TRIED_FOR = timedelta(hours=1)
# For so long the worker that was woken has it for itself.
_LEFT_ALONE = timedelta(seconds=10)


def reset_asked(*, login: str, request: HttpRequest) -> None:
    """Note that somebody asked for a new password, and have a worker see to it. Nobody is searched here."""
    with transaction.atomic():
        attempt = AccessAttempt.objects.create(
            kind=AttemptKind.RESET,
            outcome=ASKED,
            name=login.replace("\x00", "")[:255],
            address=address_of(request) or None,
            user_agent=user_agent_of(request),
        )
        transaction.on_commit(lambda: wake_reset_mail(attempt.pk))


def reset_mail_send(attempt_id: int) -> str:
    """See to one request; returns its true outcome, which the note then bears: ``ok`` (the mail is out), ``no_mail`` (no server is set:
    operators hand the link over), ``no_address``, ``unknown``, ``inactive``; "" when another worker sees to it, ``asked`` when the
    server failed: it is tried again for an hour.
    """
    rows = AccessAttempt.objects.filter(pk=attempt_id, kind=AttemptKind.RESET)
    if not rows.filter(outcome=ASKED).update(outcome=_SENDING):
        return ""
    person = find_person(rows.values_list("name", flat=True).get())
    outcome = ASKED
    try:
        outcome = _send(person)
    except OSError as error:  # smtplib's errors are among them
        log.warning("mail.not_sent", error=type(error).__name__, mail="password_reset")
    finally:
        rows.update(outcome=outcome, person=person)
    return outcome


def reset_mails_send() -> int:
    """See to requests whose worker was not woken, or whose mail did not go out; returns how many."""
    now = timezone.now()
    waiting = AccessAttempt.objects.filter(
        kind=AttemptKind.RESET, outcome=ASKED, at__gt=now - _TRIED_FOR, at__lt=now - _LEFT_ALONE
    )
    ids = list(waiting.order_by("at").values_list("pk", flat=True)[:200])
    for pk in ids:
        reset_mail_send(pk)
    return len(ids)


def _send(person: Person | None) -> str:
    if person is None:
        return "unknown"
    if not person.is_active:
        return "inactive"
    if not settings.MAIL:
        return "no_mail"
    address = EmailAddress.objects.filter(user=person).order_by("-verified", "-primary").first()
    if address is None:
        return "no_address"
    with translation.override(person.language or settings.LANGUAGE_CODE):
        text = render_to_string(
            "account/email/password_reset_key_message.txt", {"person": person, "link": link_for(person)}
        )
        EmailMessage(_("A new password for Switchboard"), text, to=[address.email]).send()
    return "ok"
