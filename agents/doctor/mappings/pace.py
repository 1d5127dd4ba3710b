"""``sync.slow`` and ``sync.too_frequent``: passes end in time, and do not come more often than the servers should be asked."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import F
from django.utils import timezone

from agents.models import SyncRun, SyncState
from agents.services.sync_pace import (
    FLOOR_SECONDS,
    INTERVAL,
    Pace,
    below_floor_allowed,
    pace_set_by_hand,
    sync_interval,
    sync_interval_set,
    sync_pace_restore,
)
from ops.doctor.repairs import Change, Plan, RepairRefused, RepairWork, register_repair
from ops.live import live_row
from ops.registry import CheckOutcome, Fix, ServiceField, register_check
from ops.words import counted, verb

RUNS = 20
# A new agent should be visible so soon after a pass has begun.
VISIBLE_SECONDS = 30.0
# A pass that makes more rooms than this takes as long as the homeserver needs for them (two to six a second), not as long as we do.
MANY_ROOMS = 10
BUDGET_MINUTES = 10
# One pass every 15 seconds for ten minutes, and as many again that people and webhooks ask for.
BUDGET_RUNS = 80


@dataclass(frozen=True, slots=True)
class Slowness:
    """How long the last passes took, in seconds."""

    p95: float
    last: float
    runs: int
    slowest_run: int


def durations() -> list[tuple[int, float]]:
    """Runs and their seconds, newest first: the last 20 that ended and did not make many rooms."""
    rows = (
        SyncRun.objects.filter(
            state__in=[SyncState.DONE, SyncState.STOPPED, SyncState.FAILED], finished_at__isnull=False
        )
        .order_by("-id")
        .annotate(took=F("finished_at") - F("started_at"))
        .values_list("pk", "took", "counts")[: RUNS * 2]
    )
    usual = [
        (pk, took.total_seconds()) for pk, took, counts in rows if (counts or {}).get("room.create", 0) <= MANY_ROOMS
    ]
    return usual[:RUNS]


def percentile_95(values: list[float]) -> float:
    """The nearest-rank 95th percentile; 0 for none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[max(0, -(-95 * len(ordered) // 100) - 1)]


def slow_now() -> Slowness | None:
    """Whether passes are slow as things stand: the last one was, and it is no exception among the last 20."""
    found = durations()
    if not found:
        return None
    seconds = [took for _, took in found]
    p95 = percentile_95(seconds)
    if p95 <= VISIBLE_SECONDS or seconds[0] <= VISIBLE_SECONDS:
        return None
    return Slowness(p95, seconds[0], len(found), max(found, key=lambda one: one[1])[0])


@register_check(
    "sync.slow",
    title="A new agent gets its room soon",
    tags=["agents", "performance"],
    interval=120,
    severity="warning",
    depends_on=["db.reachable"],
    repairs=["sync.run"],
)
def sync_slow() -> CheckOutcome:
    """How long the last 20 passes took: from the start of a pass until an agent that is new in it is visible, at the latest.

    Passes that made more than ten rooms are left out: the homeserver makes rooms as fast as it can, and a first pass over
    thousands of agents is no defect.
    """
    found = durations()
    if not found:
        return CheckOutcome("skip", "No pass has ended yet.")
    evidence: dict[str, Any] = {
        "runs": len(found),
        "p95_seconds": round(percentile_95([took for _, took in found]), 1),
        "last_seconds": round(found[0][1], 1),
        "limit_seconds": VISIBLE_SECONDS,
        "interval_seconds": sync_interval(),
    }
    slow = slow_now()
    if slow is not None:
        return CheckOutcome(
            "warn",
            f"The last sync took {slow.last:.0f} s, and 95 of 100 take up to {slow.p95:.0f} s; a new agent should have its room "
            f"within {VISIBLE_SECONDS:.0f} s. Look at how fast the agents' server and the homeserver answer; announce new agents "
            "through the webhook, which does not wait for a pass.",
            {**evidence, "slowest_run": slow.slowest_run},
        )
    return CheckOutcome(
        "pass",
        f"The last {counted(len(found), 'pass', 'passes')} took up to {evidence['p95_seconds']:g} s (95 %).",
        evidence,
    )


@register_check(
    "sync.too_frequent",
    title="Agents are not synced too often",
    tags=["agents", "config", "performance"],
    interval=60,
    severity="error",
    depends_on=["db.reachable"],
    repairs=["sync.set_interval"],
)
def sync_too_frequent() -> CheckOutcome:
    """The interval keeps to the floor of 15 s unless an operator allowed less, and passes keep to their budget.

    Two passes never run at once: the row of a pass is its lock, by a constraint of the database. Passes ask nothing of the
    homeserver when nothing has changed, and there are no logins to count: accounts belong to the appservice.
    """
    interval, allowed = sync_interval(), below_floor_allowed()
    since = _counted_since()
    runs = SyncRun.objects.filter(started_at__gt=since).count()
    minutes = max(1.0, (timezone.now() - since).total_seconds() / 60)
    evidence: dict[str, Any] = {
        "interval_seconds": interval,
        "floor_seconds": FLOOR_SECONDS,
        "below_floor_allowed": allowed,
        "runs": runs,
        "budget": BUDGET_RUNS,
        "runs_a_minute": round(runs / minutes, 1),
    }
    if interval < FLOOR_SECONDS and not allowed:
        return CheckOutcome(
            "fail",
            f"Agents are synced every {interval:g} s; less than {FLOOR_SECONDS:g} s loads their server and gains nothing. Set a "
            "longer interval (it counts at once), and announce new agents through the webhook.",
            evidence,
            fix=Fix("sync.set_interval", "", {"seconds": 60, "below_floor": False}),
        )
    if runs > BUDGET_RUNS:
        return CheckOutcome(
            "fail",
            f"{counted(runs, 'pass', 'passes')} of sync {verb(runs, 'was', 'were')} started in {counted(round(minutes), 'minute')}; "
            f"the budget is {BUDGET_RUNS}. Somebody asks for them, or "
            "the interval is too short. Set a longer one, and look who started them (Syncs).",
            evidence,
            fix=Fix("sync.set_interval", "", {"seconds": max(60.0, interval * 2), "below_floor": False}),
        )
    return CheckOutcome(
        "pass",
        f"Every {interval:g} s; {counted(runs, 'pass', 'passes')} in the last {counted(round(minutes), 'minute')}.",
        evidence,
    )


def _counted_since() -> datetime:
    """Passes are counted since the interval was last changed, at most ten minutes back: what was before it is settled."""
    since = timezone.now() - timedelta(minutes=BUDGET_MINUTES)
    row = live_row(INTERVAL)
    return max(since, row.changed_at) if row is not None else since


def plan(work: RepairWork) -> Plan:
    """The interval that counts now, and the one that is wanted."""
    seconds, below = work.params.get("seconds") or 60, bool(work.params.get("below_floor"))
    if not isinstance(seconds, (int, float)):
        raise RepairRefused("The interval is a number of seconds.")
    if seconds < FLOOR_SECONDS and not below:
        raise RepairRefused(
            f"Every {seconds:g} s is below the floor of {FLOOR_SECONDS:g} s. Tick the box to allow it, or choose a longer interval."
        )
    changes = []
    if sync_interval() != float(seconds):
        changes.append(Change("setting:SYNC_INTERVAL", "seconds between two syncs", sync_interval(), float(seconds)))
    if below_floor_allowed() != below:
        changes.append(Change("setting:SYNC_BELOW_FLOOR", "less than 15 s allowed", below_floor_allowed(), below))
    sentence = f"Agents are synced every {seconds:g} s from now on." if changes else "The interval is as you want it."
    return Plan(
        sentence,
        tuple(changes),
        {"seconds": float(seconds), "below_floor": below},
        {"pace": asdict(pace_set_by_hand())},
    )


def apply(work: RepairWork) -> dict[str, Any]:
    """Counts within seconds in every process; nothing is restarted."""
    data = work.plan.data
    try:
        seconds = sync_interval_set(seconds=data["seconds"], below_floor=data["below_floor"], actor=work.actor)
    except ValidationError as error:
        raise RepairRefused(" ".join(error.messages)) from error
    return {"seconds": seconds}


def undo(work: RepairWork) -> None:
    """The operator's former value, or the environment's."""
    sync_pace_restore(pace=Pace(**work.snapshot["pace"]), actor=work.actor)


register_repair(
    "sync.set_interval",
    title="Set how often agents are synced",
    repair_class="C",
    button="Set the interval",
    explain="Changes the interval at once, without a restart, for every process. The environment's value stays where it is and "
    "counts again when this is undone.",
    plan=plan,
    apply=apply,
    undo=undo,
    atomic=True,
    fields=(
        ServiceField("seconds", "Seconds between two syncs", kind="number", default=60),
        ServiceField(
            "below_floor",
            "Allow less than 15 seconds",
            kind="bool",
            default=False,
            help="For servers of your own that bear it.",
        ),
    ),
)
