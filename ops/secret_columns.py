"""The columns of encrypted fields as they lie in the database: walked, looked up and written without opening what is in them.

For whoever has to do with all secrets at once: writing them with another key (``ops.secret_rotation``), finding and taking away those
whose key is lost (``ops.losses``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.db import connections, models, router
from django.db.backends.base.base import BaseDatabaseWrapper

from ops.secrets import EncryptedField

PORTION = 200

# A row's primary key, and the text that is stored for it (never empty).
Stored = tuple[Any, str]


@dataclass(frozen=True, slots=True)
class SecretColumn:
    """One encrypted field of one model. Names in its statements come from the model, never from input; values are parameters."""

    model: type[models.Model]
    field: EncryptedField

    @property
    def label(self) -> str:
        """``ops.Service.credentials``"""
        return f"{self.model._meta.label}.{self.field.name}"

    @property
    def connection(self) -> BaseDatabaseWrapper:
        """Where its rows are written."""
        return connections[router.db_for_write(self.model)]

    def portions(self, *, size: int = PORTION) -> Iterator[list[Stored]]:
        """All rows that have a secret, by primary key, so many at a time. Rows may be written between two portions."""
        pk = self._name(self._pk)
        last: Any = None
        while True:
            after = f"AND {pk} > %s" if last is not None else ""
            rows = self._read(f"{after} ORDER BY {pk} LIMIT {int(size)}", [last] if last is not None else [])
            if rows:
                yield rows
            if len(rows) < size:
                return
            last = rows[-1][0]

    def newest(self, count: int) -> list[Stored]:
        """The rows of the highest primary keys that have a secret."""
        return self._read(f"ORDER BY {self._name(self._pk)} DESC LIMIT {int(count)}", [])

    def of(self, keys: Iterable[Any]) -> Iterator[Stored]:
        """Those of these rows that have a secret. Keys as the database gives them, or as text."""
        wanted = [self._key(key) for key in keys]
        for start in range(0, len(wanted), PORTION):
            part = wanted[start : start + PORTION]
            marks = ", ".join(["%s"] * len(part))
            yield from self._read(f"AND {self._name(self._pk)} IN ({marks})", part)

    def empty(self) -> int:
        """How many rows have none."""
        column = self._name(self.field)
        with self.connection.cursor() as cursor:
            cursor.execute(f"SELECT COUNT(*) FROM {self._table} WHERE {column} = '' OR {column} IS NULL")  # noqa: S608
            return int(cursor.fetchone()[0])

    def write(self, changes: Iterable[tuple[Any, str, str]]) -> int:
        """Store ``(key, what is stored there now, what is to be)``; a row that says something else by now is left. Returns how many were written."""
        column = self._name(self.field)
        statement = f"UPDATE {self._table} SET {column} = %s WHERE {self._name(self._pk)} = %s AND {column} = %s"  # noqa: S608
        count = 0
        with self.connection.cursor() as cursor:
            for key, before, after in changes:
                cursor.execute(statement, [after, self._key(key), before])
                count += cursor.rowcount
        return count

    def _read(self, rest: str, values: list[Any]) -> list[Stored]:
        column = self._name(self.field)
        statement = f"SELECT {self._name(self._pk)}, {column} FROM {self._table} WHERE {column} <> '' {rest}"  # noqa: S608
        with self.connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall()

    def _key(self, key: Any) -> Any:
        return self._pk.get_db_prep_value(self._pk.to_python(key), self.connection, prepared=False)

    @property
    def _pk(self) -> models.Field[Any, Any]:
        field = self.model._meta.pk
        assert field is not None
        return field

    @property
    def _table(self) -> str:
        return self.connection.ops.quote_name(self.model._meta.db_table)

    def _name(self, field: models.Field[Any, Any]) -> str:
        assert field.column is not None
        return self.connection.ops.quote_name(field.column)


def secret_columns() -> Iterator[SecretColumn]:
    """Those of all installed models."""
    for model in apps.get_models():
        if model._meta.proxy or not model._meta.managed:
            continue
        for field in model._meta.local_fields:
            if isinstance(field, EncryptedField):
                yield SecretColumn(model, field)
