"""Somebody has to notice when no worker is left: the workers run the checks.

So the processes that are no workers look, whenever they report, whether one lives; if none does they run the few checks that
say so, and whoever listens to issues hears of it.
"""

from __future__ import annotations

import threading
from datetime import timedelta

from django.db import connections
from django.db.models import Max
from django.utils import timezone

from ops.logs import get_logger

log = get_logger(__name__)

ROLES = ("up", "web", "beat")
# Those that run when no worker does.
CHECKS = ("db.reachable", "broker.reachable", "svc.down", "svc.stack_start", "worker.alive", "api.down")
# Beat sends the checks every 15 seconds; so long without any and something is wrong with whoever runs them.
OVERDUE = timedelta(seconds=90)

_busy = threading.Lock()


def look() -> bool:
    """Run the checks in a thread of their own when nobody else does. True when they were needed."""
    if not _needed():
        return False
    if _busy.acquire(blocking=False):
        threading.Thread(target=_run, name="process watch", daemon=True).start()
    return True


def _needed() -> bool:
    from ops.models import CheckState
    from ops.processes.queries import alive

    if not alive(("worker", "up")):
        return True
    newest = CheckState.objects.aggregate(newest=Max("checked_at"))["newest"]
    return newest is not None and timezone.now() - newest > OVERDUE


def _run() -> None:
    try:
        run_now()
    except Exception:
        log.exception("process_watch_failed")
    finally:
        _busy.release()
        connections.close_all()


def run_now() -> None:
    """Run those of the checks that are due, unless another process is at it."""
    from ops.locks import LockHeld, named_lock
    from ops.registry import get_check
    from ops.runner import run_checks

    try:
        with named_lock("ops.watch", ttl=60):
            run_checks([id for id in CHECKS if get_check(id) is not None], only_due=True)
    except LockHeld:
        return
