"""Statements that fail because the database is locked: for real, by a second connection that holds the write lock for a moment."""

from __future__ import annotations

from typing import Any

from django.db import DEFAULT_DB_ALIAS, OperationalError, connections

from ops.doctor.faults import FaultRefused, register_fault
from ops.doctor_data import lock_errors, sqlite
from ops.models import Sighting


def cause() -> dict[str, Any]:
    """Hold the lock, and let statements of ours run into it that wait a few milliseconds only."""
    if not sqlite.is_sqlite():
        raise FaultRefused("On PostgreSQL it takes a server of one's own to hold locks for seconds.")
    before = set(
        Sighting.objects.filter(service=lock_errors.SERVICE, kind=lock_errors.KIND).values_list("pk", flat=True)
    )
    with sqlite.raw(timeout=20) as holder, connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout=20")
        holder.execute("BEGIN IMMEDIATE")
        try:
            for _ in range(5):
                try:
                    cursor.execute("UPDATE ops_namedlock SET fence = fence WHERE name = ''")
                except OperationalError:
                    continue
        finally:
            holder.execute("ROLLBACK")
    connections[DEFAULT_DB_ALIAS].close()
    lock_errors.settle_down()
    rows = Sighting.objects.filter(service=lock_errors.SERVICE, kind=lock_errors.KIND)
    return {"rows": list(rows.exclude(pk__in=before).values_list("pk", flat=True))}


def heal(memory: dict[str, Any]) -> None:
    """Forget what was counted."""
    lock_errors.settle_down()
    Sighting.objects.filter(service=lock_errors.SERVICE, kind=lock_errors.KIND).delete()


register_fault(
    "db.locked",
    title="Statements fail because the database is locked",
    cause=cause,
    heal=heal,
    evidence=("failed_last_hour", "journal_mode", "busy_timeout_ms"),
)
