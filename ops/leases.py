"""Work that one worker at a time holds: claimed with one conditional UPDATE, fenced by a number, kept alive by a lease.

A worker that was thought dead cannot write: every write after the claim names the fencing number, and the next claim has
raised it. (The idea: Kleppmann, "How to do distributed locking", 2016, fencing tokens.)
"""

from __future__ import annotations

import os
import socket
from contextlib import nullcontext
from datetime import datetime, timedelta
from typing import Any, TypeVar

from django.db import IntegrityError, models, transaction
from django.utils import timezone

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


Row = TypeVar("Row", bound=LeasedWork)


def worker_name() -> str:
    """``host:pid:start``: enough to tell whether the holder of a lease on this host is still the same process."""
    pid = os.getpid()
    return f"{socket.gethostname()}:{pid}:{_started(pid)}"


def _started(pid: int) -> str:
    """The process's start time in clock ticks (field 22 of /proc/PID/stat), "" where there is no such file."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[19]
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


def claim(rows: models.QuerySet[Row], **fields: Any) -> bool:
    """Take one queued row (``rows`` must name exactly one) if it still is to be had. False: somebody else has it."""
    now = timezone.now()
    # One statement needs no transaction of its own; inside of another one, its failure must leave that one usable.
    guard = transaction.atomic if transaction.get_connection().in_atomic_block else nullcontext
    try:
        with guard():
            return (
                rows.filter(state="queued", not_before__lte=now).update(
                    state="running",
                    fence=models.F("fence") + 1,
                    worker=WORKER,
                    lease_until=now + timedelta(seconds=LEASE_SECONDS),
                    **fields,
                )
                == 1
            )
    except IntegrityError:
        # The lane's constraint: another row of the lane runs.
        return False


def fenced_update(row: Row, **fields: Any) -> bool:
    """Write to a claimed row. False: the lease was lost, and nothing was written; the caller must stop."""
    return type(row)._default_manager.filter(pk=row.pk, fence=row.fence, state="running").update(**fields) == 1


def renew(row: Row, **fields: Any) -> bool:
    """Prolong the lease, writing ``fields`` along. False: the lease was lost."""
    return fenced_update(row, lease_until=lease_end(), **fields)


def lease_end(now: datetime | None = None) -> datetime:
    return (now or timezone.now()) + timedelta(seconds=LEASE_SECONDS)


WORKER = worker_name()
