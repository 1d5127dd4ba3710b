"""A consistent cut: everything that is read through it is of one moment, while all else goes on writing."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

# Limits that an operator may have set for requests; some of them are of newer versions of PostgreSQL only.
_LIMITS = ("statement_timeout", "idle_in_transaction_session_timeout", "transaction_timeout")
# The snapshot of SQLite is that of the first statement that reads.
_TOUCH = "SELECT COUNT(*) FROM django_migrations"

# A table is read once from its beginning to its end: pages that are mapped would only make the process look large.
_READING = ("PRAGMA query_only = ON", "PRAGMA mmap_size = 0")

_readers: dict[str, list[BaseDatabaseWrapper]] = {}


@contextmanager
def consistent_cut(alias: str = DEFAULT_DB_ALIAS, *, readers: int = 0) -> Iterator[str]:
    """The name of an extra connection inside one snapshot of the database, readable and not writable, for the thread that asked.

    What was committed before is in it, what comes later is not, and nobody waits for it. On SQLite the write-ahead log cannot be
    shortened for as long as it is open. ``readers``: so many more connections inside the same snapshot, for threads: ``readers_of``.
    """
    name = f"cut-{secrets.token_hex(4)}"
    with ExitStack() as stack:
        connection = stack.enter_context(_known(alias, name))
        if connection.vendor == "postgresql":
            more = stack.enter_context(_postgresql(alias, name, readers))
        else:
            more = stack.enter_context(_sqlite(alias, name, readers))
        _readers[name] = more
        stack.callback(_readers.pop, name)
        yield name


def lift_limits(cursor: Any) -> None:
    """On PostgreSQL, let the transaction at hand take as long as it needs, whatever limits are set for requests."""
    cursor.execute("SET LOCAL statement_timeout = 0")
    cursor.execute("SELECT set_config(name, '0', true) FROM pg_settings WHERE name = ANY(%s)", [list(_LIMITS)])


def readers_of(name: str) -> list[BaseDatabaseWrapper]:
    """Connections inside the cut ``name`` that threads may use, one thread at a time; possibly none."""
    return _readers.get(name, [])


def _extra(alias: str, name: str) -> BaseDatabaseWrapper:
    connection = connections[alias].copy(name)
    options = dict(connection.settings_dict.get("OPTIONS") or {})
    options.pop("pool", None)
    if connection.vendor == "sqlite":
        # It reads only: the write lock that transactions take at once elsewhere is left to those that write.
        options["transaction_mode"] = "DEFERRED"
    connection.settings_dict["OPTIONS"] = options
    return connection


@contextmanager
def _known(alias: str, name: str) -> Iterator[BaseDatabaseWrapper]:
    """A connection of its own that Django knows by ``name`` in this thread."""
    connection = _extra(alias, name)
    connections[name] = connection
    try:
        yield connection
    finally:
        del connections[name]
        connection.close()


@contextmanager
def _shared(alias: str, number: int) -> Iterator[list[BaseDatabaseWrapper]]:
    """Open connections for other threads, which nobody knows by name. What they began is rolled back in the end."""
    made = [_extra(alias, f"cut-reader-{place}") for place in range(number)]
    try:
        for connection in made:
            connection.inc_thread_sharing()
            connection.ensure_connection()
        yield made
    finally:
        for connection in made:
            connection.close()


@contextmanager
def _postgresql(alias: str, name: str, number: int) -> Iterator[list[BaseDatabaseWrapper]]:
    with _shared(alias, number) as more, transaction.atomic(using=name), connections[name].cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        lift_limits(cursor)
        cursor.execute("SELECT pg_export_snapshot()")
        snapshot = cursor.fetchone()[0]
        for connection in more:
            with connection.cursor() as reader:
                reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                reader.execute("SET TRANSACTION SNAPSHOT %s", [snapshot])
                lift_limits(reader)
        yield more


@contextmanager
def _sqlite(alias: str, name: str, number: int) -> Iterator[list[BaseDatabaseWrapper]]:
    with _shared(alias, number) as more, transaction.atomic(using=name), connections[name].cursor() as cursor:
        with _nobody_writes(alias, wanted=bool(more)) as still:
            for statement in (*_READING, _TOUCH):
                cursor.execute(statement)
                cursor.fetchone()
            if not still:
                more = []
            for connection in more:
                for statement in (*_READING, "BEGIN", _TOUCH):
                    connection.connection.execute(statement).fetchone()
        yield more


@contextmanager
def _nobody_writes(alias: str, *, wanted: bool) -> Iterator[bool]:
    """Hold SQLite's write lock for the moment in which several connections begin to read, so that they see the same. False: it was not to be
    had, or not wanted."""
    with _shared(alias, 1 if wanted else 0) as keeper:
        try:
            for connection in keeper:
                with connection.cursor() as cursor:
                    cursor.execute("BEGIN IMMEDIATE")
        except DatabaseError:
            keeper = []
        yield bool(keeper)
