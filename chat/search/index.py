"""The databases' own indexes of parts of words: FTS5 with trigrams on SQLite, pg_trgm on PostgreSQL.

Kept by the database in the transaction that stores a message: what is taken back is found no more from that moment on. On SQLite they
are triggers on ``chat_message``: a migration that rebuilds the table drops them and must call ``install`` again; a test notices.
Where PostgreSQL has no pg_trgm (it belongs to the server's contrib package), search works without, only slower.
"""

from __future__ import annotations

from typing import Any

from django.db import DatabaseError, transaction

# Of the table (SQLite) or the index (PostgreSQL).
TABLE = "chat_message_parts"
# Shorter terms have no three letters in a row to be found by.
SHORTEST_INDEXED = 3

_SQLITE = (
    "CREATE VIRTUAL TABLE IF NOT EXISTS chat_message_parts USING fts5("
    "text, content='chat_message', content_rowid='id', tokenize='trigram')",
    """
    CREATE TRIGGER IF NOT EXISTS chat_message_parts_added AFTER INSERT ON chat_message
    BEGIN INSERT INTO chat_message_parts(rowid, text) VALUES (new.id, new.text); END
    """,
    """
    CREATE TRIGGER IF NOT EXISTS chat_message_parts_removed AFTER DELETE ON chat_message
    BEGIN INSERT INTO chat_message_parts(chat_message_parts, rowid, text) VALUES ('delete', old.id, old.text); END
    """,
    """
    CREATE TRIGGER IF NOT EXISTS chat_message_parts_changed AFTER UPDATE OF text ON chat_message
    WHEN old.text IS NOT new.text BEGIN
        INSERT INTO chat_message_parts(chat_message_parts, rowid, text) VALUES ('delete', old.id, old.text);
        INSERT INTO chat_message_parts(rowid, text) VALUES (new.id, new.text);
    END
    """,
    "INSERT INTO chat_message_parts(chat_message_parts) VALUES ('rebuild')",
)
_SQLITE_REMOVE = (
    "DROP TRIGGER IF EXISTS chat_message_parts_added",
    "DROP TRIGGER IF EXISTS chat_message_parts_removed",
    "DROP TRIGGER IF EXISTS chat_message_parts_changed",
    "DROP TABLE IF EXISTS chat_message_parts",
)
# A short list of what is not sorted in yet: many small pauses of whoever writes, instead of a few long ones.
_POSTGRESQL = """
CREATE INDEX IF NOT EXISTS chat_message_parts ON chat_message USING gin (text gin_trgm_ops) WITH (gin_pending_list_limit = 512)
"""


def install(connection: Any) -> bool:
    """Make the index; what is there is kept, and read anew on SQLite. False: this database cannot have one."""
    if connection.vendor == "sqlite":
        _execute(connection, _SQLITE)
        return True
    if connection.vendor != "postgresql":
        return False
    try:
        # Of its own, so that a server that refuses does not end the migration.
        with transaction.atomic(using=connection.alias):
            _execute(connection, ("CREATE EXTENSION IF NOT EXISTS pg_trgm",))
    except DatabaseError:
        return False
    _execute(connection, (_POSTGRESQL,))
    return True


def remove(connection: Any) -> None:
    """Drop the index."""
    if connection.vendor == "sqlite":
        _execute(connection, _SQLITE_REMOVE)
    elif connection.vendor == "postgresql":
        _execute(connection, ("DROP INDEX IF EXISTS chat_message_parts",))


def is_installed(connection: Any) -> bool:
    """Whether the index is there, and kept."""
    query = {
        "sqlite": "SELECT count(*) = 3 FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'chat_message_parts_%'",
        "postgresql": "SELECT count(*) = 1 FROM pg_indexes WHERE indexname = 'chat_message_parts' AND schemaname = current_schema()",
    }.get(connection.vendor)
    if query is None:
        return False
    with connection.cursor() as cursor:
        cursor.execute(query)
        return bool(cursor.fetchone()[0])


def _execute(connection: Any, statements: tuple[str, ...]) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
