"""config.load: restarts the processes that do not run with the settings as they are configured."""

from __future__ import annotations

from typing import Any

from ops.doctor.repairs import Change, Plan, RepairFailed, RepairRefused, RepairWork, get_repair, register_repair
from ops.doctor_config.checks_settings import behind_settings
from ops.processes.queries import label

_RESTART = "service.restart"


def _plan(work: RepairWork) -> Plan:
    behind = behind_settings()
    if not behind:
        return Plan("Every process runs with the settings as they are configured.")
    restart = get_repair(_RESTART)
    if restart is None:
        raise RepairRefused("Processes cannot be restarted from here; the guide says how.")
    # In the order in which they are restarted: those that serve last.
    roles = sorted({row.role for row in behind}, key=lambda role: role in ("web", "up"))
    for role in roles:
        restart.plan(_restart_work(work, role))
    changes = tuple(Change(f"process:{row.name}", "settings", names, "as configured") for row, names in behind.items())
    words = ", ".join(label(row) for row in behind)
    return Plan(f"{words} restarts after its current work and loads the settings.", changes, {"roles": roles})


def _apply(work: RepairWork) -> dict[str, Any]:
    restart = get_repair(_RESTART)
    if restart is None:
        raise RepairFailed("Processes cannot be restarted from here.")
    receipt: dict[str, Any] = {}
    for role in work.plan.data["roles"]:
        planned = restart.plan(_restart_work(work, role))
        receipt |= restart.apply(_restart_work(work, role, planned)) or {}
    return receipt


def _restart_work(work: RepairWork, role: str, plan: Plan | None = None) -> RepairWork:
    return RepairWork(target=f"role:{role}", params={"force": True}, actor=work.actor, plan=plan)


register_repair(
    "config.load",
    title="Load the settings",
    repair_class="C",
    button="Restart what is behind",
    explain="Restarts exactly the processes that do not run with the settings as they are configured; what they are at is finished "
    "first. Where nobody manages processes the exact command is shown instead.",
    plan=_plan,
    apply=_apply,
    settles_after=20.0,
)
