"""Joining the portal: a new person, by the registration mode that counts."""

from __future__ import annotations

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from chat.access import registration
from chat.access.names import clean_display_name, clean_email, clean_username
from chat.models import Invite, Person
from chat.services.email_addresses import email_follow
from chat.services.invites import InviteRefused, invite_check, invite_redeem
from ops.services.audit import record

LONGEST_PASSWORD = 1024


class JoinRefused(Exception):
    """Nobody may join like that. ``reason`` is the true one, for operators: ``closed``, ``no_code``, or one of ``invites.Reason``."""

    code = "join.refused"

    def __init__(self, reason: str, invite: Invite | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.invite = invite


def join_check(code: str) -> Invite | None:
    """Whether somebody with this code ("" for none) may join now; the invitation. Raises ``JoinRefused``. Changes nothing."""
    how = registration.mode()
    if how == "closed":
        raise JoinRefused("closed")
    if not code.strip():
        if how == "open":
            return None
        raise JoinRefused("no_code")
    invite, reason = invite_check(code)
    if reason != "ok":
        raise JoinRefused(reason, invite)
    return invite


def person_register(
    *, username: str, password: str, email: str = "", display_name: str = "", invite: str = "", actor: str = ""
) -> Person:
    """Make a person of somebody who joins, and use their invitation (``invite``: the code) up, both or neither.

    Raises ``JoinRefused``, and ``ValidationError`` with sentences by field (``username``, ``password``, ``email``, ``display_name``). The
    invitation is looked at first: who has none learns nothing about names. The e-mail address is not proven yet.
    """
    join_check(invite)
    person = _described(username, password, email, display_name)
    person.set_password(password)
    try:
        with transaction.atomic():
            person.save()
            used = None
            if invite.strip():
                used = invite_redeem(code=invite, person=person)
            email_follow(person=person, verified=False)
            record(
                actor=actor or f"person:{person.username}",
                action="person.joined",
                target=person,
                after={
                    "username": person.username,
                    "role": str(person.role),
                    "invite": used.pk if used is not None else None,
                    "registration": registration.mode(),
                },
            )
    except InviteRefused as error:
        raise JoinRefused(error.reason, error.invite) from None
    except IntegrityError:
        raise ValidationError({"username": _taken()}) from None
    return person


def _described(username: str, password: str, email: str, display_name: str) -> Person:
    errors: dict[str, list[str]] = {}
    values: dict[str, str] = {}
    for name, given, clean in (
        ("username", username, clean_username),
        ("email", email, clean_email),
        ("display_name", display_name, clean_display_name),
    ):
        try:
            values[name] = clean(given)
        except ValidationError as error:
            errors[name] = list(error.messages)
    if "username" in values and Person.objects.filter(username__iexact=values["username"]).exists():
        errors["username"] = [_taken()]
    person = Person(**values)
    try:
        if len(password) > LONGEST_PASSWORD:
            raise ValidationError(_("A password has at most %(most)d characters.") % {"most": LONGEST_PASSWORD})
        validate_password(password, person)
    except ValidationError as error:
        errors["password"] = list(error.messages)
    if errors:
        raise ValidationError(errors)
    return person


def _taken() -> str:
    return _("Somebody has this name already.")
