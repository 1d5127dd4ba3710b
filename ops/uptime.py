"""How well a group of checks was over time: made from the changes in their history, in a constant number of queries.

A level is 0 (well), 1 (attention), 2 (trouble) or None (nobody asked: blocked, skipped, no history yet, or Switchboard did not
run). A change of a check is always a row, and kept for months; samples in between only tell that somebody was asking.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.core.cache import cache
from django.db.models import OuterRef, Subquery
from django.utils import timezone

from ops.choices import CheckStatus
from ops.models import CheckResult, CheckState
from ops.registry import get_check

Place = tuple[str, str]
Level = int | None

DAY = timedelta(days=1)
LONGEST = 30 * DAY
# This check runs always and everywhere: where its history has a gap, nobody was asking.
PULSE = "db.reachable"
GAP = timedelta(minutes=30)
# A check that flaps every few seconds for weeks must not fill the memory.
MOST_CHANGES = 20_000
_KEPT_SECONDS = 30
_CACHE = "switchboard.uptime.history"


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time in which a group had one level."""

    start: datetime
    end: datetime
    level: Level


@dataclass(frozen=True, slots=True)
class Slot:
    """One bar of a strip: the worst level within it, and the share of the asked time that was without trouble."""

    start: datetime
    end: datetime
    level: Level
    share: float | None


@dataclass(frozen=True, slots=True)
class Window:
    """One stretch that the board can show: ``slots`` bars over ``length``."""

    key: str
    label: str
    length: timedelta
    slots: int

    @property
    def short(self) -> str:
        """``24 h``, ``7 d``."""
        return f"{self.key[:-1]} {self.key[-1]}"


WINDOWS: tuple[Window, ...] = (
    Window("24h", "24 hours", DAY, 48),
    Window("7d", "7 days", 7 * DAY, 56),
    Window("30d", "30 days", LONGEST, 60),
)


@dataclass(frozen=True, slots=True)
class History:
    """What is known about all places since ``start``: their changes in order, and the stretches in which nobody asked."""

    start: datetime
    end: datetime
    changes: Mapping[Place, tuple[tuple[datetime, str], ...]]
    gaps: tuple[tuple[datetime, datetime], ...]

    def spans(self, places: Iterable[Place]) -> list[Span]:
        """The level of these places together, worst first, from ``start`` to ``end`` without holes."""
        events: list[tuple[datetime, int, Level]] = []
        wanted = list(places)
        for number, place in enumerate(wanted):
            events += [(at, number, level_of(place[0], status)) for at, status in self.changes.get(place, ())]
        now: list[Level] = [None] * len(wanted)
        spans: list[Span] = []
        since = self.start
        for at, number, level in sorted(events, key=lambda one: one[0]):
            _add(spans, since, max(at, self.start), _worst(now))
            since, now[number] = max(at, self.start), level
        _add(spans, since, self.end, _worst(now))
        return _without(spans, self.gaps)


def history(now: datetime | None = None) -> History:
    """The history of all checks over the longest window: four queries, kept for half a minute."""
    if now is None:
        kept: History | None = cache.get(_CACHE)
        if kept is None:
            kept = _read(timezone.now())
            cache.set(_CACHE, kept, _KEPT_SECONDS)
        return kept
    return _read(now)


def forget() -> None:
    """Read the history again at the next call."""
    cache.delete(_CACHE)


def level_of(check_id: str, status: str) -> Level:
    """A failure of a check that is only a warning or a remark is no trouble."""
    if status == CheckStatus.PASS:
        return 0
    if status == CheckStatus.WARN:
        return 1
    if status == CheckStatus.FAIL:
        known = get_check(check_id)
        return 1 if known is not None and known.severity in ("info", "warning") else 2
    return None


