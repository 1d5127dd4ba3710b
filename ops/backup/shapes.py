"""What a table looks like in a backup: its columns with types that mean the same on every database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.db import models

from ops.backup.scopes import backed_up
from ops.secrets import EncryptedField

# What the portable types look like in a row: docs/backup-format.md.
TYPES = ("int", "bool", "text", "secret", "datetime", "date", "time", "uuid", "json")

_BY_INTERNAL_TYPE = {
    "AutoField": "int",
    "BigAutoField": "int",
    "SmallAutoField": "int",
    "IntegerField": "int",
    "BigIntegerField": "int",
    "SmallIntegerField": "int",
    "PositiveIntegerField": "int",
    "PositiveBigIntegerField": "int",
    "PositiveSmallIntegerField": "int",
    "BooleanField": "bool",
    "CharField": "text",
    "TextField": "text",
    "SlugField": "text",
    "DateTimeField": "datetime",
    "DateField": "date",
    "TimeField": "time",
    "UUIDField": "uuid",
    "JSONField": "json",
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column. ``field`` is the model's name for it (``sender`` for the column ``sender_id``); ``ref`` the label of the model it refers to."""

    name: str
    field: str
    type: str
    null: bool = False
    ref: str = ""


@dataclass(frozen=True)
class TableShape:
    """One table: ``label`` is the model's (``chat.Message``), ``pk`` the name of its primary key's column; ``policy`` and ``kind`` as in scopes."""

    label: str
    table: str
    pk: str
    columns: tuple[Column, ...]
    policy: str
    kind: str

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The columns' names, in the order of a row's values."""
        return tuple(column.name for column in self.columns)

    @cached_property
    def pk_index(self) -> int:
        """Where the primary key stands in a row."""
        return self.names.index(self.pk)

    def column(self, name: str) -> Column:
        """The column of that name. Raises ``KeyError``."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    def to_json(self) -> dict[str, Any]:
        """As in ``begin.json``; ``from_json`` reads it."""
        columns = [
            {"name": one.name, "field": one.field, "type": one.type, "null": one.null, "ref": one.ref}
            for one in self.columns
        ]
        return {
            "label": self.label,
            "table": self.table,
            "pk": self.pk,
            "policy": self.policy,
            "kind": self.kind,
            "columns": columns,
        }


def portable_type(field: models.Field[Any, Any]) -> str:
    """The portable type of a field's column. Raises ``TypeError`` for a kind of field that backups do not know yet."""
    while isinstance(field, models.ForeignKey):
        field = field.target_field
    if isinstance(field, EncryptedField):
        return "secret"
    try:
        return _BY_INTERNAL_TYPE[field.get_internal_type()]
    except KeyError:
        raise TypeError(
            f"{field.model._meta.label}.{field.name} is a {type(field).__name__}, which backups do not know: add it to "
            "ops.backup.shapes and ops.backup.codecs."
        ) from None


def shape_of(model: type[models.Model], policy: str, kind: str) -> TableShape:
    """The shape of a model's table, as the code has it."""
    meta = model._meta
    columns = []
    for field in meta.local_concrete_fields:
        related = field.related_model if field.is_relation else None
        ref = related._meta.label if isinstance(related, type) else ""
        columns.append(Column(str(field.column), field.name, portable_type(field), field.null, ref))
    assert meta.pk is not None
    return TableShape(meta.label, meta.db_table, str(meta.pk.column), tuple(columns), policy, kind)


def table_shapes() -> list[TableShape]:
    """All tables of a backup; what others refer to comes first where there is no circle."""
    return [shape_of(model, scope.policy, scope.kind) for model, scope in backed_up()]


def from_json(tables: Iterable[Mapping[str, Any]]) -> list[TableShape]:
    """The shapes that ``begin.json`` describes."""
    return [
        TableShape(
            one["label"],
            one["table"],
            one["pk"],
            tuple(Column(c["name"], c["field"], c["type"], c["null"], c["ref"]) for c in one["columns"]),
            one["policy"],
            one["kind"],
        )
        for one in tables
    ]
