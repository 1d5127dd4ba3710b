"""Writes what a person chose for the page: how it looks, and what it remembers."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from chat.models import Person
from ops.services.audit import record

# What the page may keep, and the values that each may have (an empty tuple: yes or no).
PREFERENCES: dict[str, tuple[str, ...]] = {
    "theme": ("auto", "light", "dark"),
    "enter": ("send", "line"),
    "shortcuts": (),
    "sidebar": ("open", "closed"),
    "reasoning": ("folded", "open"),
    "announce": ("sentences", "whole", "off"),
}
# Which key does what, as the person wants it: {"search": "Ctrl+K"}.
_MOST_KEYS = 40


def look_choose(*, person: Person, theme: str = "", language: str = "", actor: str) -> None:
    """Keep a theme and/or a language ("" leaves what was)."""
    with transaction.atomic():
        row = Person.objects.select_for_update().get(pk=person.pk)
        before = {"theme": row.preferences.get("theme", ""), "language": row.language}
        after = {"theme": theme or before["theme"], "language": language or before["language"]}
        if after == before:
            return
        if after["theme"]:
            row.preferences["theme"] = after["theme"]
        row.language = after["language"]
        row.save(update_fields=["preferences", "language"])
        record(actor=actor, action="person.look", target=row, before=before, after=after)
    person.preferences, person.language = row.preferences, row.language


def preferences_save(*, person: Person, changes: dict[str, Any], actor: str) -> dict[str, Any]:
    """Keep some preferences (``None`` forgets one) and return all of them. Raises ``ValidationError`` for unknown names and values."""
    for name, value in changes.items():
        if value is not None:
            _check(name, value)
    with transaction.atomic():
        row = Person.objects.select_for_update().get(pk=person.pk)
        kept = {**row.preferences, **changes}
        row.preferences = {name: value for name, value in kept.items() if value is not None}
        row.save(update_fields=["preferences"])
        record(actor=actor, action="person.preferences", target=row, after=changes)
    person.preferences = row.preferences
    return dict(row.preferences)


def _check(name: str, value: Any) -> None:
    if name == "keys":
        fits = isinstance(value, dict) and len(value) <= _MOST_KEYS
        if not fits or not all(isinstance(one, str) and len(one) <= 40 for pair in value.items() for one in pair):
            raise ValidationError("Keys are names of actions, each with a key such as Ctrl+K.")
        return
    if name not in PREFERENCES:
        raise ValidationError(f"There is no preference {name}.")
    values = PREFERENCES[name]
    if (values and value not in values) or (not values and not isinstance(value, bool)):
        allowed = ", ".join(values) or "true or false"
        raise ValidationError(f"{name} cannot be {value!r}. Use {allowed}.")
