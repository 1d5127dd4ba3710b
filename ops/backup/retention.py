"""Which copies go. Pure: what there is and the rules go in, what goes and why the rest stays comes out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo

# A backup that was made before a change is kept so long, for taking the change back.
SAFETY_KEPT = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Kept:
    """The rules of a destination: the newest ``last``, and the newest of each of so many days, weeks and months that have one."""

    last: int
    daily: int
    weekly: int
    monthly: int


@dataclass(frozen=True, slots=True)
class Known:
    """A copy at a destination. ``ours``: this installation made it; ``good``: it passed a drill; ``well``: nothing is wrong with it
    as far as is known."""

    name: str
    made_at: datetime
    size: int = 0
    ours: bool = True
    pinned: bool = False
    good: bool = False
    well: bool = True
    safety: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a copy. ``why`` is a few words: ``one of the newest 3``, ``the newest of 2026-11-02``, ``older than the rules keep``."""

    copy: Known
    goes: bool
    why: str


def verdicts(copies: Iterable[Known], rules: Kept, *, now: datetime, zone: tzinfo) -> list[Verdict]:
    """One verdict a copy, the newest first. Never goes: the newest, the last good one, pinned ones, and those of another installation."""
    ordered = sorted(copies, key=lambda copy: (copy.made_at, copy.name), reverse=True)
    reasons: dict[str, str] = {}
    for copy in ordered:
        if not copy.ours:
            reasons[copy.name] = "made by another installation"
        elif copy.pinned:
            reasons[copy.name] = "pinned"
        elif copy.safety and copy.made_at > now - SAFETY_KEPT:
            reasons[copy.name] = f"made before a change, kept for {SAFETY_KEPT.days} days"
    ours = [copy for copy in ordered if copy.ours]
    # What is known to be damaged fills no place: a good one would go for it.
    sound = [copy for copy in ours if copy.well]
    if ours:
        reasons.setdefault(ours[0].name, "the newest")
    if sound:
        reasons.setdefault(sound[0].name, "the newest that is well")
    if good := next((copy for copy in sound if copy.good), None):
        reasons.setdefault(good.name, "the last good one")
    for copy in sound[: rules.last]:
        reasons.setdefault(copy.name, f"one of the newest {rules.last}")
    for count, period, label in (
        (rules.daily, _day, "day"),
        (rules.weekly, _week, "week"),
        (rules.monthly, _month, "month"),
    ):
        for copy, word in _newest_of_each(sound, count, period, zone):
            reasons.setdefault(copy.name, f"the newest of the {label} {word}")
    return [Verdict(copy, copy.name not in reasons, reasons.get(copy.name, _goes(copy))) for copy in ordered]


def _goes(copy: Known) -> str:
    return "older than the rules keep" if copy.well else "damaged, and not the newest"


def _newest_of_each(
    copies: Sequence[Known], count: int, period: Callable[[datetime], str], zone: tzinfo
) -> list[tuple[Known, str]]:
    """The newest copy of each of the last ``count`` periods that have one; periods begin in ``zone``."""
    found: dict[str, Known] = {}
    for copy in copies:
        if len(found) == count and period(copy.made_at.astimezone(zone)) not in found:
            break
        if count:
            found.setdefault(period(copy.made_at.astimezone(zone)), copy)
    return [(copy, word) for word, copy in found.items()]


def _day(at: datetime) -> str:
    return f"{at:%Y-%m-%d}"


def _week(at: datetime) -> str:
    year, week, _ = at.isocalendar()
    return f"{year}-W{week:02d}"


def _month(at: datetime) -> str:
    return f"{at:%Y-%m}"
