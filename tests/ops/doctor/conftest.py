"""What the doctor's tests share: registries that are put back, and a world with one thing that breaks."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ops import registry
from ops.doctor import faults, guides, issues, repairs
from ops.registry import Affected, CheckOutcome, register_check
from ops.words import counted


@pytest.fixture
def clean_doctor(clean_registry, monkeypatch):
    """Whatever a test registers with the doctor is forgotten afterwards."""
    for module, name in ((repairs, "_repairs"), (guides, "_guides"), (faults, "_faults")):
        monkeypatch.setattr(module, name, dict(getattr(module, name)))
    monkeypatch.setattr(issues, "_listeners", [])


@pytest.fixture
def lamp(clean_doctor):
    """One check on one lamp, the only check there is: ``lamp.broken = {"agent:1"}`` names what is wrong."""
    for known in (registry._checks, repairs._repairs, guides._guides, faults._faults):
        known.clear()
    world = SimpleNamespace(broken=set(), status="fail", applied=0, undone=0, fail_apply=None, told=[])

    @register_check("lamp.on", title="The lamps are on", severity="critical", repairs=("lamp.switch",))
    def on():
        if world.broken:
            return CheckOutcome(
                world.status,
                f"{counted(len(world.broken), 'lamp is', 'lamps are')} off.",
                {"count": len(world.broken)},
                affected=tuple(Affected(one, "It is dark.") for one in sorted(world.broken)),
            )
        return CheckOutcome("pass", "All lamps are on.")

    issues.on_issue(lambda event, issue: world.told.append((event, issue.check_id)))

    def plan(work):
        wanted = [one for one in work.affected or sorted(world.broken) if one in world.broken]
        return repairs.Plan(
            f"{counted(len(wanted), 'lamp')} would be switched on.",
            tuple(repairs.Change(one, "lamp", "off", "on") for one in wanted),
            {"lamps": wanted},
            {"lamps": wanted},
        )

    def apply(work):
        world.applied += 1
        world.broken -= set(work.plan.data["lamps"])
        if world.fail_apply:
            raise world.fail_apply
        return {"switched": len(work.plan.data["lamps"])}

    def undo(work):
        world.undone += 1
        world.broken |= set(work.snapshot["lamps"])

    world.repair = repairs.register_repair(
        "lamp.switch",
        title="Switch the lamps on",
        repair_class="A",
        button="Switch on",
        explain="Switches every dark lamp on.",
        plan=plan,
        apply=apply,
        undo=undo,
    )
    return world
