"""Writes people: who they are, and who of them is an operator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from chat.models import Person
from ops.services.audit import record

# Of these the audit log keeps the values; of all others (the password) only that they changed.
_AUDITED = ("username", "display_name", "email", "matrix_user_id", "is_active", "is_staff", "is_superuser")


def person_check(*, person: Person, is_active: bool, is_staff: bool) -> None:
    """Raises ``ValidationError`` when the change would leave nobody who can open the operator's site."""
    if person.pk is None or (is_active and is_staff):
        return
    others = Person.objects.filter(is_active=True, is_staff=True).exclude(pk=person.pk)
    if Person.objects.filter(pk=person.pk, is_active=True, is_staff=True).exists() and not others.exists():
        raise ValidationError(f"{person} is the only operator. Make somebody else an operator first.")


def person_save(*, person: Person, changed: Sequence[str], actor: str) -> Person:
    """Store a new person or the ``changed`` fields of a known one. Raises ``ValidationError``, see ``person_check``."""
    fresh = person.pk is None
    person_check(person=person, is_active=person.is_active, is_staff=person.is_staff)
    with transaction.atomic():
        stored: dict[str, Any] = {} if fresh else Person.objects.filter(pk=person.pk).values(*_AUDITED).get()
        person.save()
        names = [name for name in _AUDITED if fresh or name in changed]
        after = {name: getattr(person, name) for name in names}
        if fresh or changed:
            record(
                actor=actor,
                action="person.created" if fresh else "person.changed",
                target=person,
                before=None if fresh else {name: stored[name] for name in names},
                after=after,
            )
    return person


def person_password_changed(*, person: Person, actor: str) -> None:
    """Note that a person's password was set by somebody; the password itself is nowhere in the log."""
    record(actor=actor, action="person.password_changed", target=person)
