"""Proves a repair: the checks that it mends are asked again, and say so."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ops.choices import CheckStatus
from ops.doctor.queries import dependants
from ops.doctor.repairs import Repair
from ops.models import CheckState, RepairRun
from ops.registry import all_checks
from ops.runner import CheckRun, run_checks

_AGAIN_SECONDS = 1.0


def ask_again(repair: Repair, run: RepairRun, *, patience: float = 0.0) -> bool:
    """Run the checks that this repair mends, and those that waited for them. True when none of the former is red."""
    own = mended_checks(repair, run)
    follow = {check.id for id in own for check in dependants(id) if not check.live}
    blocked = set(
        CheckState.objects.filter(check_id__in=follow, status=CheckStatus.BLOCKED).values_list("check_id", flat=True)
    )
    until = time.monotonic() + patience
    while True:
        if not own:
            return True
        found = run_checks([*own, *blocked])
        after = statuses(repair, run, found)
        run.checks_after = after
        run.save(update_fields=["checks_after"])
        if not any(status in ("fail", "warn", "blocked") for status in after.values()):
            return True
        if time.monotonic() >= until:
            return False
        time.sleep(_AGAIN_SECONDS)


def mended_checks(repair: Repair, run: RepairRun) -> list[str]:
    """Ids of the checks to ask after a run: that of its issue, and those of the repair that were not green."""
    ids = {check.id for check in all_checks() if repair.id in check.repairs and not check.live}
    red = set(
        CheckState.objects.filter(check_id__in=ids)
        .exclude(status__in=[CheckStatus.PASS, CheckStatus.SKIP])
        .values_list("check_id", flat=True)
    )
    # What was red before the repair stays of interest when it is undone.
    red |= {place.partition(" ")[0] for place in run.checks_before or {}}
    if run.issue is not None:
        red.add(run.issue.check_id)
    known = {check.id for check in all_checks()}
    return sorted(red & known)


def statuses(repair: Repair, run: RepairRun, found: Sequence[CheckRun] = ()) -> dict[str, str]:
    """``{"check target": status}`` of what the run is to mend: of its own target when that is a check's target.

    ``found`` are outcomes of this moment: a check that is red for other objects only is green for the run's own object.
    """
    ids = mended_checks(repair, run)
    states = list(CheckState.objects.filter(check_id__in=ids).values_list("check_id", "target", "status"))
    bare = run.target.partition(":")[2] if run.target.startswith("service:") else run.target
    if bare and any(target == bare for _, target, _ in states):
        states = [one for one in states if one[1] in (bare, "")]
    well = {
        (one.check.id, one.target)
        for one in found
        if run.target and one.affected and not any(other.target == run.target for other in one.affected)
    }
    return {
        f"{id} {target}".strip(): "pass" if (id, target) in well and status in ("fail", "warn") else status
        for id, target, status in states
    }
