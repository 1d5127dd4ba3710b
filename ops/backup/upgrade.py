"""Brings the rows of an older version to the present schema: through the migrations themselves, in a scratch database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from django.db import connections
from django.db.migrations.executor import MigrationExecutor

from ops import audit_guard
from ops.backup.errors import BackupError
from ops.backup.rows import insert_rows
from ops.backup.said import called
from ops.backup.scratch import scratch_sqlite
from ops.backup.source import tables_of

if TYPE_CHECKING:
    from ops.backup.read import BackupReader, Member


def _silent(done: int, total: int, text: str) -> None:
    """For whoever does not watch."""


@contextmanager
def scratch_database(
    reader: BackupReader,
    *,
    progress: Callable[[int, int, str], None] = _silent,
    seen: Callable[[Member], None] = lambda member: None,
    whole: bool = True,
) -> Iterator[str]:
    """The backup's rows in a scratch SQLite database with the present schema; gives its alias. The reader is read to its end, or with
    ``whole=False`` to the end of the rows.

    The database is migrated to where the backup's was, filled, and migrated on. Raises ``BackupError`` when a migration fails.
    """
    with scratch_sqlite("upgrade") as alias:
        connection = connections[alias]
        progress(0, 0, "Making the tables of the older version")
        executor = MigrationExecutor(connection)
        executor.migrate(_last_of(executor, reader.begin.migrations))
        with connection.constraint_checks_disabled(), audit_guard.lifted(connection):
            with connection.cursor() as cursor:
                for shape in reader.begin.tables:
                    cursor.execute(f"DELETE FROM {connection.ops.quote_name(shape.table)}")
            for shape, rows in tables_of(reader, seen, whole=whole):
                progress(0, 0, f"Reading {called(shape.label)}")
                connection.set_autocommit(False)
                try:
                    insert_rows(alias, shape, rows)
                    connection.commit()
                finally:
                    connection.set_autocommit(True)
        progress(0, 0, "Bringing them to this version")
        executor = MigrationExecutor(connection)
        try:
            executor.migrate(executor.loader.graph.leaf_nodes())
        except Exception as error:
            raise BackupError(
                f"The rows of version {reader.begin.version} do not go through the migrations of this one: {error}. "
                "Nothing was changed. Restore with the version that made it, and upgrade then."
            ) from error
        yield alias


def _last_of(executor: MigrationExecutor, migrations: dict[str, list[str]]) -> list[tuple[str, str]]:
    """The migrations on which none of the others builds: an earlier one as a target would mean to go back to it."""
    graph = executor.loader.graph
    there = {(app, name) for app, names in migrations.items() for name in names} & set(graph.nodes)
    return sorted(node for node in there if not {child.key for child in graph.node_map[node].children} & there)
