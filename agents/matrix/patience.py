"""Waiting as long as a homeserver asks for, where somebody has time: a sync in client mode, not the sending of a message.

An appservice is usually exempt from limits; ordinary accounts are not, and a few seconds between two requests are what they are
asked for.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from agents.matrix.errors import RateLimited

# A longer wait is for the next pass.
LONGEST = 15.0
_until: ContextVar[float] = ContextVar("patience_until", default=0.0)


@contextmanager
def patiently(seconds: float) -> Iterator[None]:
    """Inside, requests of this thread wait for the homeserver, in all until ``seconds`` are over."""
    former = _until.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _until.reset(former)


def waited(error: RateLimited) -> bool:
    """Wait as long as the homeserver asks for, if there is patience left for it; ``False`` at once where there is none."""
    pause = max(error.retry_after or 1.0, 0.05)
    if pause > LONGEST or time.monotonic() + pause > _until.get():
        return False
    time.sleep(pause)
    return True
