"""Stands in while there are no workers: the web process then sends the alerts, since nobody else would.

That no worker is left is noticed by ``ops.processes.watch``, which runs the few checks that say so. A thread here looks every few seconds
how long ago a worker reported. While one does, it does nothing at all; when none did for a minute, it sends what is due. That is safe
beside a worker that comes back in the middle: each message is claimed by whoever sends it.
"""

from __future__ import annotations

import threading

from django.db import connections

from ops.logs import get_logger

logger = get_logger(__name__)

EVERY = 15.0
# The same silence after which the check of the workers fails.
SILENCE = 60.0
_lock = threading.Lock()
_thread: threading.Thread | None = None
_stop = threading.Event()


def start() -> None:
    """Start the watch of this process, once."""
    global _thread
    with _lock:
        if _thread is not None and _thread.is_alive():
            return
        _stop.clear()
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

    age = worker_age()
    if age is not None and age <= SILENCE:
        return False
    tell()
    return True


def _run() -> None:
    while not _stop.wait(EVERY):
        try:
            look()
        except Exception as error:
            # The database is away: nothing can be told from here, and the pings outwards have stopped or say so.
            logger.warning("watch_failed", error_type=type(error).__name__)
        finally:
            connections.close_all()
