"""Keeps the recent lines of this process as rows: a bounded queue that the log fills, a thread that empties it.

Whoever logs pays for one copy of a small dictionary and never waits: a full queue drops lines and counts them, the less important
ones first. What the writing thread logs itself is not kept, so nothing can go round in a circle.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from django.db import DatabaseError, OperationalError, ProgrammingError
from django.db.utils import InterfaceError

from ops import disk_guard
from ops.logbook.rows import RANKS, level_of, to_row
from ops.models import LogLine
from ops.redaction import redact_text

CAPACITY = 5000
# Above this share of the queue only warnings and errors are let in.
_TIGHT = 0.8
AT_ONCE = 500

_writing = threading.local()
_NOT_THERE = (OperationalError, ProgrammingError, InterfaceError)


class Keeper:
    """Takes redacted records (``take``), writes them as rows (``flush``). ``wake`` is called for errors, which should be seen soon."""

    def __init__(
        self,
        *,
        role: str,
        process: str,
        capacity: int = CAPACITY,
        wanted: Callable[[str, int], bool] | None = None,
        wake: Callable[[], None] | None = None,
    ) -> None:
        self.role, self.process, self.capacity = role, process, capacity
        self.kept = self.dropped = self.unfit = self.spared = 0
        self.trouble = ""
        self._wanted = wanted or (lambda logger, rank: rank >= RANKS["info"])
        self._wake = wake
        # Appending, popping and measuring a deque are atomic: whoever logs needs no lock.
        self._lines: deque[dict[str, Any]] = deque()

    def take(self, event: Mapping[str, Any]) -> None:
        """Called by the log's pipeline, in whichever thread logs."""
        if getattr(_writing, "on", False):
            return
        rank = RANKS[level_of(event)]
        if not self._wanted(str(event.get("logger", "")), rank):
            return
        waiting = len(self._lines)
        if waiting >= self.capacity or (waiting >= self.capacity * _TIGHT and rank < RANKS["warning"]):
            self.dropped += 1
            return
        self._lines.append(dict(event))
        if rank >= RANKS["error"] and self._wake is not None:
            self._wake()

    @property
    def waiting(self) -> int:
        """Lines that are not written yet."""
        return len(self._lines)

    def flush(self, at_once: int = AT_ONCE) -> int:
        """Write what waits, at most ``at_once`` lines; returns how many rows came to be. Never raises."""
        taken: list[dict[str, Any]] = []
        while self._lines and len(taken) < at_once:
            taken.append(self._lines.popleft())
        with unkept():
            taken = self._within_room(taken)
        if not taken:
            return 0
        with unkept():
            try:
                written = self._write(taken)
            except _NOT_THERE as error:
                # The database is away, or has no tables yet: the lines wait for it as long as there is room.
                self.trouble = redact_text(f"{type(error).__name__}: {error}")[:300]
                self._lines.extendleft(reversed(taken))
                return 0
            except Exception as error:
                self.trouble = redact_text(f"{type(error).__name__}: {error}")[:300]
                self.unfit += len(taken)
                return 0
        self.trouble = ""
        self.kept += written
        return written

    def _within_room(self, taken: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """While the disk is nearly full only errors become rows; the others are counted as spared. All of them reach standard error."""
        if not taken or not disk_guard.may("logs"):
            return taken
        kept = [event for event in taken if RANKS[level_of(event)] >= RANKS["error"]]
        self.spared += len(taken) - len(kept)
        return kept

    def _write(self, taken: list[dict[str, Any]]) -> int:
        rows = []
        for event in taken:
            try:
                rows.append(to_row(event, role=self.role, process=self.process))
            except Exception:
                self.unfit += 1
        try:
            LogLine.objects.bulk_create(rows, batch_size=200)
            return len(rows)
        except _NOT_THERE:
            raise
        except (DatabaseError, ValueError, TypeError):
            return sum(self._write_one(row) for row in rows)

    def _write_one(self, row: LogLine) -> int:
        """One line that no database wants must not cost the others their place."""
        row.pk = None
        try:
            row.save(force_insert=True)
        except _NOT_THERE:
            raise
        except Exception:
            self.unfit += 1
            return 0
        return 1

    def facts(self) -> dict[str, Any]:
        """How it fares: ``{kept, dropped, unfit, waiting, trouble, spared, paused}``; ``paused`` says why only errors are kept at this moment."""
        with unkept():
            paused = disk_guard.may("logs")
        return {
            "kept": self.kept,
            "dropped": self.dropped,
            "unfit": self.unfit,
            "waiting": self.waiting,
            "trouble": self.trouble,
            "spared": self.spared,
            "paused": paused,
        }


class unkept:
    """``with unkept():`` what this thread logs inside is not kept as rows."""

    def __enter__(self) -> None:
        self._before = getattr(_writing, "on", False)
        _writing.on = True

    def __exit__(self, *exc: object) -> None:
        _writing.on = self._before
