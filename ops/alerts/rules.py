"""What is to be told, decided from plain values: no database, no clock, no network.

Of one place (a check and its target) a channel hears: that it is not well, once, however often it comes and goes within the hour;
that it got worse; a reminder while nobody has taken it on; and that it is over. What must not be told now is either *kept back*
(a maintenance window, a root cause that was told instead) and looked at again, or *held* for a digest (quiet hours, a storm).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from fnmatch import fnmatchcase
from typing import Literal
from zoneinfo import ZoneInfo

from ops.choices import IssueState
from ops.findings import SEVERITIES

# More than so many single messages within five minutes to one channel are a storm: the rest goes into a digest.
STORM = 6
STORM_WINDOW = timedelta(minutes=5)
DIGEST_AFTER = timedelta(minutes=1)
# An issue that came back within the hour counts as over when it stayed well for so long.
CALM = timedelta(minutes=10)

Kind = Literal["opened", "recovered", "reminder"]


@dataclass(frozen=True, slots=True)
class Place:
    """The newest issue of a check and target. ``root``: the open issue it follows from; ``resolved_at`` None: it is open."""

    issue: int
    check_id: str
    severity: str
    state: str
    flaps: int
    opened_at: datetime
    resolved_at: datetime | None = None
    root: int | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """A message that a channel was told, will be told, or could not be told (``failed``) about a place."""

    issue: int
    kind: str
    severity: str
    at: datetime
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a channel wants to hear."""

    min_severity: str = "warning"
    only_checks: Sequence[str] = ()
    tell_recovery: bool = True
    remind_every: timedelta = timedelta(hours=4)
    quiet_from: time | None = None
    quiet_to: time | None = None
    timezone: str = "UTC"


@dataclass(frozen=True, slots=True)
class News:
    """One thing to tell. ``kept_back`` says why it must not be told now ("" when it may)."""

    kind: Kind
    place: Place
    worse: bool = False
    again: bool = False
    began: datetime | None = None
    number: int = 0
    kept_back: str = ""


def news_of(place: Place, told: Sequence[Told], wishes: Wishes, *, silenced: str, now: datetime) -> News | None:
    """What the channel has to hear about this place now; None when nothing. ``told`` is in order; ``silenced`` names a window."""
    trouble = _present_trouble(told)
    if place.resolved_at is not None:
        return _over(place, trouble, wishes, silenced, now)
    wanted = (
        rank(place.severity) >= rank(wishes.min_severity)
        and (not wishes.only_checks or matches(place.check_id, wishes.only_checks))
        and place.state not in (IssueState.SNOOZED, IssueState.IGNORED)
    )
    if not wanted:
        return None
    if not trouble:
        why = silenced or (f"root:{place.root}" if place.root is not None else "")
        return News("opened", place, again=place.flaps > 0, kept_back=why)
    if silenced or place.root is not None:
        return None
    if rank(place.severity) > max(rank(one.severity) for one in trouble):
        return News("opened", place, worse=True)
    asking = place.state == IssueState.OPEN and wishes.remind_every > timedelta(0)
    loud = place.severity == "critical" or quiet_until(wishes, now) is None
    if asking and loud and now - trouble[-1].at >= wishes.remind_every:
        number = 1 + sum(one.kind == "reminder" and one.issue == place.issue for one in told)
        return News("reminder", place, number=number)
    return None


def _over(place: Place, trouble: Sequence[Told], wishes: Wishes, silenced: str, now: datetime) -> News | None:
    heard = [one for one in trouble if not one.failed]
    if not heard or not wishes.tell_recovery or silenced or place.state == IssueState.IGNORED:
        return None
    assert place.resolved_at is not None
    if place.flaps > 0 and now - place.resolved_at < CALM:
        return None
    return News("recovered", place, began=min(heard[0].at, place.opened_at))


def _present_trouble(told: Sequence[Told]) -> list[Told]:
    """What was told since the last recovery."""
    found: list[Told] = []
    for one in told:
        if one.kind == "recovered":
            found = []
        elif one.kind in ("opened", "reminder"):
            found.append(one)
    return found


def rank(severity: str) -> int:
    """0 for info … 3 for critical."""
    return SEVERITIES.index(severity) if severity in SEVERITIES else 2


def matches(check_id: str, patterns: Iterable[str]) -> bool:
    """Whether a check is among these: ids, or patterns like ``matrix.*``."""
    return any(fnmatchcase(check_id, pattern) for pattern in patterns)


def quiet_until(wishes: Wishes, now: datetime) -> datetime | None:
    """When the channel's quiet hours end; None while there are none. They may reach over midnight."""
    start, end = wishes.quiet_from, wishes.quiet_to
    if start is None or end is None or start == end:
        return None
    zone = ZoneInfo(wishes.timezone)
    here = now.astimezone(zone)
    clock = here.time().replace(tzinfo=None)
    inside = start <= clock < end if start < end else clock >= start or clock < end
    if not inside:
        return None
    day = here.date() + (timedelta(days=1) if clock >= end else timedelta(0))
    return datetime.combine(day, end, zone)


def storm_due(now: datetime, *, single: int, held: datetime | None, last_digest: datetime | None) -> datetime | None:
    """When a message goes into a digest instead of out now; None: it may go. ``single``: messages sent one by one lately."""
    if single < STORM:
        return None
    if held is not None and held <= now + STORM_WINDOW:
        return held
    soon = now + DIGEST_AFTER
    return max(soon, last_digest + STORM_WINDOW) if last_digest is not None else soon
