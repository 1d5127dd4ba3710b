"""Stands in while there are no workers: the web process then says so itself, since nobody else would.

A thread looks every few seconds how long ago a worker reported. While one does, it does nothing at all. When none did for a minute, it
runs the few checks that say what is missing and sends the alerts; both are safe beside a worker that comes back in the middle.
"""

from __future__ import annotations

import threading
from datetime import datetime, timedelta

from django.conf import settings
from django.db import connections
from django.utils import timezone

from ops.locks import LockHeld, named_lock
from ops.logs import get_logger
from ops.models import Heartbeat

logger = get_logger(__name__)

EVERY = 15.0
# The same silence after which the check of the workers fails.
SILENCE = 60.0
START_TIME = timedelta(minutes=3)
CHECKS = ("db.reachable", "broker.reachable", "worker.alive")
_lock = threading.Lock()
_thread: threading.Thread | None = None
_stop = threading.Event()
_started: datetime | None = None


def start() -> None:
    """Start the watch of this process, once."""
    global _thread, _started
    with _lock:
        if _thread is not None and _thread.is_alive():
            return
        _stop.clear()
        _started = timezone.now()
        _thread = threading.Thread(target=_run, name="alerts watch", daemon=True)
        _thread.start()


def stop(seconds: float = 5.0) -> None:
    """End it, for tests and for an orderly shutdown."""
    _stop.set()
    if _thread is not None:
        _thread.join(seconds)


def look() -> bool:
    """One look; True when it had to stand in for the workers."""
    from ops.alerts.send import tell
    from ops.checks import worker_age
    from ops.runner import run_checks

    age = worker_age()
    if age is not None and age <= SILENCE:
        return False
    try:
        with named_lock("ops.run_checks", ttl=120):
            run_checks(CHECKS)
    except LockHeld:
        # Another web process does it; the alerts below are claimed one by one anyway.
        logger.debug("watch_checks_held")
    tell()
    return True


def may_judge() -> bool:
    """Whether a silence says anything: workers get time to start; the embedded one starts when everything else has."""
    if _started is None or timezone.now() - _started < START_TIME:
        return False
    return not settings.EMBEDDED or Heartbeat.objects.filter(seen_at__gt=_started).exists()


def _run() -> None:
    while not _stop.wait(EVERY):
        try:
            if may_judge():
                look()
        except Exception as error:
            # The database is away: nothing can be told from here, and the pings outwards have stopped or say so.
            logger.warning("watch_failed", error_type=type(error).__name__)
        finally:
            connections.close_all()
