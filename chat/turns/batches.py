"""Turns that one task named: a thread runs them one after the other, since a task costs as much as a short turn.

One that waits for others (its backend, a homeserver) longer than a moment holds nobody up: the rest is woken elsewhere. Only waiting
counts. Where the processor is what is scarce, every turn takes longer than a moment, and a task more for each would make it scarcer.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from chat.wakeup import wake_turns
from ops.logs import get_logger

log = get_logger(__name__)

# Seconds after which a turn is one that waits.
A_MOMENT = 0.1


class _Batch:
    """What is left of one task's turns, and how long the one under way (with those behind it in its lane) has waited for others."""

    def __init__(self, pks: Sequence[int]) -> None:
        self._rest = deque(pks)
        self._lock = threading.Lock()
        self._waited = 0.0
        self._waits_since: float | None = None

    def take(self) -> int | None:
        """The next turn; None when there is none left."""
        with self._lock:
            self._waited = 0.0
            return self._rest.popleft() if self._rest else None

    def take_all(self) -> list[int]:
        """What is left, which is nothing from here on."""
        with self._lock:
            rest, self._rest = list(self._rest), deque()
        return rest

    def waits(self) -> None:
        """It waits from now on."""
        self._waits_since = time.monotonic()

    def goes_on(self) -> None:
        """It waits no longer."""
        if self._waits_since is not None:
            self._waited += time.monotonic() - self._waits_since
        self._waits_since = None

    def waited(self) -> float:
        """Seconds for which the turn under way has waited, if it waits at this moment; else 0."""
        since = self._waits_since
        return 0.0 if since is None else self._waited + time.monotonic() - since


class _Watcher:
    """One thread that looks at the batches of this process while there are any."""

    def __init__(self) -> None:
        self._batches: set[_Batch] = set()
        self._lock = threading.Lock()
        self._any = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, batch: _Batch) -> None:
        with self._lock:
            self._batches.add(batch)
            self._any.set()
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="batches", daemon=True)
                self._thread.start()

    def remove(self, batch: _Batch) -> None:
        with self._lock:
            self._batches.discard(batch)
            if not self._batches:
                self._any.clear()

    def _run(self) -> None:
        while True:
            self._any.wait()
            time.sleep(A_MOMENT / 2)
            try:
                self._look()
            except Exception:
                log.exception("batches.not_looked_at")

    def _look(self) -> None:
        with self._lock:
            batches = list(self._batches)
        for batch in batches:
            if batch.waited() >= A_MOMENT:
                # One by one: those that waited together once would wait for each other again.
                for pk in batch.take_all():
                    wake_turns([pk])


_watcher = _Watcher()
_here = threading.local()


def run_batch(pks: Sequence[int], run: Callable[[int], None]) -> None:
    """Call ``run`` for one after the other, or pass those on that would have to wait. Passing one on that runs already does no harm."""
    if len(pks) == 1:
        run(pks[0])
        return
    batch = _Batch(pks)
    _watcher.add(batch)
    _here.batch = batch
    try:
        while (pk := batch.take()) is not None:
            run(pk)
    finally:
        _here.batch = None
        _watcher.remove(batch)


@contextmanager
def waiting() -> Iterator[None]:
    """What is done in here may have to wait for a backend or a homeserver."""
    batch: _Batch | None = getattr(_here, "batch", None)
    if batch is None:
        yield
        return
    batch.waits()
    try:
        yield
    finally:
        batch.goes_on()
