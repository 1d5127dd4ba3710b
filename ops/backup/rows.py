"""Rows out of a database and into one, as lists of portable values. Memory stays flat whatever the number of rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import islice
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from ops.backup import codecs
from ops.backup.shapes import TableShape

_FETCH = 2000


def count(alias: str, shape: TableShape) -> int:
    """How many rows the table has."""
    connection = connections[alias]
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT COUNT(*) FROM {connection.ops.quote_name(shape.table)}")
        return int(cursor.fetchone()[0])


def _order(connection: BaseDatabaseWrapper, shape: TableShape) -> str:
    """The primary key as it is compared and ordered by: texts by code point, whatever the database's collation."""
    quoted = connection.ops.quote_name(shape.pk)
    if connection.vendor == "postgresql" and shape.column(shape.pk).type == "text":
        return f'{quoted} COLLATE "C"'
    return quoted


def select(
    connection: BaseDatabaseWrapper, shape: TableShape, *, after: Any = None, where: tuple[str, list[Any]] | None = None
) -> tuple[str, list[Any]]:
    """The statement that reads a table in the order of its primary key, from behind ``after`` (a portable value), with its parameters.

    ``where``: a condition of the database's own, and its parameters.
    """
    quote = connection.ops.quote_name
    values = ", ".join(
        codecs.select_expression(connection.vendor, column, quote(column.name)) for column in shape.columns
    )
    statement, parameters = f"SELECT {values} FROM {quote(shape.table)}", list[Any]()
    if where is not None:
        statement += f" WHERE {where[0]}"
        parameters += where[1]
    if after is not None:
        for _, store in codecs.storers(connection.vendor, (shape.column(shape.pk),)):
            after = store(after)
        statement += f" {'WHERE' if where is None else 'AND'} {_order(connection, shape)} > %s"
        parameters.append(after)
    return f"{statement} ORDER BY {_order(connection, shape)}", parameters


def prepare(connection: BaseDatabaseWrapper) -> None:
    """Make the functions known to a SQLite connection that ``select`` uses."""
    connection.ensure_connection()
    if connection.vendor == "sqlite":
        make = connection.connection.create_function
        make("portable_time", 1, codecs.portable_time, deterministic=True)
        make("canonical_json", 1, _canonical_json, deterministic=True)


def _canonical_json(text: str | None) -> str | None:
    return None if text is None else codecs.canonical_json(text)


def read_rows(
    alias: str, shape: TableShape, *, after: Any = None, where: tuple[str, list[Any]] | None = None
) -> Iterator[list[Any]]:
    """The rows in the order of the primary key (integers by value, texts by code point, UUIDs by their digits), one list each.

    ``after``: only those whose primary key is greater; ``where``: only those that meet this condition (in brackets where it needs them). On PostgreSQL a server-side cursor is used: call it inside a transaction
    or the cursor outlives one (``consistent_cut`` is one).
    """
    connection = connections[alias]
    prepare(connection)
    statement, parameters = select(connection, shape, after=after, where=where)
    finish = codecs.finishers(connection.vendor, shape.columns)
    with closing(connection.chunked_cursor()) as cursor:
        cursor.execute(statement, parameters)
        while batch := cursor.fetchmany(_FETCH):
            for row in batch:
                values = list(row)
                for place, function in finish:
                    if values[place] is not None:
                        values[place] = function(values[place])
                yield values


class Inserted(int):
    """How many rows were inserted; ``nuls`` says in how many values a NUL character, which PostgreSQL cannot hold, was replaced by U+FFFD."""

    nuls: int = 0


def insert_rows(alias: str, shape: TableShape, rows: Iterable[list[Any]]) -> Inserted:
    """Insert rows of portable values, and say how many. Rows are asked for as they are needed."""
    connection = connections[alias]
    connection.ensure_connection()
    return _copy(connection, shape, rows) if connection.vendor == "postgresql" else _many(connection, shape, rows)


def _columns(connection: BaseDatabaseWrapper, shape: TableShape) -> str:
    return ", ".join(connection.ops.quote_name(name) for name in shape.names)


def _copy(connection: BaseDatabaseWrapper, shape: TableShape, rows: Iterable[list[Any]]) -> Inserted:
    statement = f"COPY {connection.ops.quote_name(shape.table)} ({_columns(connection, shape)}) FROM STDIN"
    number, nuls = 0, 0
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            for place, value in enumerate(row):
                if value.__class__ is str and ("\x00" in value or "\\u0000" in value):
                    cleaned = _without_nul(value, json=shape.columns[place].type == "json")
                    if cleaned != value:
                        row[place] = cleaned
                        nuls += 1
            copy.write_row(row)
            number += 1
    inserted = Inserted(number)
    inserted.nuls = nuls
    return inserted


def _without_nul(value: str, *, json: bool) -> str:
    if not json:
        return value.replace("\x00", "\ufffd")
    # In JSON text \u0000 is one only when the backslash is not itself escaped.
    return codecs.ESCAPED_NUL.sub(r"\1\\ufffd", value)


def _many(connection: BaseDatabaseWrapper, shape: TableShape, rows: Iterable[list[Any]]) -> Inserted:
    marks = ", ".join("?" for _ in shape.columns)
    statement = f"INSERT INTO {connection.ops.quote_name(shape.table)} ({_columns(connection, shape)}) VALUES ({marks})"
    store = codecs.storers(connection.vendor, shape.columns)

    def stored() -> Iterator[list[Any]]:
        for row in rows:
            if store:
                row = list(row)
                for place, function in store:
                    if row[place] is not None:
                        row[place] = function(row[place])
            yield row

    number, waiting = 0, stored()
    # Django's cursor collects all parameters and rewrites the marks for each call.
    with connection.wrap_database_errors, closing(connection.connection.cursor()) as cursor:
        while batch := list(islice(waiting, _FETCH)):
            cursor.executemany(statement, batch)
            number += len(batch)
    return Inserted(number)
