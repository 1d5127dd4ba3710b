"""Indexes and references while an empty database is filled: made once in the end, from sorted rows, they cost a fraction of what they cost row by row.

All of it happens in the load's own transaction: a load that fails leaves them as they were.
"""

from __future__ import annotations

from django.db.backends.base.base import BaseDatabaseWrapper

from ops.backup.hooks import register_bulk
from ops.backup.shapes import table_shapes

# Statements that make them again, by the connection's alias.
_waiting: dict[str, list[str]] = {}

_SQLITE = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL AND tbl_name = %s ORDER BY name"
# Those behind a constraint (primary key, unique) stay: they are part of it.
_POSTGRESQL_INDEXES = """
    SELECT 'DROP INDEX ' || i.indexrelid::regclass, pg_get_indexdef(i.indexrelid)
    FROM pg_index i
    WHERE i.indrelid = %s::regclass AND NOT EXISTS (SELECT 1 FROM pg_constraint c WHERE c.conindid = i.indexrelid AND c.contype <> 'f')
    ORDER BY 1
"""
_POSTGRESQL_REFERENCES = """
    SELECT format('ALTER TABLE %%s DROP CONSTRAINT %%I', conrelid::regclass, conname),
           format('ALTER TABLE %%s ADD CONSTRAINT %%I %%s', conrelid::regclass, conname, pg_get_constraintdef(oid))
    FROM pg_constraint WHERE contype = 'f' AND conrelid = %s::regclass ORDER BY 1
"""


def remove(connection: BaseDatabaseWrapper) -> None:
    """Remove the indexes of the tables that a backup fills, and on PostgreSQL their references, and remember them."""
    quote = connection.ops.quote_name
    removed: list[str] = []
    again: list[str] = []
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            # What was asked of references so far is looked at now: a table with waiting checks cannot be altered.
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
            cursor.execute("SET CONSTRAINTS ALL DEFERRED")
            # References after indexes: checking them wants the indexes.
            for query in (_POSTGRESQL_INDEXES, _POSTGRESQL_REFERENCES):
                for shape in table_shapes():
                    cursor.execute(query, [quote(shape.table)])
                    for drop, make in cursor.fetchall():
                        removed.append(drop)
                        again.append(make)
        else:
            for shape in table_shapes():
                cursor.execute(_SQLITE, [shape.table])
                for name, make in cursor.fetchall():
                    removed.append(f"DROP INDEX {quote(name)}")
                    again.append(make)
        for statement in removed:
            cursor.execute(statement)
    _waiting[connection.alias] = again


def make(connection: BaseDatabaseWrapper) -> None:
    """Make again what ``remove`` removed. Raises ``IntegrityError`` for rows that do not fit."""
    with connection.cursor() as cursor:
        for statement in _waiting.pop(connection.alias, []):
            cursor.execute(statement)


register_bulk("indexes", before=remove, after=make)
