"""Writes people: who they are, who of them is an operator, who may sign in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.utils import timezone

from chat.models import Person
from chat.services.email_addresses import email_follow
from chat.services.joining import JoinRefused, person_register
from chat.services.reset_links import reset_link
from chat.services.sessions import end_all, sign_out_everywhere
from ops.services.audit import record

__all__ = [
    "JoinRefused",
    "person_check",
    "person_deactivate",
    "person_delete",
    "person_password_changed",
    "person_profile_save",
    "person_reactivate",
    "person_register",
    "person_save",
    "person_set_password",
    "reset_link",
    "sign_out_everywhere",
]

# Of these the audit log keeps the values; of all others (the password) only that they changed.
_AUDITED = ("username", "display_name", "email", "matrix_user_id", "is_active", "is_staff", "is_superuser")
_OWN = ("display_name", "language", "time_zone", "preferences")


def person_check(*, person: Person, is_active: bool, is_staff: bool) -> None:
    """Raises ``ValidationError`` when the change would leave nobody who can open the operator's site."""
    if person.pk is None or (is_active and is_staff):
        return
    if connection.in_atomic_block:
        # Two who are closed at the same moment must not both count on the other.
        list(Person.objects.select_for_update().filter(is_staff=True).order_by("pk").values_list("pk", flat=True))
    others = Person.objects.filter(is_active=True, is_staff=True).exclude(pk=person.pk)
    if Person.objects.filter(pk=person.pk, is_active=True, is_staff=True).exists() and not others.exists():
        raise ValidationError(f"{person} is the only operator. Make somebody else an operator first.")


def person_save(*, person: Person, changed: Sequence[str], actor: str) -> Person:
    """Store a new person or the ``changed`` fields of a known one. Raises ``ValidationError``, see ``person_check``.

    Somebody who may no longer sign in, or is no operator any more, loses what they have open.
    """
    fresh = person.pk is None
    with transaction.atomic():
        person_check(person=person, is_active=person.is_active, is_staff=person.is_staff)
        stored: dict[str, Any] = {} if fresh else Person.objects.filter(pk=person.pk).values(*_AUDITED).get()
        if not fresh and person.is_active != stored["is_active"]:
            _note_activity(person, actor, "")
        person.save()
        names = [name for name in _AUDITED if fresh or name in changed]
        after = {name: getattr(person, name) for name in names}
        if fresh or stored["email"] != person.email:
            email_follow(person=person, verified=True)
        if stored and any(stored[name] and not getattr(person, name) for name in ("is_active", "is_staff")):
            end_all(person=person, reason="changed by an operator")
        if fresh or changed:
            record(
                actor=actor,
                action="person.created" if fresh else "person.changed",
                target=person,
                before=None if fresh else {name: stored[name] for name in names},
                after=after,
            )
    return person


def person_profile_save(*, person: Person, changed: Sequence[str], actor: str) -> Person:
    """Store what people change of themselves: ``display_name``, ``language``, ``time_zone``, ``preferences``."""
    names = [name for name in _OWN if name in changed]
    if not names:
        return person
    with transaction.atomic():
        before = Person.objects.filter(pk=person.pk).values(*names).get()
        person.save(update_fields=names)
        record(
            actor=actor,
            action="person.changed",
            target=person,
            before=before,
            after={name: getattr(person, name) for name in names},
        )
    return person


def person_password_changed(*, person: Person, actor: str) -> None:
    """Note that a person's password was set by somebody, and end what they have open; the password itself is nowhere in the log."""
    with transaction.atomic():
        end_all(person=person, reason="new password")
        record(actor=actor, action="person.password_changed", target=person)


def person_set_password(*, person: Person, password: str, actor: str, keep_session: str = "") -> Person:
    """Give a person a new password, which the caller has judged. Every other browser and every program of theirs is signed out."""
    with transaction.atomic():
        person.set_password(password)
        person.save(update_fields=["password"])
        end_all(person=person, reason="new password", keep_session=keep_session)
        record(actor=actor, action="person.password_set", target=person)
    return person


def person_deactivate(*, person: Person, reason: str, actor: str) -> Person:
    """Close somebody's access: browsers, programs, tokens and sockets end; what they said stays. Raises ``ValidationError``."""
    with transaction.atomic():
        person_check(person=person, is_active=False, is_staff=person.is_staff)
        if not Person.objects.select_for_update().get(pk=person.pk).is_active:
            person.refresh_from_db()
            return person
        person.is_active = False
        _note_activity(person, actor, reason)
        person.save(update_fields=["is_active", "deactivated_at", "deactivated_by", "deactivated_reason"])
        end_all(person=person, reason="deactivated")
        record(
            actor=actor,
            action="person.deactivated",
            target=person,
            message=reason[:500],
            before={"is_active": True},
            after={"is_active": False},
        )
    return person


def person_reactivate(*, person: Person, actor: str) -> Person:
    """Let somebody in again. They sign in anew; personal tokens that were not revoked count again."""
    with transaction.atomic():
        if Person.objects.select_for_update().get(pk=person.pk).is_active:
            person.refresh_from_db()
            return person
        person.is_active = True
        _note_activity(person, actor, "")
        person.save(update_fields=["is_active", "deactivated_at", "deactivated_by", "deactivated_reason"])
        record(
            actor=actor,
            action="person.reactivated",
            target=person,
            before={"is_active": False},
            after={"is_active": True},
        )
    return person


def person_delete(*, person: Person, conversations: Literal["keep", "delete"] = "keep", actor: str) -> None:
    """Delete a person for good, with all they have open. ``conversations``: operators keep what was said (under the name that was used),
    or it goes too. Raises ``ValidationError`` for the only operator. A Matrix account on a homeserver is not touched.
    """
    from chat.services.portal import conversations_of_person_delete

    with transaction.atomic():
        person_check(person=person, is_active=False, is_staff=False)
        pk, name = person.pk, person.get_username()
        end_all(person=person, reason="deleted", tokens=True)
        if conversations == "delete":
            conversations_of_person_delete(person=person, actor=actor)
        record(
            actor=actor,
            action="person.deleted",
            target=f"chat.person:{pk}",
            before={"username": name, "conversations": conversations},
        )
        person.delete()


def _note_activity(person: Person, actor: str, reason: str) -> None:
    closed = not person.is_active
    person.deactivated_at = timezone.now() if closed else None
    person.deactivated_by = actor[:255] if closed else ""
    person.deactivated_reason = reason[:500] if closed else ""
