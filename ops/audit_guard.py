"""The database's own guard over the audit log: triggers that refuse UPDATE and DELETE, whoever asks.

Deletion passes only while an ``AuditPruning`` row is open, which ``ops.services.audit.prune`` opens and closes in one
transaction. A migration that rebuilds the table on SQLite drops its triggers and must call ``install`` again; a test notices.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_SQLITE = (
    """
    CREATE TRIGGER IF NOT EXISTS ops_audit_no_update BEFORE UPDATE ON ops_auditevent
    BEGIN SELECT RAISE(ABORT, 'audit events are append-only'); END
    """,
    """
    CREATE TRIGGER IF NOT EXISTS ops_audit_no_delete BEFORE DELETE ON ops_auditevent
    WHEN NOT EXISTS (SELECT 1 FROM ops_auditpruning WHERE open)
    BEGIN SELECT RAISE(ABORT, 'audit events are append-only'); END
    """,
)

_POSTGRESQL = (
    """
    CREATE OR REPLACE FUNCTION ops_audit_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'DELETE' AND EXISTS (SELECT 1 FROM ops_auditpruning WHERE open) THEN
            RETURN OLD;
        END IF;
        RAISE EXCEPTION 'audit events are append-only' USING ERRCODE = 'integrity_constraint_violation';
    END $$
    """,
    "DROP TRIGGER IF EXISTS ops_audit_no_change ON ops_auditevent",
    """
    CREATE TRIGGER ops_audit_no_change BEFORE UPDATE OR DELETE ON ops_auditevent
    FOR EACH ROW EXECUTE FUNCTION ops_audit_refuse()
    """,
    "DROP TRIGGER IF EXISTS ops_audit_no_truncate ON ops_auditevent",
    """
    CREATE TRIGGER ops_audit_no_truncate BEFORE TRUNCATE ON ops_auditevent
    FOR EACH STATEMENT EXECUTE FUNCTION ops_audit_refuse()
    """,
)

_REMOVE = {
    "sqlite": ("DROP TRIGGER IF EXISTS ops_audit_no_update", "DROP TRIGGER IF EXISTS ops_audit_no_delete"),
    "postgresql": (
        "DROP TRIGGER IF EXISTS ops_audit_no_change ON ops_auditevent",
        "DROP TRIGGER IF EXISTS ops_audit_no_truncate ON ops_auditevent",
    ),
}


def install(connection: Any) -> None:
    """Create the triggers; does nothing to those that exist."""
    _execute(connection, {"sqlite": _SQLITE, "postgresql": _POSTGRESQL}.get(connection.vendor, ()))


def remove(connection: Any) -> None:
    """Drop the triggers."""
    _execute(connection, _REMOVE.get(connection.vendor, ()))


def is_installed(connection: Any) -> bool:
    """True when the triggers exist."""
    query = {
        "sqlite": "SELECT count(*) FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'ops_audit_no_%'",
        "postgresql": "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'ops_audit_no_%' AND NOT tgisinternal",
    }.get(connection.vendor)
    if query is None:
        return False
    with connection.cursor() as cursor:
        cursor.execute(query)
        return bool(cursor.fetchone()[0] >= 2)


@contextmanager
def lifted(connection: Any) -> Iterator[None]:
    """Without the guard, for emptying the whole database; it is back afterwards, also after an error."""
    had = is_installed(connection)
    if had:
        remove(connection)
    try:
        yield
    finally:
        if had:
            install(connection)


def _execute(connection: Any, statements: tuple[str, ...]) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
