"""Makes the rows of a database equal to those of a backup, in one transaction."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any

from django.db import DatabaseError, connections, transaction
from django.utils import timezone

from ops.backup import hooks
from ops.backup.cut import lift_limits
from ops.backup.diff import Difference, compare
from ops.backup.errors import BackupError
from ops.backup.hooks import Fence, Reconcile, register_fence, register_reconcile
from ops.backup.load import raise_sequences
from ops.backup.outside import follow, sweep
from ops.backup.rows import insert_rows
from ops.backup.scopes import kinds as all_kinds
from ops.backup.scopes import tables
from ops.backup.sealed import SealedRows
from ops.backup.shapes import TableShape
from ops.backup.since import Choice
from ops.backup.staging import Staging
from ops.findings import Finding
from ops.models.restore import RestoreEpoch

__all__ = ["Applied", "Fence", "Reconcile", "apply_staged", "fence_in", "register_fence", "register_reconcile"]

_BATCH = 500
# Seconds that PostgreSQL waits for whoever still writes.
_LOCK_SECONDS = 60


@dataclass(slots=True)
class Applied:
    """What was done. ``swept``: rows of tables outside of the backup that went with what they referred to."""

    difference: Difference
    epoch: int
    swept: Counter[str]
    findings: list[Finding] = field(default_factory=list)


def apply_staged(
    staging: Staging,
    alias: str,
    *,
    kinds: Collection[str],
    backup_keys: Collection[str],
    cut_at: datetime,
    restore_id: uuid.UUID | None,
    choice: Choice | None = None,
    in_transaction: Callable[[Applied], None] = lambda applied: None,
    progress: Callable[[str], None] = lambda text: None,
) -> Applied:
    """Compare what was staged with the database and change what differs, in one transaction, which ``in_transaction`` may add to.
    ``choice``: what becomes of what was made since the cut (``ops.backup.since``).

    Whoever calls it holds everybody else still; PostgreSQL's tables are locked all the same. Raises ``BackupError`` with a sentence;
    then nothing is changed.
    """
    connection = connections[alias]
    sealed = SealedRows(backup_keys)
    try:
        with transaction.atomic(using=alias):
            _lock(connection)
            progress("Comparing")
            difference = compare(staging, alias, kinds, sealed, choice)
            progress("Changing rows")
            follow(staging, alias, difference.chosen)
            # The audit log is only added to: its guard stays in force.
            _write(staging, alias, difference)
            swept = sweep(alias, difference.chosen)
            raise_sequences(alias, [one.shape for one in difference.tables])
            applied = Applied(difference, 0, swept)
            progress("Fencing")
            applied.epoch = fence_in(
                alias, cut_at=cut_at, kinds=kinds, fresh=False, restore_id=restore_id, say=applied.findings.append
            )
            in_transaction(applied)
            connection.check_constraints()
    except DatabaseError as error:
        raise BackupError(
            f"The database did not take it: {' '.join(str(error).split())[:300]}. Nothing was changed."
        ) from error
    return applied


def _lock(connection: Any) -> None:
    """On PostgreSQL nobody writes any of our tables until the end; others may read. On SQLite the transaction itself is such a lock."""
    if connection.vendor != "postgresql":
        return
    names = ", ".join(connection.ops.quote_name(model._meta.db_table) for model in tables() if _is_locked(model))
    with connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL lock_timeout = '{_LOCK_SECONDS}s'")
        lift_limits(cursor)
        cursor.execute(f"LOCK TABLE {names} IN EXCLUSIVE MODE")


def _is_locked(model: Any) -> bool:
    """Not those that say what runs: whoever holds still says so meanwhile, jobs and processes show that they live."""
    return model._meta.label not in (
        "ops.NamedLock",
        "ops.Job",
        "ops.JobLine",
        "ops.Heartbeat",
        "ops.Process",
        "ops.LogLine",
    )


def _write(staging: Staging, alias: str, difference: Difference) -> None:
    for one in difference.tables:
        _remove(staging, alias, one.shape)
    for one in difference.tables:
        rows = (row for _, row in staging.todo(one.shape.label, "insert") if row is not None)
        insert_rows(alias, one.shape, rows)


def _remove(staging: Staging, alias: str, shape: TableShape) -> None:
    connection = connections[alias]
    quote = connection.ops.quote_name
    # As text, PostgreSQL reads them; SQLite keeps UUIDs without dashes.
    plain = connection.vendor == "postgresql" or shape.column(shape.pk).type != "uuid"
    waiting = (pk if plain else pk.replace("-", "") for pk, _ in staging.todo(shape.label, "remove"))
    with connection.cursor() as cursor:
        while batch := list(islice(waiting, _BATCH)):
            marks = ", ".join(["%s"] * len(batch))
            cursor.execute(f"DELETE FROM {quote(shape.table)} WHERE {quote(shape.pk)} IN ({marks})", batch)


def fence_in(
    alias: str,
    *,
    cut_at: datetime,
    kinds: Collection[str],
    fresh: bool,
    restore_id: uuid.UUID | None,
    say: Callable[[Finding], None],
) -> int:
    """Begin a new epoch and have all fences done, in the caller's transaction. Returns the epoch's number."""
    now = timezone.now()
    row = RestoreEpoch.objects.using(alias).order_by("pk").first() or RestoreEpoch()
    row.number, row.at, row.cut_at, row.restore_id = row.number + 1, now, cut_at, restore_id
    row.save(using=alias)
    names = tuple(kinds) or tuple(kind.name for kind in all_kinds())
    fence = Fence(alias=alias, cut_at=cut_at, now=now, epoch=row.number, kinds=names, fresh=fresh, say=say)
    for function in hooks.fences().values():
        function(fence)
    return row.number