def slots_of(spans: list[Span], window: Window, end: datetime) -> list[Slot]:
    """The bars of one strip, oldest first."""
    width = window.length / window.slots
    start = end - window.length
    found = []
    first = 0
    for number in range(window.slots):
        left, right = start + number * width, start + (number + 1) * width
        while first < len(spans) and spans[first].end <= left:
            first += 1
        inside = []
        for span in spans[first:]:
            if span.start >= right:
                break
            inside.append((min(span.end, right) - max(span.start, left), span.level))
        found.append(Slot(left, right, _worst([level for _, level in inside]), _share(inside)))
    return found


def share_of(spans: list[Span], length: timedelta, end: datetime) -> float | None:
    """The share of the asked time without trouble within ``length`` before ``end``; None when nobody asked."""
    start = end - length
    inside = [(min(one.end, end) - max(one.start, start), one.level) for one in spans if one.end > start]
    return _share(inside)


def _share(inside: list[tuple[timedelta, Level]]) -> float | None:
    asked = sum((size for size, level in inside if level is not None), timedelta())
    well = sum((size for size, level in inside if level in (0, 1)), timedelta())
    return well / asked if asked else None


def _worst(levels: Iterable[Level]) -> Level:
    return max((level for level in levels if level is not None), default=None)


def _add(spans: list[Span], start: datetime, end: datetime, level: Level) -> None:
    if end <= start:
        return
    if spans and spans[-1].level == level and spans[-1].end == start:
        spans[-1] = Span(spans[-1].start, end, level)
    else:
        spans.append(Span(start, end, level))


def _without(spans: list[Span], gaps: tuple[tuple[datetime, datetime], ...]) -> list[Span]:
    """The spans with level None inside the gaps."""
    if not gaps:
        return spans
    cut: list[Span] = []
    for span in spans:
        start = span.start
        for left, right in gaps:
            if right <= start or left >= span.end:
                continue
            _add(cut, start, max(left, start), span.level)
            _add(cut, max(left, start), min(right, span.end), None)
            start = min(right, span.end)
        _add(cut, start, span.end, span.level)
    return cut


def _read(now: datetime) -> History:
    start = now - LONGEST
    rows = list(
        CheckResult.objects.filter(at__gte=start, at__lte=now, changed=True)
        .order_by("-at", "-pk")
        .values_list("check_id", "target", "status", "at")[:MOST_CHANGES]
    )[::-1]
    found: dict[Place, list[tuple[datetime, str]]] = {
        place: [(since, status)] for place, since, status in _before(start)
    }
    for check_id, target, status, at in rows:
        found.setdefault((check_id, target), []).append((at, status))
    return History(start, now, {place: tuple(changes) for place, changes in found.items()}, _gaps(start, now))


def _before(start: datetime) -> list[tuple[Place, datetime, str]]:
    """Each place with the status in which it came into the window, and since when that is known."""
    own = CheckResult.objects.filter(check_id=OuterRef("check_id"), target=OuterRef("target"))
    earlier = own.filter(at__lt=start).order_by("-at")
    first = own.filter(at__gte=start).order_by("at")
    states = CheckState.objects.annotate(
        before=Subquery(earlier.values("status")[:1]),
        first_status=Subquery(first.values("status")[:1]),
        first_changed=Subquery(first.values("changed")[:1]),
    ).values_list("check_id", "target", "status", "since", "before", "first_status", "first_changed")
    found: list[tuple[Place, datetime, str]] = []
    for check_id, target, status, since, before, first_status, first_changed in states:
        place = (check_id, target)
        if before is not None:
            found.append((place, start, before))
        elif since <= start:
            found.append((place, start, status))
        elif first_changed is False:
            # A sample is no change: it was so before, too.
            found.append((place, start, first_status))
        elif first_changed is None:
            found.append((place, since, status))
    return found


def _gaps(start: datetime, now: datetime) -> tuple[tuple[datetime, datetime], ...]:
    times = list(
        CheckResult.objects.filter(check_id=PULSE, target="", at__gte=start, at__lte=now)
        .order_by("at")
        .values_list("at", flat=True)
    )
    gaps = [(left, right) for left, right in itertools.pairwise(times) if right - left > GAP]
    if times and now - times[-1] > GAP:
        gaps.append((times[-1], now))
    return tuple(gaps)
