"""A synced installation on a real Synapse (see the neighbour's), and the way from a fault to green."""

from __future__ import annotations

import json
from typing import Any

from ops.doctor.faults import get_fault
from ops.models import Issue, RepairRun
from ops.registry import get_check
from ops.runner import run_checks
from ops.services.repairs import repair_plan, repair_start, repair_undo, why_not_undo
from tests.agents.doctor.matrix.conftest import House, house, receiver, registration_file, synapse, synced

__all__ = ["house", "receiver", "registration_file", "synapse", "synced"]


def red(check_id: str, target: str = "") -> Any:
    """The check's run on a target, which must not be green."""
    run = next(one for one in run_checks([check_id]) if one.target == target)
    assert run.status in ("fail", "warn"), (run.status, run.sentence, run.evidence)
    return run


def green(check_id: str, target: str = "") -> Any:
    run = next(one for one in run_checks([check_id]) if one.target == target)
    assert run.status in ("pass", "skip"), (run.status, run.sentence, run.evidence)
    return run


def mend(repair_id: str, target: str = "", **params: Any) -> RepairRun:
    planned = repair_plan(repair_id=repair_id, target=target, params=params, actor="test")
    return repair_start(
        repair_id=repair_id, target=target, params=params, actor="test", trigger="command", typed=planned.confirm_word
    )


def walk(check_id: str, target: str = "") -> tuple[dict[str, Any], RepairRun]:
    """Break, red with its evidence, plan, repair, green, second run unneeded. Returns the fault's memory and the run."""
    fault = get_fault(check_id)
    assert fault is not None
    green(check_id, target)
    memory = json.loads(json.dumps(fault.cause()))
    run = red(check_id, target)
    assert set(fault.evidence) <= set(run.evidence), run.evidence
    check = get_check(check_id)
    assert check is not None
    for _ in range(check.opens_after - 1):
        red(check_id, target)
    issue = Issue.objects.exclude(state="resolved").get(check_id=check_id, target=target)
    fix = issue.fix
    planned = repair_plan(repair_id=fix["repair"], target=fix["target"], params=fix["params"], actor="test")
    assert planned.plan.changes, planned.plan.sentence
    red(check_id, target)
    done = repair_start(
        repair_id=fix["repair"], target=fix["target"], params=fix["params"], actor="test", trigger="command",
        issue=issue, typed=planned.confirm_word,
    )  # fmt: skip
    assert done.state == "succeeded", (done.error, done.checks_after)
    green(check_id, target)
    issue.refresh_from_db()
    assert issue.state == "resolved"
    again = repair_start(
        repair_id=fix["repair"], target=fix["target"], params=fix["params"], actor="test", trigger="command",
        typed=planned.confirm_word,
    )  # fmt: skip
    assert again.state == "unneeded", again.changes
    return memory, done


def undone(run: RepairRun) -> None:
    assert why_not_undo(run) == ""
    repair_undo(run=run, actor="test")
    assert run.state == "undone"


def heal(check_id: str, memory: dict[str, Any]) -> None:
    fault = get_fault(check_id)
    assert fault is not None
    fault.heal(memory)
    fault.heal(memory)  # also when it was healed before


def rooms_made(house: House) -> int:
    """How many rooms the homeserver has at all."""
    import sqlite3

    with sqlite3.connect(house.synapse.folder / "homeserver.db") as database:
        return int(database.execute("SELECT count(*) FROM rooms").fetchone()[0])
