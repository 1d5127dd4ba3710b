"""A backup's rows in a scratch file, where they can be looked at in any order before anything is changed.

A SQLite file with one table a model; values are the portable ones of a row. What a restore wants to be is worked out in here, and so is
the list of what has to be done (``todo``). Memory stays flat, however many rows there are.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, Literal

import orjson

from ops.backup.scratch import scratch_file
from ops.backup.shapes import TableShape

_BATCH = 2000

Operation = Literal["remove", "insert"]


class Staging:
    """The scratch file. ``sql`` is its connection: tables are named like their models' labels (``quoted``)."""

    def __init__(self, path: str) -> None:
        self.sql = sqlite3.connect(path, isolation_level=None)
        for pragma in (
            "journal_mode=OFF",
            "synchronous=OFF",
            "temp_store=FILE",
            "cache_size=-32000",
            "locking_mode=EXCLUSIVE",
        ):
            self.sql.execute(f"PRAGMA {pragma}")
        self.shapes: dict[str, TableShape] = {}
        self.sql.execute("CREATE TABLE _todo (label TEXT, op TEXT, pk, row TEXT)")

    def take(self, tables: Iterable[tuple[TableShape, Iterator[list[Any]]]], say: Callable[[str, int], None]) -> int:
        """Take in the rows of these tables; says (label, rows so far). Returns how many there were."""
        total = 0
        for shape, rows in tables:
            self.make(shape)
            for number in self.add(shape, rows):
                total += number
                say(shape.label, total)
        return total

    def make(self, shape: TableShape) -> None:
        """Make the table for a shape, when it is missing."""
        if shape.label in self.shapes:
            return
        self.shapes[shape.label] = shape
        columns = ", ".join(
            f"{quoted(column.name)} {_affinity(column.type)}{' PRIMARY KEY' if column.name == shape.pk else ''}"
            for column in shape.columns
        )
        self.sql.execute(f"CREATE TABLE {quoted(shape.label)} ({columns})")

    def add(self, shape: TableShape, rows: Iterable[list[Any]], *, into: str = "") -> Iterator[int]:
        """Insert rows; gives the number of each batch. ``into``: another table (as a statement wants its name) with the same columns."""
        statement = f"INSERT INTO {into or quoted(shape.label)} VALUES ({', '.join('?' * len(shape.columns))})"
        waiting = iter(rows)
        while batch := list(islice(waiting, _BATCH)):
            self.sql.execute("BEGIN")
            self.sql.executemany(statement, batch)
            self.sql.execute("COMMIT")
            yield len(batch)

    def rows(self, label: str, where: str = "", parameters: Iterable[Any] = ()) -> Iterator[list[Any]]:
        """The table's rows in the order of the primary key."""
        shape = self.shapes[label]
        columns = ", ".join(quoted(name) for name in shape.names)
        condition = f" WHERE {where}" if where else ""
        found = self.sql.execute(
            f"SELECT {columns} FROM {quoted(label)}{condition} ORDER BY {quoted(shape.pk)}", tuple(parameters)
        )
        flags = [place for place, column in enumerate(shape.columns) if column.type == "bool"]
        while batch := found.fetchmany(_BATCH):
            for row in batch:
                values = list(row)
                for place in flags:
                    if values[place] is not None:
                        values[place] = bool(values[place])
                yield values

    def count(self, label: str) -> int:
        """How many rows the table has."""
        return int(self.one(f"SELECT COUNT(*) FROM {quoted(label)}"))

    def one(self, statement: str, parameters: Iterable[Any] = ()) -> Any:
        """The first value of the first row; None without one."""
        row = self.sql.execute(statement, tuple(parameters)).fetchone()
        return None if row is None else row[0]

    def plan(self, operations: Iterable[tuple[str, Operation, Any, list[Any] | None]]) -> None:
        """Add to what has to be done: (label, "remove" or "insert", primary key, the row)."""
        waiting = ((label, op, pk, orjson.dumps(row) if row is not None else None) for label, op, pk, row in operations)
        while batch := list(islice(waiting, _BATCH)):
            self.sql.execute("BEGIN")
            self.sql.executemany("INSERT INTO _todo VALUES (?, ?, ?, ?)", batch)
            self.sql.execute("COMMIT")

    def todo(self, label: str, op: Operation) -> Iterator[tuple[Any, list[Any] | None]]:
        """(primary key, row) of what has to be done in one table."""
        found = self.sql.execute("SELECT pk, row FROM _todo WHERE label = ? AND op = ? ORDER BY rowid", (label, op))
        while batch := found.fetchmany(_BATCH):
            for pk, row in batch:
                yield pk, orjson.loads(row) if row is not None else None

    def close(self) -> None:
        """Close the file."""
        self.sql.close()


def quoted(name: str) -> str:
    """A name as SQLite wants it in a statement."""
    return '"' + name.replace('"', '""') + '"'


def _affinity(type: str) -> str:
    return "INTEGER" if type in ("int", "bool") else "TEXT"


@contextmanager
def staging() -> Iterator[Staging]:
    """An empty staging, thrown away afterwards."""
    with scratch_file("restore") as path:
        path.touch(mode=0o600)
        made = Staging(str(path))
        try:
            yield made
        finally:
            made.close()
