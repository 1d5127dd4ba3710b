"""How sockets end, counted: in this process until it writes them down four times a minute, and over all processes for the doctor."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F, Sum
from django.utils import timezone

from chat.models import SocketClose

WRITE_EVERY = 15.0
KEPT = timedelta(days=14)
_EXACT_SECONDS = 300

_lock = threading.Lock()
_counted: Counter[tuple[datetime, int, int]] = Counter()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Sockets that ended since ``since``: ``closes`` by close code, and for each code how many had which lifetime in seconds."""

    since: datetime
    closes: dict[int, int] = field(default_factory=dict)
    lifetimes: dict[int, dict[int, int]] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return sum(self.closes.values())


def lifetime_step(seconds: float) -> int:
    """The lifetime as it is counted: exact up to five minutes, then whole minutes, from one hour on whole hours."""
    whole = max(0, int(seconds))
    if whole <= _EXACT_SECONDS:
        return whole
    return whole // 60 * 60 if whole < 3600 else whole // 3600 * 3600


def note(code: int, seconds: float) -> None:
    """A socket of this process ended with this code after so many seconds."""
    hour = timezone.now().replace(minute=0, second=0, microsecond=0)
    with _lock:
        _counted[hour, code, lifetime_step(seconds)] += 1


def write() -> int:
    """Add what was counted here to the rows, in one transaction. Returns how many sockets. What cannot be written is kept."""
    with _lock:
        taken = dict(_counted)
        _counted.clear()
    if not taken:
        return 0
    try:
        with transaction.atomic():
            for (hour, code, seconds), count in sorted(taken.items()):
                row, _ = SocketClose.objects.get_or_create(hour=hour, code=code, seconds=seconds)
                SocketClose.objects.filter(pk=row.pk).update(count=F("count") + count)
    except Exception:
        with _lock:
            _counted.update(taken)
        raise
    return sum(taken.values())


def snapshot(hours: int = 24) -> Snapshot:
    """What all processes wrote down for the last hours, and what this one has not written yet. One query."""
    since = timezone.now() - timedelta(hours=hours)
    rows = SocketClose.objects.filter(hour__gte=since - timedelta(hours=1)).values_list("code", "seconds")
    found: Counter[tuple[int, int]] = Counter(
        {(code, seconds): n for code, seconds, n in rows.annotate(n=Sum("count")).order_by()}
    )
    with _lock:
        for (_, code, seconds), count in _counted.items():
            found[code, seconds] += count
    result = Snapshot(since)
    for (code, seconds), count in sorted(found.items()):
        result.closes[code] = result.closes.get(code, 0) + count
        result.lifetimes.setdefault(code, {})[seconds] = count
    return result


def prune() -> int:
    """Forget old rows. Returns how many."""
    return SocketClose.objects.filter(hour__lt=timezone.now() - KEPT).delete()[0]
