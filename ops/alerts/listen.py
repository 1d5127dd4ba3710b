"""Wakes the sender when an issue opens or closes, so that nobody waits for beat's next tick."""

from __future__ import annotations

import threading
import time

from ops.doctor.issues import IssueEvent, on_issue
from ops.logs import get_logger
from ops.models import Issue

logger = get_logger(__name__)

# One wake-up is enough for all that one run of the checks opens; it comes when the run has ended.
_EVERY = 1.0
_lock = threading.Lock()
_last = 0.0


@on_issue
def wake_sender(event: IssueEvent, issue: Issue) -> None:
    """Ask a worker to tell what is new. Without broker or worker, beat's tick or the web process's watch does it later."""
    global _last
    from ops.tasks import alerts

    with _lock:
        if time.monotonic() - _last < _EVERY:
            return
        _last = time.monotonic()
    try:
        alerts.apply_async(countdown=_EVERY, expires=60, retry=False)
    except Exception as error:
        logger.warning("alerts_not_woken", error=str(error))
