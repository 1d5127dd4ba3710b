"""The one thread of a process's logbook: writes lines and captured calls, follows levels, captures and wishes for profiles."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import threading
import time
from typing import Any

from django.db import close_old_connections, connections
from django.utils import timezone

from ops import live as live_settings
from ops.leases import WORKER
from ops.logbook.capture import Recorder
from ops.logbook.errands import Errands
from ops.logbook.keeper import CAPACITY, Keeper, unkept
from ops.logbook.levels import KEEP_KEY, Levels, wanted_levels
from ops.logbook.rows import RANKS
from ops.logbook.status import EVERY, write_status
from ops.logs import add_sink, remove_sink

TICK = 1.0
# Errors are written at once, but not more often than this.
_SHORTEST = 0.2
_LOOK_EVERY = 2.0
# A flood of lines must not keep it from everything else.
_ROUNDS = 6
_COMPLAIN_EVERY = 60.0

logger = logging.getLogger(__name__)


class Logbook:
    """The logbook of one process. ``start`` it once; everything it does happens in its own thread, which never raises."""

    def __init__(self, role: str, *, process: str = "", capacity: int = CAPACITY) -> None:
        self.role, self.process = role, process or WORKER
        self.levels = Levels()
        self.recorder = Recorder()
        self.errands = Errands(self.process)
        self.least = RANKS["info"]
        self.keeper = Keeper(
            role=role, process=self.process, capacity=capacity, wanted=self._is_wanted, wake=self._woken_by_error
        )
        self.dropped_at = ""
        self._dropped = 0
        self._started = timezone.now()
        self._wake, self._stop = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._looked = self._said = self._complained = float("-inf")

    def _is_wanted(self, name: str, rank: int) -> bool:
        return rank >= self.least or self.levels.covers(name, rank)

    def _woken_by_error(self) -> None:
        self._wake.set()

    @property
    def is_running(self) -> bool:
        """Whether its thread lives."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Take lines from now on, and write them."""
        add_sink(self.keeper.take)
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name="logbook", daemon=True)
        self._thread.start()

    def stop(self, seconds: float = 2.0) -> None:
        """Write what is left and end; says that it ended in order."""
        remove_sink(self.keeper.take)
        self._stop.set()
        self._wake.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(seconds)

    def _run(self) -> None:
        with unkept():
            while not self._stop.is_set():
                self._wake.wait(TICK)
                self._wake.clear()
                self.tick()
                self._stop.wait(_SHORTEST)
            self._part(self.keeper.flush, self.keeper.capacity)
            self._part(self.recorder.flush)
            self._part(self._say, True)
            self.levels.apply({})
            connections.close_all()

    def tick(self) -> None:
        """One round: write, look, say. Whatever fails is tried again at the next one."""
        # Connections are for as long as the settings say, as in a request.
        close_old_connections()
        for _ in range(_ROUNDS):
            if not self._part(self.keeper.flush) or not self.keeper.waiting:
                break
        self._part(self.recorder.flush)
        now = time.monotonic()
        if now - self._looked >= _LOOK_EVERY:
            self._looked = now
            self._part(self.look)
        if self.keeper.dropped != self._dropped:
            self._dropped, self.dropped_at = self.keeper.dropped, timezone.now().isoformat()
        if now - self._said >= EVERY:
            self._said = now
            self._part(self._say)
        close_old_connections()

    def look(self) -> None:
        """Follow what operators changed."""
        least = live_settings.live(KEEP_KEY)
        self.least = RANKS.get(least, 1000)
        if self.levels.apply(wanted_levels()):
            self._said = float("-inf")
        self.recorder.look()
        self.errands.look()

    def _say(self, ended: bool = False) -> None:
        facts: dict[str, Any] = {
            **self.keeper.facts(),
            "levels": self.levels.applied,
            "captures": self.recorder.captures,
            "dropped_at": self.dropped_at,
            "started": self._started.isoformat(),
            "ended": ended,
        }
        write_status(process=self.process, role=self.role, facts=facts)

    def _part(self, part: Any, *args: Any) -> Any:
        try:
            return part(*args)
        except Exception as error:
            now = time.monotonic()
            if now - self._complained > _COMPLAIN_EVERY:
                self._complained = now
                # Reaches standard error only: this thread's lines are not kept.
                logger.warning("logbook_part_failed: %s: %s", type(error).__name__, error)
            with contextlib.suppress(Exception):
                connections.close_all()
            return None


_current: Logbook | None = None
_lock = threading.Lock()


def current() -> Logbook | None:
    """The logbook of this process, when it keeps one."""
    return _current


def start(role: str) -> Logbook:
    """Begin this process's logbook; one that runs already goes on, whatever its role.

    Called where a process begins to report itself (``ops.processes.reporter``): those are the ones that stay.
    """
    global _current
    with _lock:
        if _current is None or not _current.is_running:
            if _current is not None:
                remove_sink(_current.keeper.take)
            _current = Logbook(role)
            _current.start()
        return _current


def stop() -> None:
    """End it: what is left is written. Nothing when there is none."""
    global _current
    with _lock:
        ending, _current = _current, None
    if ending is not None:
        ending.stop()


def _after_fork() -> None:
    """A forked child has the rows of its parent in its queue, and no thread to write them."""
    global _current, _lock
    _lock = threading.Lock()
    ending, _current = _current, None
    if ending is not None:
        remove_sink(ending.keeper.take)


atexit.register(stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
