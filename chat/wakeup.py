"""Wakes workers after a commit. A lost wake-up costs a sweep's interval, never a message."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from celery import current_app

from ops.logs import get_logger

log = get_logger(__name__)

# Tasks are called by name: what wakes a worker must not depend on what the worker does.
RUN_TURN, DELIVER, CATCH_UP = "chat.run_turn", "chat.deliver", "chat.catch_up"
RESET_MAIL = "chat.reset_mail"
LONGEST_TIMER = 30.0
# So many turns are named by one task. A worker whose turn takes longer than a moment passes the others on.
AT_ONCE = 8
# After a failure the broker is left alone for so many seconds.
BROKER_RESTS = 3.0
_broker_rests_until = 0.0


def wake_turns(ids: Iterable[int]) -> None:
    """Tell workers that these turns may be claimed: a few with one task, since a task costs as much as a short turn."""
    every = list(ids)
    for start in range(0, len(every), AT_ONCE):
        _send(RUN_TURN, *every[start : start + AT_ONCE])


def wake_deliveries(ids: Iterable[int]) -> None:
    """Tell a worker that these deliveries may be sent."""
    for pk in ids:
        _send(DELIVER, pk)


def wake_catch_up() -> None:
    """Tell a worker to walk the rooms that may have lost events."""
    _send(CATCH_UP)


def wake_reset_mail(attempt_id: int) -> None:
    """Tell a worker that somebody asked for a new password."""
    _send(RESET_MAIL, attempt_id)


def wake_turns_later(pk: int, seconds: float) -> None:
    """Wake a turn when its delay is over."""
    _later(wake_turns, pk, seconds)


def wake_deliveries_later(pk: int, seconds: float) -> None:
    """Wake a delivery when its delay is over."""
    _later(wake_deliveries, pk, seconds)


def _later(wake: Callable[[Iterable[int]], None], pk: int, seconds: float) -> None:
    """Short delays get a timer of this process; the sweep finds the others, and those whose process has gone."""
    if seconds <= LONGEST_TIMER:
        timer = threading.Timer(seconds + 0.01, wake, args=([pk],))
        timer.daemon = True
        timer.start()


def _send(task: str, *ids: int) -> None:
    global _broker_rests_until
    if time.monotonic() < _broker_rests_until:
        return
    try:
        current_app.send_task(task, ids, ignore_result=True, retry=False)
    except Exception as error:
        # The broker is down. The row is there, and the sweep finds it; whoever waits for this commit must not fail,
        # nor wait for the broker's time-out once more for each row that follows.
        _broker_rests_until = time.monotonic() + BROKER_RESTS
        log.warning("wakeup.lost", error=f"{type(error).__name__}: {error}"[:300])
