"""Work that one worker at a time holds: claimed with one conditional UPDATE, fenced by a number, kept alive by a lease.

A worker that was thought dead cannot write: every write after the claim names the fencing number, and the next claim has
raised it. (The idea: Kleppmann, "How to do distributed locking", 2016, fencing tokens.)
"""

from __future__ import annotations

import os
import socket
from contextlib import nullcontext
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, connection, models, transaction
from django.utils import timezone

from ops.quick_sql import update, update_returning

LEASE_SECONDS = 30.0


class LeasedWork(models.Model):
    """Base of rows that workers claim. ``lane``: of one lane only one row is ``running`` (a constraint of each table).

    ``attempts`` counts tries that count against the limit; ``fence`` counts claims.
    """

    lane = models.CharField(max_length=64)
    attempts = models.PositiveIntegerField(default=0)
    fence = models.PositiveIntegerField(default=0)
    worker = models.CharField(max_length=100, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    not_before = models.DateTimeField()

    class Meta:
        abstract = True


def worker_name() -> str:
    """``host:pid:start``: enough to tell whether the holder of a lease on this host is still the same process."""
    pid = os.getpid()
    return f"{socket.gethostname()}:{pid}:{_started(pid)}"


def _started(pid: int) -> str:
    """The process's start time in clock ticks (field 22 of /proc/PID/stat), "" where there is no such file. One that ended, and whose parent did
    not ask how yet (state Z, field 3), does nothing any more: it counts as gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
            return "" if fields[0] in ("Z", "X") else fields[19]
    except (OSError, IndexError):
        return ""


def holder_is_dead(worker: str) -> bool:
    """True when the lease's holder ran on this host and is certainly gone (killed, or its pid was given to another)."""
    host, _, rest = worker.rpartition(":")
    start = rest
    host, _, pid = host.rpartition(":")
    if host != socket.gethostname() or not pid.isdigit() or not start:
        return False
    return _started(int(pid)) != start


def holder_lives_here(worker: str) -> bool:
    """True when the lease's holder is a process of this host that certainly still runs."""
    host, _, start = worker.rpartition(":")
    host, _, pid = host.rpartition(":")
    return host == socket.gethostname() and pid.isdigit() and bool(start) and _started(int(pid)) == start


def claim(row: LeasedWork, *, unless: str, **fields: Any) -> bool:
    """Take a queued row if it still is as it was read and nothing holds it back. False: it is not to be had (now).

    One conditional UPDATE: it counts the attempt, raises the fencing number, sets the lease and ``fields``. ``unless`` is
    constant SQL that must not be true of the row (an earlier one of its line is open).
    """
    now = timezone.now()
    end = lease_end(now)
    # One statement needs no transaction of its own; inside of another one, its failure must leave that one usable.
    guard = transaction.atomic if transaction.get_connection().in_atomic_block else nullcontext
    due = connection.ops.adapt_datetimefield_value(now)
    try:
        with guard():
            taken = update(
                type(row),
                {"state": "running", "worker": WORKER, "lease_until": end, **fields},
                plus_one=("fence", "attempts"),
                also=(f"not_before <= %s AND NOT {unless}", (due,)),
                pk=row.pk,
                fence=row.fence,
                state="queued",
            )
    except IntegrityError:
        # The lane's constraint: another row of the lane runs.
        return False
    if taken != 1:
        return False
    for name, value in {"state": "running", "worker": WORKER, "lease_until": end, **fields}.items():
        setattr(row, name, value)
    row.fence += 1
    row.attempts += 1
    return True


def fenced_update(row: LeasedWork, **fields: Any) -> bool:
    """Write to a claimed row. False: the lease was lost, and nothing was written; the caller must stop."""
    return update(type(row), fields, pk=row.pk, fence=row.fence, state="running") == 1


def fenced_update_and_look(row: LeasedWork, column: str, **fields: Any) -> str | None:
    """As ``fenced_update``; returns what a text field of the row says, ``None`` when the lease was lost."""
    found = update_returning(type(row), fields, column, pk=row.pk, fence=row.fence, state="running")
    return found[0] if found else None


def renew(row: LeasedWork, **fields: Any) -> bool:
    """Prolong the lease, writing ``fields`` along. False: the lease was lost."""
    return fenced_update(row, lease_until=lease_end(), **fields)


def lease_end(now: datetime | None = None) -> datetime:
    return (now or timezone.now()) + timedelta(seconds=LEASE_SECONDS)


WORKER = worker_name()
