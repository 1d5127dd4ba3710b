"""Rows of every model that goes into a backup, with values that are hard on databases."""

from __future__ import annotations

import itertools
import uuid
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django.contrib.auth.models import Permission
from django.db import connections, models, transaction

from ops.backup import age
from ops.backup.rows import read_rows
from ops.backup.scopes import backed_up, scope_of
from ops.backup.shapes import table_shapes
from ops.secrets import EncryptedJSONField, EncryptedTextField

_TEXTS = ("plain", "Grüße 🐦 \u2028 \"quoted\" 'and' \\back", "line\nbreak\ttab", "ἀρχή")


def fill(alias: str = "default", each: int = 4) -> dict[str, int]:
    """Make ``each`` rows of every kept and added model; returns how many by model. Circles are closed afterwards."""
    made: dict[type[models.Model], list[models.Model]] = {}
    counts = {}
    with transaction.atomic(using=alias):
        for model, scope in _required_first():
            if scope.policy == "lookup":
                made[model] = list(model._base_manager.using(alias).order_by("pk")[: each * 3])
                continue
            rows = [row for number in range(each) if (row := _row(model, number, made)) is not None]
            made[model] = [_save(row, alias) for row in rows]
            counts[model._meta.label] = len(made[model])
        _close_circles(made, alias)
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT 1")
    return counts


def contents(alias: str = "default", *policies: str) -> dict[str, list[list[Any]]]:
    """All rows that a restore makes equal, without what was only seen outside. Permissions by name: their numbers are each database's."""
    found = {}
    permissions = {
        pk: list(name)
        for pk, *name in Permission.objects.using(alias).values_list("pk", "content_type__app_label", "codename")
    }
    for shape in table_shapes():
        if shape.policy in (policies or ("kept",)):
            observed = scope_of(shape.label).observed
            places = [place for place, column in enumerate(shape.columns) if column.field not in observed]
            named = [place for place, column in enumerate(shape.columns) if column.ref == "auth.Permission"]
            rows = []
            for row in read_rows(alias, shape):
                for place in named:
                    row[place] = permissions[row[place]]
                rows.append([row[place] for place in places])
            found[shape.label] = rows
    return found


def _required_first() -> list[tuple[type[models.Model], Any]]:
    scopes = dict(backed_up())
    ordered: list[type[models.Model]] = []

    def visit(model: type[models.Model]) -> None:
        if model in ordered or model not in scopes:
            return
        for field in model._meta.local_concrete_fields:
            if isinstance(field, models.ForeignKey) and not field.null:
                visit(field.related_model)
        ordered.append(model)

    for model in [*[m for m in scopes if m._meta.label in ("agents.Agent", "chat.Person", "agents.Room")], *scopes]:
        visit(model)
    return [(model, scopes[model]) for model in ordered]


def _save(row: models.Model, alias: str) -> models.Model:
    # As loaded data is: nothing is filled in by itself.
    row.save_base(raw=True, using=alias, force_insert=True)
    return row


def _row(model: type[models.Model], number: int, made: dict[type[models.Model], list[models.Model]]) -> models.Model:
    values = {}
    for field in model._meta.local_concrete_fields:
        if field.primary_key and isinstance(field, models.AutoField):
            continue
        if isinstance(field, models.ForeignKey):
            rows = made.get(field.related_model, [])
            # Of those that may be empty, every second one is; of those that must be alone, each has its own.
            target = rows[number % len(rows)] if rows else None
            values[field.attname] = (
                None if target is None or (field.null and number % 2 and not field.unique) else target.pk
            )
            continue
        values[field.attname] = _value(field, number)
    return model(**{**values, **_RULES.get(model._meta.label, lambda number, values: {})(number, values)})


def _quota(number: int, values: dict[str, Any]) -> dict[str, Any]:
    """Of one thing: a person, an agent or a role."""
    names = ("person_id", "agent_id", "role")
    return {
        name: values[name] if place == number % 3 else ("" if name == "role" else None)
        for place, name in enumerate(names)
    }


# What constraints ask for.
_RULES: dict[str, Any] = {
    "chat.Quota": _quota,
    "ops.BackupDestination": lambda number, values: {"kind": "folder", "options": {"path": f"copies-{number}"}},
    "ops.BackupPlan": lambda number, values: {"timezone": "Europe/Berlin", "contents": [], "enabled": False},
    "ops.BackupKey": lambda number, values: {"recipient": _KEYS[number % len(_KEYS)]},
}
_KEYS = [age.recipients_of([age.new_identity()[0]])[0] for _ in range(6)]


def _value(field: models.Field, number: int) -> Any:
    if isinstance(field, EncryptedJSONField):
        return {"token": f"secret-{field.model.__name__}-{number}"} if number % 2 == 0 else {}
    if isinstance(field, EncryptedTextField):
        return f"secret-{field.model.__name__}-{number}"
    if field.null and number % 3 == 2 and not field.primary_key:
        return None
    if isinstance(field, models.BooleanField):
        return number % 2 == 0
    if isinstance(field, models.DateTimeField):
        return datetime(2026, 3, 29, 0, 59, 59, (123456 if number % 2 else 0), tzinfo=UTC) + timedelta(days=number)
    if isinstance(field, models.DateField):
        return date(2026, 2, 28) + timedelta(days=number)
    if isinstance(field, models.TimeField):
        return time(23, 59, number, 5 if number % 2 else 0)
    if isinstance(field, models.UUIDField):
        return uuid.uuid5(uuid.NAMESPACE_URL, f"{field.model._meta.label}-{number}")
    if isinstance(field, models.JSONField):
        return [{"b": [1, 2.5, None, True], "a": "ü\u0001🐦"}, {}, [], {"z": {"y": 1e3, "x": -0.25}}][number % 4]
    if isinstance(field, models.IntegerField):
        return number + 1
    if field.choices:
        choices = [value for value, _ in field.flatchoices]
        return choices[number % len(choices)]
    text = f"{_TEXTS[number % len(_TEXTS)]} {field.name} {number}"
    if field.unique or _in_unique(field):
        text = f"{field.name}-{number}-ü"
    limit = field.max_length or 10_000
    return text[-limit:] if len(text) > limit else text


def _in_unique(field: models.Field) -> bool:
    named = (
        constraint.fields
        for constraint in field.model._meta.constraints
        if isinstance(constraint, models.UniqueConstraint)
    )
    return field.name in set(itertools.chain.from_iterable(named))


def _close_circles(made: dict[type[models.Model], list[models.Model]], alias: str) -> None:
    """Fields that refer to what came later."""
    for model, rows in made.items():
        if model._meta.label in _RULES:
            continue
        for field in model._meta.local_concrete_fields:
            if isinstance(field, models.ForeignKey) and field.null and made.get(field.related_model):
                targets = made[field.related_model]
                for number, row in enumerate(rows):
                    if getattr(row, field.attname) is None and number % 2 == 0:
                        model._base_manager.using(alias).filter(pk=row.pk).update(
                            **{field.attname: targets[number % len(targets)].pk}
                        )
