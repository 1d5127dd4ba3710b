"""Fills an empty database with all rows of a backup, in one transaction."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.db import connections, transaction

from ops import audit_guard
from ops.backup.cut import lift_limits
from ops.backup.errors import BackupError
from ops.backup.hooks import bulk_steps
from ops.backup.lookups import Lookups
from ops.backup.rows import count, insert_rows
from ops.backup.said import called
from ops.backup.sealed import SealedRows
from ops.backup.shapes import TableShape, table_shapes

if TYPE_CHECKING:
    from ops.backup.read import BackupReader

Progress = Callable[[int, int, str], None]
Tables = Iterable[tuple[TableShape, Iterator[list[Any]]]]


def no_progress(done: int, total: int, text: str) -> None:
    """For whoever does not watch."""


@dataclass(slots=True)
class LoadReport:
    """What was loaded. ``rows`` by model; ``emptied`` are optional references, ``left_out`` rows with required ones, to what no backup holds;
    ``nuls``: values in which a NUL character was replaced, which PostgreSQL cannot hold."""

    rows: dict[str, int] = field(default_factory=dict)
    emptied: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    nuls: int = 0
    seconds: float = 0.0

    @property
    def total(self) -> int:
        return sum(self.rows.values())


def load_into(
    alias: str,
    reader: BackupReader,
    *,
    progress: Progress = no_progress,
    sealed: SealedRows | None = None,
    in_transaction: Callable[[LoadReport], None] = lambda report: None,
    whole: bool = True,
) -> LoadReport:
    """Put all rows of a backup into an empty database that has the present schema. What migrations made there is replaced.

    ``sealed``: write secrets with this installation's keys (they stay as they are otherwise). ``in_transaction`` may add to the one transaction.

    The reader is read to its end before the commit; with ``whole=False``, for a file that was verified before, to the end of the rows. Raises
    ``BackupError`` when the database is not empty, ``BackupDamaged`` when the backup is: then nothing is changed.
    """
    from ops.backup.source import rows_in_present_shape

    refuse_unless_empty(alias)
    with rows_in_present_shape(reader, progress=progress, whole=whole) as tables:
        return load_tables(alias, tables, progress=progress, sealed=sealed, in_transaction=in_transaction)


def refuse_unless_empty(alias: str) -> None:
    """Raises ``BackupError`` when the database holds more than migrations make."""
    found = [shape for shape in table_shapes() if shape.policy == "kept" and count(alias, shape)]
    if found:
        names = ", ".join(shape.label for shape in found[:5])
        raise BackupError(
            f"The database is not empty (there are rows in {names}). Name an empty one, or restore on the installation that uses it."
        )


def load_tables(
    alias: str,
    tables: Tables,
    *,
    progress: Progress = no_progress,
    sealed: SealedRows | None = None,
    in_transaction: Callable[[LoadReport], None] = lambda report: None,
) -> LoadReport:
    """Put rows in the present shapes into a database, in place of whatever its backed-up tables hold. One transaction."""
    connection = connections[alias]
    report, began = LoadReport(), time.monotonic()
    shapes = {shape.label: shape for shape in table_shapes()}
    # SQLite looks at every reference of every row otherwise; all are looked at once in the end.
    with connection.constraint_checks_disabled(), transaction.atomic(using=alias):
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                lift_limits(cursor)
        empty(alias, [shape for shape in shapes.values() if shape.policy != "lookup"])
        for before, _ in bulk_steps().values():
            before(connection)
        lookups = Lookups(alias, shapes)
        for shape, rows in tables:
            progress(report.total, 0, f"Loading {called(shape.label)}")
            if shape.policy == "lookup":
                lookups.learn(shape, rows)
                continue
            fitting = _fitting(shape, rows, lookups, shapes, report)
            if sealed is not None:
                fitting = sealed.rows(shape, fitting)
            inserted = insert_rows(alias, shape, fitting)
            report.rows[shape.label] = report.rows.get(shape.label, 0) + int(inserted)
            report.nuls += inserted.nuls
        for _, after in bulk_steps().values():
            after(connection)
        raise_sequences(alias, shapes.values())
        in_transaction(report)
        connection.check_constraints()
    report.seconds = time.monotonic() - began
    return report


def _fitting(
    shape: TableShape, rows: Iterator[list[Any]], lookups: Lookups, shapes: dict[str, TableShape], report: LoadReport
) -> Iterator[list[Any]]:
    """Rows whose references to lookups are this database's, and that refer to nothing that no backup holds."""
    to_lookups = [
        (place, column)
        for place, column in enumerate(shape.columns)
        if column.ref and column.ref in shapes and shapes[column.ref].policy == "lookup"
    ]
    nowhere = [(place, column) for place, column in enumerate(shape.columns) if column.ref and column.ref not in shapes]
    if not to_lookups and not nowhere:
        yield from rows
        return
    for row in rows:
        whole = True
        for place, column in to_lookups + nowhere:
            if row[place] is None:
                continue
            found = lookups.here(column.ref, row[place]) if column.ref in shapes else None
            row[place] = found
            if found is None:
                whole = whole and column.null
                counts = report.emptied if column.null else report.left_out
                name = f"{shape.label}.{column.field}"
                counts[name] = counts.get(name, 0) + 1
        if whole:
            yield row


def empty(alias: str, shapes: Iterable[TableShape]) -> None:
    """Remove all rows of these tables, the audit log's among them."""
    connection = connections[alias]
    with audit_guard.lifted(connection), connection.cursor() as cursor:
        for shape in shapes:
            cursor.execute(f"DELETE FROM {connection.ops.quote_name(shape.table)}")


def raise_sequences(alias: str, shapes: Iterable[TableShape]) -> None:
    """Have the next row that is made by itself get a number that no row has had. Numbers never go back: SQLite sees to it by itself."""
    connection = connections[alias]
    if connection.vendor != "postgresql":
        return
    quote = connection.ops.quote_name
    with connection.cursor() as cursor:
        for shape in shapes:
            if shape.column(shape.pk).type != "int":
                continue
            cursor.execute("SELECT pg_get_serial_sequence(%s, %s)", [quote(shape.table), shape.pk])
            sequence = cursor.fetchone()[0]
            cursor.execute(f"SELECT max({quote(shape.pk)}) FROM {quote(shape.table)}")
            highest = cursor.fetchone()[0]
            if sequence and highest is not None:
                cursor.execute(
                    f"SELECT setval(%s, GREATEST(%s, (SELECT last_value FROM {sequence})))", [sequence, highest]
                )
