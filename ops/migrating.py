"""One process at a time changes the tables (several containers that start together all call ``migrate``), and each migration is whole or not
there, whenever its process is killed."""

from __future__ import annotations

import fcntl
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.migration import Migration
from django.db.migrations.state import ProjectState

from ops.backup.cut import lift_limits

# Of PostgreSQL's advisory locks, which are numbers: "switchbo" in ASCII. Each database has its own.
_KEY = 0x7377697463686261


@contextmanager
def alone(say_waiting: Callable[[], None], *, alias: str = DEFAULT_DB_ALIAS) -> Iterator[None]:
    """Hold every other ``migrate`` of this database off for the block; waits for one that is at work, and calls ``say_waiting`` then.

    The lock goes with its process or its connection, however they end. It is asked for in a transaction of a connection of its own, which
    poolers leave together until it ends.
    """
    connection = connections[alias]
    if connection.vendor == "postgresql":
        with _postgresql(alias, say_waiting):
            yield
    elif (
        connection.vendor == "sqlite"
        and (name := str(connection.settings_dict["NAME"])) != ":memory:"
        and "mode=memory" not in name
    ):
        with _sqlite(Path(name), say_waiting):
            yield
    else:
        yield


@contextmanager
def _postgresql(alias: str, say_waiting: Callable[[], None]) -> Iterator[None]:
    name = f"migrating-{secrets.token_hex(4)}"
    connections[name] = connections[alias].copy(name)
    try:
        with transaction.atomic(using=name), connections[name].cursor() as cursor:
            lift_limits(cursor)
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_KEY])
            if not cursor.fetchone()[0]:
                say_waiting()
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_KEY])
            yield
    finally:
        connections[name].close()
        del connections[name]


@contextmanager
def _sqlite(database: Path, say_waiting: Callable[[], None]) -> Iterator[None]:
    database.parent.mkdir(parents=True, exist_ok=True)
    # Not the database itself: SQLite has locks of its own in that file. It stays, or two could hold it under one name.
    with database.with_name(f"{database.name}.migrating").open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say_waiting()
            fcntl.flock(held, fcntl.LOCK_EX)
        yield


class WholeExecutor(MigrationExecutor):
    """Django's, with the note that a migration was made (or reversed) in the transaction that makes it.

    Django writes the note after the commit when indexes or references are made in the end, and always on the way back: a process that is
    killed between the two leaves tables that the next ``migrate`` makes once more, or misses.
    """

    def apply_migration(
        self, state: ProjectState, migration: Migration, fake: bool = False, fake_initial: bool = False
    ) -> ProjectState:
        if fake or fake_initial:
            return super().apply_migration(state, migration, fake=fake, fake_initial=fake_initial)
        self._say("apply_start", migration)
        with self.connection.schema_editor(atomic=migration.atomic) as editor:
            state = migration.apply(state, editor)
            _make_the_rest(editor)
            self.record_migration(migration)  # type: ignore[call-arg, arg-type]  # the stubs are of an older Django
        self._say("apply_success", migration)
        return state

    def unapply_migration(self, state: ProjectState, migration: Migration, fake: bool = False) -> ProjectState:
        if fake:
            return super().unapply_migration(state, migration, fake=fake)
        self._say("unapply_start", migration)
        with self.connection.schema_editor(atomic=migration.atomic) as editor:
            state = migration.unapply(state, editor)
            _make_the_rest(editor)
            for app, name in [*migration.replaces, (migration.app_label, migration.name)]:
                self.recorder.record_unapplied(app, name)
        self._say("unapply_success", migration)
        return state

    def _say(self, action: str, migration: Migration) -> None:
        if self.progress_callback is not None:
            self.progress_callback(action, migration, False)


def _make_the_rest(editor: BaseDatabaseSchemaEditor) -> None:
    for statement in editor.deferred_sql:
        editor.execute(statement, None)
    editor.deferred_sql.clear()
