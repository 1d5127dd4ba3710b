"""When room runs low, what can wait waits: backups, exports, files that people send, rows of the log, captures.

The database goes on: what is left is kept for it. Whoever begins such work asks ``may`` first; nothing is switched back on by hand,
since every question looks at the disk (at most once in two seconds for each folder).
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings

from ops.live import live, register_live

RESERVE = "disk.reserve_mb"
# Going on needs a bit more room than pausing did, so that it does not go to and fro at the edge.
_EASE = 1.2
_MB = 1024 * 1024
_LOOK_EVERY = 2.0
_BUDGET_EVERY = 15.0
# Files without a number left are as bad as no room; file systems that have no such limit say 0.
_LEAST_FILES = 1000

# What waits, and how it is said.
WORKS: dict[str, str] = {
    "backup": "Backups wait",
    "drill": "Drills wait",
    "export": "Exports wait",
    "attachment": "Files are not taken",
    "upload": "Files are not taken",
    "capture": "Calls are not captured",
    "logs": "Lines of the log below errors are not kept as rows",
}

WAITING = "Until there is room, backups, exports, files that people send, captures and rows of the log wait."


@dataclass(frozen=True, slots=True)
class Room:
    """What is free where a folder lies. ``low`` says in words what is short; "": there is enough."""

    free: int
    low: str


@dataclass(slots=True)
class _Known:
    """What this process last read of the database. ``over``: the sentence of an operator's own limit, when it is passed."""

    reserve: int = 500 * _MB
    over: str = ""
    over_at: float = float("-inf")


_known = _Known()
_seen: dict[str, tuple[float, Room]] = {}
_lock = threading.Lock()


def _reserve(given: Any) -> int:
    try:
        number = int(given)
    except (TypeError, ValueError):
        number = -1
    if number < 0 or isinstance(given, bool):
        raise ValueError("Give megabytes as a whole number; 0 never pauses anything.")
    return number


register_live(
    RESERVE,
    label="Room that is kept for the database (MB)",
    help="With less than this free, backups, exports, files that people send, captures and rows of the log wait until there is room again. "
    "0 never pauses anything.",
    parse=_reserve,
    default=lambda: 500,
)


def may(work: str, *, needs: int = 0, folder: Path | None = None, asked_for: str = "") -> str:
    """Whether work that can wait may begin: "" when it may, else a sentence that says why not and how it goes on.

    ``work`` is one of ``WORKS``; ``needs`` is about how many bytes it writes; ``folder`` is where to (the data directory, when not given).
    ``asked_for``: somebody asked for just this one, which does not begin by itself later ("There is no room to compare the backup").
    """
    said = asked_for or WORKS[work]
    place = folder or Path(settings.DATA_DIR)
    reserve = reserve_bytes()
    if not reserve:
        return ""
    room = _room(place, reserve)
    if short := room.low or _over_budget():
        return f"{said}: {short}. {'Make room, then ask for it again.' if asked_for else 'It goes on by itself when there is room.'}"
    if needs and room.free - needs < reserve:
        return (
            f"{said}: about {_text(needs)} are needed, {_text(room.free)} are free where {place} lies, and {_text(reserve)} of them are "
            "kept for the database. Make room: python manage.py repair disk.cleanup."
        )
    return ""


def paused() -> list[str]:
    """What waits at present, in sentences; for pages and the check of the disk. Empty when nothing does."""
    return [sentence for work in WORKS if work not in _ALIKE and (sentence := may(work))]


def shortage(folder: Path | None = None) -> str:
    """What is short, "" when nothing is: for a line above pages. Asks the disk and never the database: what an operator has set is known
    from the last ``look_around`` of this process."""
    if not _known.reserve:
        return ""
    return _room(folder or Path(settings.DATA_DIR), _known.reserve).low or _known.over


def look_around() -> None:
    """Learn what operators have set, for ``shortage``; every process does so every few seconds, beside its other reports."""
    reserve_bytes()
    _over_budget()


def look_now() -> str:
    """What the disk itself is short of at this moment, "" when nothing; for the check that measures the rest."""
    reserve = reserve_bytes()
    return _room(Path(settings.DATA_DIR), reserve, patience=0.0).low if reserve else ""


def reserve_bytes() -> int:
    """How much is kept free for the database."""
    _known.reserve = int(live(RESERVE)) * _MB
    return _known.reserve


def forget() -> None:
    """Look at the disk anew at the next question: after a clean-up, and between tests."""
    _seen.clear()
    _known.over, _known.over_at = "", float("-inf")


def learn(budget: int) -> None:
    """What the check of the disk has just measured: the limit that the data directory passes, in bytes; 0 when it passes none."""
    _known.over = f"the data directory uses more than the {_text(budget)} that it may" if budget else ""
    _known.over_at = time.monotonic()


# Said once for both, where all of them are listed.
_ALIKE = ("upload", "drill")


def _room(folder: Path, reserve: int, *, patience: float | None = None) -> Room:
    key, now = str(folder), time.monotonic()
    with _lock:
        known = _seen.get(key)
    if known is not None and now - known[0] < (_LOOK_EVERY if patience is None else patience):
        return known[1]
    room = _look(folder, reserve, was_low=bool(known and known[1].low))
    with _lock:
        _seen[key] = (now, room)
    return room


def _look(folder: Path, reserve: int, *, was_low: bool) -> Room:
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        free = shutil.disk_usage(place).free
        numbers = os.statvfs(place)
    except OSError:
        # Whoever writes there will be told what is wrong with it; that is no lack of room.
        return Room(0, "")
    limit = reserve * (_EASE if was_low else 1.0)
    if free < limit:
        more = f"; it goes on with {_text(limit)}" if was_low else ""
        return Room(
            free,
            f"only {_text(free)} are free where {folder} lies, and {_text(reserve)} are kept for the database{more}",
        )
    if numbers.f_files and numbers.f_favail < _LEAST_FILES:
        return Room(free, f"the file system of {folder} can hold only {numbers.f_favail} more files")
    return Room(free, "")


def _over_budget() -> str:
    """The sentence of an operator's own limit for the data directory; the check of the disk measures it."""
    from ops.models import CheckState

    now = time.monotonic()
    if now - _known.over_at < _BUDGET_EVERY:
        return _known.over
    try:
        state = CheckState.objects.filter(check_id="disk.space", status="fail").first()
        budget = int(state.evidence.get("budget_bytes") or 0) if state is not None else 0
    except Exception:
        # A full disk can stop the database; then free room decides.
        budget = 0
    learn(budget)
    return _known.over


def _text(size: float) -> str:
    from ops.doctor_data.usage import text

    return text(size)
