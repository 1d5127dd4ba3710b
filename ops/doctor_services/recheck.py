"""The repair that asks again: for what was wrong for a moment."""

from __future__ import annotations

import time
from typing import Any

from django.db.models import Q

from ops.choices import CheckStatus
from ops.doctor.repairs import Change, Plan, RepairWork, register_repair
from ops.models import CheckState
from ops.registry import get_check
from ops.runner import run_checks

_RED = (CheckStatus.FAIL, CheckStatus.WARN, CheckStatus.BLOCKED)
# Something that is just starting gets so many tries.
_TRIES = 6
_PAUSE = 1.5


def failing(target: str = "") -> list[CheckState]:
    """States of checks that are not green now: all of them, or those about a target (``service:letta``, ``letta``, a check's id)."""
    rows = CheckState.objects.filter(status__in=_RED)
    if target:
        bare = target.partition(":")[2] or target
        rows = rows.filter(Q(target__in=(target, bare)) | Q(check_id=target))
    found = []
    for state in rows.order_by("check_id", "target"):
        check = get_check(state.check_id)
        if check is not None and not check.live:
            found.append(state)
    return found


def _plan(work: RepairWork) -> Plan:
    states = failing(work.target)
    if not states:
        return Plan("Nothing is red there; there is nothing to ask again.")
    changes = tuple(Change(state.name, "outcome", str(state.status), "asked again") for state in states)
    ids = sorted({state.check_id for state in states})
    count = "One check is" if len(changes) == 1 else f"{len(changes)} checks are"
    return Plan(
        f"{count} asked again now.", changes, {"checks": ids, "places": [[s.check_id, s.target] for s in states]}
    )


def _apply(work: RepairWork) -> dict[str, Any]:
    places = {(id, target) for id, target in work.plan.data["places"]}
    outcomes: dict[str, str] = {}
    for number in range(_TRIES):
        work.progress(number, _TRIES, "asking again")
        runs = run_checks(work.plan.data["checks"])
        outcomes = {
            f"{run.check.id} {run.target}".strip(): str(run.status)
            for run in runs
            if (run.check.id, run.target) in places
        }
        if not any(status in _RED for status in outcomes.values()):
            break
        if number < _TRIES - 1:
            time.sleep(_PAUSE)
    return {"outcomes": outcomes}


register_repair(
    "health.recheck",
    title="Ask again",
    repair_class="A",
    button="Check again",
    explain="Asks the checks that are red once more, for some seconds: what was wrong for a moment closes its issue at once.",
    plan=_plan,
    apply=_apply,
    target_kinds=("service",),
)
