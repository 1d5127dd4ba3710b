"""INSERT and conditional UPDATE of single rows without building a query each time: for the few statements of the message path.

The ORM composes and compiles a query for every call, which takes several times longer than the database needs to run it. The
text of these two statements depends only on the model and the names of the fields, so it is made once and kept; values still go
through the fields' own conversion, so JSON, times and encrypted fields are stored as the ORM would store them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, TypeVar

from django.db import connection, models

Row = TypeVar("Row", bound=models.Model)


def insert(row: Row) -> Row:
    """Store a new row and set its primary key. As ``row.save(force_insert=True)``, without signals. Raises ``IntegrityError``."""
    model = type(row)
    text, fields = _insert(model, connection.vendor)
    values = [field.get_db_prep_save(field.pre_save(row, True), connection) for field in fields]
    with connection.cursor() as cursor:
        cursor.execute(text, values)
        row.pk = cursor.fetchone()[0]
    row._state.adding, row._state.db = False, connection.alias
    return row


@lru_cache(maxsize=64)
def _insert(model: type[models.Model], vendor: str) -> tuple[str, list[models.Field[Any, Any]]]:
    quote = connection.ops.quote_name
    meta = model._meta
    fields = [field for field in meta.local_concrete_fields if not field.primary_key]
    names = ", ".join(quote(_column(field)) for field in fields)
    marks = ", ".join(["%s"] * len(fields))
    key = quote(_column(meta.pk))
    return f"INSERT INTO {quote(meta.db_table)} ({names}) VALUES ({marks}) RETURNING {key}", fields  # noqa: S608


def update(
    model: type[models.Model],
    values: dict[str, Any],
    *,
    plus_one: tuple[str, ...] = (),
    also: tuple[str, tuple[Any, ...]] = ("", ()),
    **where: Any,
) -> int:
    """Set fields of the rows that match ``where`` (equality only); ``plus_one`` names counters to raise. Returns their number.

    ``values`` and ``where`` name fields (``message`` or ``message_id``); an object stands for its key. ``also`` is a condition
    more as constant SQL, with its parameters.
    """
    text, parameters = _prepared(model, values, plus_one, where)
    condition, more = also
    with connection.cursor() as cursor:
        cursor.execute(f"{text} AND {condition}" if condition else text, [*parameters, *more])
        return int(cursor.rowcount)


def update_returning(model: type[models.Model], values: dict[str, Any], column: str, **where: Any) -> list[str]:
    """As ``update``, and what stands in one text field of the rows then: one statement for a write and a look."""
    text, parameters = _prepared(model, values, (), where)
    name = connection.ops.quote_name(_column(model._meta.get_field(column)))
    with connection.cursor() as cursor:
        cursor.execute(f"{text} RETURNING {name}", parameters)
        return [row[0] for row in cursor.fetchall()]


def _prepared(
    model: type[models.Model], values: dict[str, Any], plus_one: tuple[str, ...], where: dict[str, Any]
) -> tuple[str, list[Any]]:
    """The statement's text and its parameters."""
    text, fields, conditions = _update(model, tuple(values), plus_one, tuple(where), connection.vendor)
    parameters = [
        field.get_db_prep_save(_plain(value), connection) for field, value in zip(fields, values.values(), strict=True)
    ]
    parameters += [
        field.get_db_prep_save(value, connection) for field, value in zip(conditions, where.values(), strict=True)
    ]
    return text, parameters


def _plain(value: Any) -> Any:
    return value.pk if isinstance(value, models.Model) else value


@lru_cache(maxsize=256)
def _update(
    model: type[models.Model], names: tuple[str, ...], plus_one: tuple[str, ...], where: tuple[str, ...], vendor: str
) -> tuple[str, list[models.Field[Any, Any]], list[models.Field[Any, Any]]]:
    quote = connection.ops.quote_name
    meta = model._meta
    by_name = {name: field for field in meta.local_concrete_fields for name in (field.name, field.attname)}
    fields, conditions = [by_name[name] for name in names], [by_name[_field_name(meta, name)] for name in where]
    sets = [f"{quote(_column(field))} = %s" for field in fields]
    sets += [f"{quote(_column(by_name[name]))} = {quote(_column(by_name[name]))} + 1" for name in plus_one]
    tests = " AND ".join(f"{quote(_column(field))} = %s" for field in conditions)
    return f"UPDATE {quote(meta.db_table)} SET {', '.join(sets)} WHERE {tests}", fields, conditions  # noqa: S608


def _column(field: Any) -> str:
    return str(field.column)


def _field_name(meta: Any, name: str) -> str:
    return str(meta.pk.name) if name == "pk" else name
