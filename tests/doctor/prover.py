"""The proof of the catalogue, run inside an installation that works: break, red, plan, repair (or the guide), green, undo.

``python -m tests.doctor.prover CHECK…`` prints one JSON line a fault: ``{check, ok, steps, problem, seconds}``. It goes through the
same services as every surface does.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
import traceback
from collections.abc import Iterator
from typing import Any

import django

# Checks that look at load, time and the machine: other tests at work turn them red and green as they please.
WEATHER = frozenset({"res.cpu_high", "res.memory_high", "res.memory_growth", "disk.space", "llm.slow", "sync.slow"})
# These warn when an answer took long, which is weather, and fail when there was none, which is not.
SLOW = frozenset({"db.reachable"})
# Seconds.
PATIENCE = 60.0


class Unproven(AssertionError):
    """One step of a proof did not hold."""


def hold(condition: object, text: str) -> None:
    if not condition:
        raise Unproven(text)


def red_places(runs: list[Any], own: str = "") -> dict[tuple[str, str], Any]:
    """What is red, weather apart; ``own`` is the check that is being proven, which may be about the weather."""
    return {
        (run.check.id, run.target): run
        for run in runs
        if run.status in ("fail", "warn", "blocked") and (run.check.id == own or not _weather(run))
    }


def _weather(run: Any) -> bool:
    return run.check.id in WEATHER or (run.check.id in SLOW and run.status == "warn")


def prove(fault: Any, before: dict[tuple[str, str], Any]) -> list[str]:
    """The steps that held. Raises ``Unproven``."""
    from ops.doctor.queries import dependants
    from ops.models import Issue
    from ops.registry import get_check
    from ops.runner import run_checks

    check = get_check(fault.check_id)
    hold(check is not None, "The fault names a check that is not registered.")
    steps: list[str] = []
    hold(
        not any(id == check.id for id, _ in before),
        f"It is red already: {[str(run.sentence) for (id, _), run in before.items() if id == check.id]}",
    )
    memory = json.loads(json.dumps(fault.cause()))
    try:
        after = red_places(run_checks([check.id] if check.live else sorted({check.id, *everyday()})), check.id)
        fresh = {place: run for place, run in after.items() if place not in before}
        own = [run for (id, _), run in fresh.items() if id == check.id]
        hold(own, f"The check stayed green. Red instead: {sorted(place[0] for place in fresh)}")
        target = fault.target(memory) if fault.target else own[0].target
        run = next((one for one in own if one.target == target), None)
        hold(run is not None, f"Red for {[one.target for one in own]}, not for {target!r}.")
        hold(run.status in ("fail", "warn"), f"It is {run.status}: {run.sentence}")
        hold(len(run.sentence) > 20, f"The sentence says too little: {run.sentence!r}")
        missing = set(fault.evidence) - set(run.evidence)
        hold(not missing, f"The evidence lacks {sorted(missing)}: {run.evidence}")
        allowed = {check.id, *fault.also, *(one.id for one in dependants(check.id))}
        others = still_red({id: one.sentence for (id, _), one in fresh.items() if id not in allowed})
        hold(not others, f"Others turned red with it: {others}")
        steps.append("red")
        for _ in range(check.opens_after - 1):
            run_checks([check.id], target=target if check.targets else "")
        issue = Issue.objects.filter(check_id=check.id, target=target).exclude(state="resolved").first()
        hold(issue is not None, "No issue was opened.")
        hold(issue.root is None, f"It is said to follow from {issue.root}.")
        steps.append("issue")
        steps += _mend(fault, memory, issue, check)
    finally:
        fault.heal(memory)
    return steps


def everyday() -> set[str]:
    """Checks that run often. The others turn over whole files and packages: they run at the beginning and at the end."""
    from ops.registry import all_checks

    return {check.id for check in all_checks() if check.interval < 600 and not check.live}


def still_red(others: dict[str, str]) -> dict[str, str]:
    """Those of them, by id, that stay red when asked again and again. A check that only found the machine busy, or what another process said
    before the last fault was healed, is well then; what a fault has broken stays red, since it is not healed yet."""
    from ops.runner import run_checks

    for _ in patiently():
        if not others:
            break
        others = {id: run.sentence for (id, _), run in red_places(run_checks(sorted(others))).items() if id in others}
    return others


def patiently() -> Iterator[None]:
    """Rounds for about a minute, the first ones at once: processes say how they fare every 10 to 20 seconds."""
    until = time.monotonic() + PATIENCE
    for pause in itertools.chain((0.0, 0.0), itertools.repeat(3.0)):
        time.sleep(pause)
        yield
        if time.monotonic() > until:
            return


def left_red(before: dict[tuple[str, str], Any]) -> dict[tuple[str, str], Any]:
    """What is still red although it was mended, asked once more."""
    from ops.models import CheckState
    from ops.registry import all_checks
    from ops.runner import run_checks

    known = {check.id for check in all_checks()}
    for _ in patiently():
        red = set(CheckState.objects.exclude(status__in=["pass", "skip"]).values_list("check_id", flat=True)) & known
        left = (
            {place: run for place, run in red_places(run_checks(sorted(red))).items() if place not in before}
            if red
            else {}
        )
        if not left:
            break
    return left


def _mend(fault: Any, memory: dict[str, Any], issue: Any, check: Any) -> list[str]:
    from ops.doctor.guides import guide_for, has_guide
    from ops.doctor.queries import offer_of
    from ops.models import CheckState
    from ops.runner import run_checks
    from ops.services.repairs import repair_plan, repair_start, repair_undo, why_not_undo

    def status() -> str:
        for _ in range(check.closes_after):
            run_checks([check.id], target=issue.target if check.targets else "")
        return str(CheckState.objects.get(check_id=check.id, target=issue.target).status)

    offer = offer_of(issue)
    repair = fault.repair or (offer.repair.id if offer else "")
    steps: list[str] = []
    if repair:
        target = (
            fault.repair_target(memory)
            if fault.repair_target
            else (offer.target if offer and offer.repair.id == repair else "")
        )
        params = (
            fault.repair_params(memory)
            if fault.repair_params
            else (offer.params if offer and offer.repair.id == repair else {})
        )
        asked = {"repair_id": repair, "target": target, "params": params, "actor": "proof"}
        planned = repair_plan(**asked)
        hold(planned.plan.changes, f"The plan of {repair} changes nothing: {planned.plan.sentence}")
        hold(status() in ("fail", "warn"), "Planning alone has mended it.")
        steps.append("plan")
        run = repair_start(**asked, trigger="command", issue=issue, typed=planned.confirm_word)
        hold(run.state == "succeeded", f"{repair} ended as {run.state}: {run.error} {run.checks_after}")
        hold(
            status() in ("pass", "skip"),
            f"Still red after {repair}: {CheckState.objects.get(check_id=check.id, target=issue.target).sentence}",
        )
        issue.refresh_from_db()
        hold(issue.state == "resolved", f"The issue is {issue.state}.")
        steps.append("repaired")
        again = repair_start(**asked, trigger="command", typed=planned.confirm_word)
        hold(again.state == "unneeded", f"A second run was {again.state}: {again.changes}")
        steps.append("second run unneeded")
        if not why_not_undo(run):
            repair_undo(run=run, actor="proof")
            hold(run.state == "undone", f"The run is {run.state} after undoing.")
            steps.append("undone")
            if status() in ("fail", "warn"):
                steps.append("red again")
                third = repair_start(**asked, trigger="command", typed=planned.confirm_word)
                hold(third.state == "succeeded", f"After undoing, {repair} ended as {third.state}: {third.error}")
        return steps
    hold(has_guide(check.id), "It has neither a repair nor a guide.")
    guide = guide_for(check.id, issue.target)
    hold(guide is not None and guide.steps, "The guide has no steps.")
    hold(any(step.snippet or len(step.sentence) > 30 for step in guide.steps), "The guide does not say what to do.")
    steps.append("guide")
    fault.heal(memory)  # what the guide says
    hold(
        status() in ("pass", "skip"),
        f"Still red after what the guide says: {CheckState.objects.get(check_id=check.id, target=issue.target).sentence}",
    )
    issue.refresh_from_db()
    hold(issue.state == "resolved", f"The issue is {issue.state}.")
    steps.append("green")
    return steps


def main(wanted: list[str]) -> None:
    django.setup()
    from ops.doctor.faults import get_fault
    from ops.runner import run_checks

    run_checks()
    before = red_places(run_checks())
    print(
        json.dumps({"baseline": {f"{id} {target}".strip(): run.sentence for (id, target), run in before.items()}}),
        flush=True,
    )
    for id in wanted:
        started = time.monotonic()
        result: dict[str, Any] = {"check": id, "ok": False, "steps": [], "problem": ""}
        try:
            result["steps"] = prove(get_fault(id), before)
            result["ok"] = True
        except Unproven as error:
            result["problem"] = str(error)
        except Exception:
            result["problem"] = traceback.format_exc()[-3000:]
        left = left_red(before)
        if left and result["ok"]:
            result |= {
                "ok": False,
                "problem": f"Left red afterwards: { {id: run.sentence for (id, _), run in left.items()} }",
            }
        result["seconds"] = round(time.monotonic() - started, 1)
        print(json.dumps(result), flush=True)
    end = {f"{id} {target}".strip(): run.sentence for (id, target), run in red_places(run_checks()).items()}
    print(json.dumps({"end": end}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
