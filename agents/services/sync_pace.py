"""How often agents are synced: a setting that changes while everything runs, a floor, and when the next pass is due."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.utils import timezone

from agents.models import SyncRun, SyncState
from ops.live import live, live_clear, live_row, live_set, register_live

INTERVAL, BELOW_FLOOR = "SYNC_INTERVAL", "SYNC_BELOW_FLOOR"
# Polling faster than this costs the servers more than it gains: the webhook for new agents is faster than any interval.
FLOOR_SECONDS = 15.0
# Below this nothing goes, whatever an operator says.
LEAST_SECONDS, MOST_SECONDS = 5.0, 86_400.0
# After failed passes the interval doubles, up to this many times itself.
MOST_BACKOFF, JITTER = 8, 0.1
_started = timezone.now()
# One draw for each process: never more often than was set, and not in step with other installations.
_jitter = random.uniform(0, JITTER)


def _seconds(value: Any) -> float:
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        raise ValueError("The interval is a number of seconds.") from None
    if not LEAST_SECONDS <= seconds <= MOST_SECONDS:
        raise ValueError(f"The interval lies between {LEAST_SECONDS:g} and {MOST_SECONDS:g} seconds.")
    return seconds


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if str(value).lower() in ("1", "true", "yes", "on", "0", "false", "no", "off", ""):
        return str(value).lower() in ("1", "true", "yes", "on")
    raise ValueError("It is either true or false.")


register_live(
    INTERVAL,
    label="Seconds between two syncs of agents",
    help="At least 15, unless that is allowed. New agents can be announced at once through the webhook instead.",
    parse=_seconds,
    default=lambda: max(LEAST_SECONDS, float(settings.SYNC_INTERVAL)),
)
register_live(
    BELOW_FLOOR,
    label="Allow syncs more often than every 15 seconds",
    help="For servers of one's own that bear it. The budget of calls is watched all the same.",
    parse=_flag,
    default=lambda: False,
)


def sync_interval() -> float:
    """Seconds between two passes, as it counts now."""
    return float(live(INTERVAL))


def below_floor_allowed() -> bool:
    """Whether an operator allowed intervals below the floor."""
    return bool(live(BELOW_FLOOR))


@dataclass(frozen=True, slots=True)
class Pace:
    """What an operator set: ``None`` where the environment's value counts."""

    interval: float | None
    below_floor: bool | None


def pace_set_by_hand() -> Pace:
    """The operator's own values, to be put back later."""
    interval, allowed = live_row(INTERVAL), live_row(BELOW_FLOOR)
    return Pace(None if interval is None else interval.value, None if allowed is None else allowed.value)


def sync_interval_set(*, seconds: float, below_floor: bool = False, actor: str) -> float:
    """Change the interval at once, without a restart. Raises ``ValidationError`` for one below the floor that is not allowed."""
    try:
        seconds = _seconds(seconds)
    except ValueError as error:
        raise ValidationError({"seconds": [str(error)]}) from None
    if seconds < FLOOR_SECONDS and not below_floor:
        raise ValidationError(
            {
                "seconds": [
                    f"Every {seconds:g} s is more often than the servers should be asked (at least {FLOOR_SECONDS:g} s). "
                    "For agents that show up at once use the webhook for new agents; or allow it explicitly."
                ]
            }
        )
    live_set(key=INTERVAL, value=seconds, actor=actor)
    if below_floor:
        live_set(key=BELOW_FLOOR, value=True, actor=actor)
    else:
        live_clear(key=BELOW_FLOOR, actor=actor)
    return seconds


def sync_pace_restore(*, pace: Pace, actor: str) -> None:
    """Put back what was set before, or the environment's values."""
    for key, value in ((INTERVAL, pace.interval), (BELOW_FLOOR, pace.below_floor)):
        if value is None:
            live_clear(key=key, actor=actor)
        else:
            live_set(key=key, value=value, actor=actor)


def next_sync_at() -> datetime:
    """When beat starts the next pass over all services.

    Counted from the start of the last one, whoever started it: what somebody has just asked for is not asked for again.
    """
    # An installation that has never synced is left alone for one interval: `up` and the operator start the first pass.
    last = SyncRun.objects.filter(service_name="").order_by("-id").values_list("started_at", flat=True).first()
    return (last or _started) + timedelta(seconds=sync_interval() * _backoff() * (1 + _jitter))


def _backoff() -> int:
    """1 after a good pass, then 2, 4, 8 for each failed one in a row."""
    factor = 1
    states = SyncRun.objects.exclude(state=SyncState.RUNNING).order_by("-id").values_list("state", flat=True)[:4]
    for state in states:
        if state != SyncState.FAILED or factor >= MOST_BACKOFF:
            break
        factor *= 2
    return factor


def sync_due() -> bool:
    """Whether it is time for beat's next pass."""
    return timezone.now() >= next_sync_at()
