"""A consistent cut: everything that is read through it is of one moment, while all else goes on writing."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper


def extra_connection(alias: str, name: str) -> BaseDatabaseWrapper:
    """A connection of its own to the database of ``alias``, known as ``name`` in this thread; ``forget`` closes it."""
    connection = connections[alias].copy(name)
    options = dict(connection.settings_dict.get("OPTIONS") or {})
    options.pop("pool", None)
    if connection.vendor == "sqlite":
        # It reads only: the write lock that transactions take at once elsewhere is left to those that write.
        options["transaction_mode"] = "DEFERRED"
    connection.settings_dict["OPTIONS"] = options
    connections[name] = connection
    return connection


def forget(name: str) -> None:
    """Close a connection that ``extra_connection`` made."""
    connections[name].close()
    del connections[name]


@contextmanager
def consistent_cut(alias: str = DEFAULT_DB_ALIAS) -> Iterator[str]:
    """The name of an extra connection inside one snapshot of the database, readable and not writable, for the thread that asked.

    What was committed before is in it, what comes later is not, and nobody waits for it. On SQLite the write-ahead log cannot be
    shortened for as long as it is open.
    """
    name = f"cut-{secrets.token_hex(4)}"
    connection = extra_connection(alias, name)
    try:
        with transaction.atomic(using=name), connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                # Limits that an operator may have set for requests.
                cursor.execute("SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0")
            else:
                cursor.execute("PRAGMA query_only = ON")
            # The snapshot is that of the first statement that reads.
            cursor.execute("SELECT COUNT(*) FROM django_migrations")
            cursor.fetchone()
            yield name
    finally:
        forget(name)
