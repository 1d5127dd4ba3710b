"""Waits for processes to end and to be ready."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

from ops.models import Process
from ops.processes.queries import alive, is_gone

END_SECONDS = 25.0
READY_SECONDS = 120.0
_PAUSE = 0.25


def until(true: Callable[[], bool], seconds: float) -> bool:
    """Ask again and again. False when it did not come true in time."""
    limit = time.monotonic() + seconds
    while not true():
        if time.monotonic() >= limit:
            return False
        time.sleep(_PAUSE)
    return True


def end_of(row: Process, seconds: float = END_SECONDS) -> bool:
    """Wait until the process has ended, or has begun anew under the same name."""

    def ended() -> bool:
        fresh = Process.objects.filter(pk=row.pk).only("started_at", "ended_at", "boot_id", "name", "pid").first()
        return fresh is None or fresh.ended_at is not None or fresh.started_at != row.started_at or is_gone(fresh)

    return until(ended, seconds)


def ready_one(role: str, *, since: datetime, seconds: float = READY_SECONDS) -> Process | None:
    """Wait for a process of the role that started after ``since`` and is ready; None when there is none in time."""
    found: list[Process] = []

    def ready() -> bool:
        found[:] = [r for r in alive((role,)) if r.started_at >= since and r.ready_after_seconds is not None]
        return bool(found)

    return found[0] if until(ready, seconds) else None
