"""More than one of what there must be one of, and the repair that asks one of them to go."""

from __future__ import annotations

from typing import Any

from django.db import connection

from ops.adapters import adapter_for, role_part
from ops.doctor.repairs import Change, Plan, RepairRefused, RepairWork, register_repair
from ops.doctor_services.waiting import end_of
from ops.leases import WORKER
from ops.models import Process
from ops.processes.queries import alive, label
from ops.processes.services import process_drain
from ops.registry import Affected, CheckOutcome, Fix, register_check

# Both run the schedule, of which there is one.
_SCHEDULERS = ("up", "beat")


def rivals() -> tuple[list[Process], str]:
    """Processes that there are too many of (oldest first), and why; none and "" when all is well."""
    rows = [row for row in alive() if row.drain_requested_at is None]
    schedulers = [row for row in rows if row.role in _SCHEDULERS]
    if len(schedulers) > 1:
        return schedulers, "Two schedules run: everything that comes round is done twice"
    hosts = {row.host for row in rows}
    if connection.vendor == "sqlite" and len(hosts) > 1:
        first = rows[0].host
        return [row for row in rows if row.host == first] + [row for row in rows if row.host != first], (
            "Processes of two hosts write to one SQLite file, which corrupts it"
        )
    return [], ""


@register_check(
    "db.multi_writer",
    title="One Switchboard works on this database",
    tags=("data", "processes"),
    interval=60,
    severity="error",
    depends_on=("db.reachable",),
    opens_after=2,
    repairs=("instance.evict",),
)
def multi_writer() -> CheckOutcome:
    """Red when two processes run the schedule (``up`` or beat), or two hosts write to one SQLite file.

    Any number of web servers and workers may share a PostgreSQL database; of the schedule there is one everywhere.
    """
    rows, why = rivals()
    if not rows:
        return CheckOutcome("pass", "One Switchboard works on this database.")
    evidence = {
        "instances": [
            {
                "role": row.role,
                "host": row.host,
                "pid": row.pid,
                "version": row.version,
                "since": row.started_at.isoformat(),
            }
            for row in rows[:20]
        ],
        "vendor": connection.vendor,
    }
    affected = tuple(
        Affected(f"process:{row.pk}", f"{label(row).capitalize()}, version {row.version}.") for row in rows
    )
    sentence = f"{why}: {label(rows[0])} and {label(rows[1])}. Ask one of them to go."
    return CheckOutcome("fail", sentence, evidence, affected, Fix("instance.evict", f"process:{rows[0].pk}"))


def _wanted(work: RepairWork) -> Process | None:
    if work.target.startswith("process:"):
        return next((row for row in alive() if row.pk == work.target.partition(":")[2]), None)
    rows = rivals()[0]
    # The older one goes, unless it is the one that would have to do it.
    return next((row for row in rows if row.pk != WORKER), None)


def _plan(work: RepairWork) -> Plan:
    row = _wanted(work)
    rows, _ = rivals()
    if row is None or row.pk not in {one.pk for one in rows}:
        return Plan("One Switchboard works on this database; nobody has to go.")
    if row.pk == WORKER:
        raise RepairRefused(
            "That is the process which would do it. Ask the other one to go, or stop this one yourself."
        )
    adapter = adapter_for(role_part(row.role))
    note = (
        f" Its manager would start it again; take it out there as well ({adapter.name})." if adapter.supervises else ""
    )
    return Plan(
        f"{label(row).capitalize()} ends after its current work; the other one keeps the schedule.{note}",
        (Change(f"process:{row.pk}", "process", f"runs since {row.started_at:%d %b %H:%M}", "ended"),),
        {"process": row.pk},
    )


def _apply(work: RepairWork) -> dict[str, Any]:
    row = Process.objects.get(pk=work.plan.data["process"])
    process_drain(process=row, actor=work.actor, evict=True)
    ended = end_of(row)
    return {
        "process": str(row),
        "ended": ended,
        "note": "" if ended else "It has heard it, and ends after its current work.",
    }


register_repair(
    "instance.evict",
    title="Ask the other Switchboard to go",
    repair_class="C",
    button="Evict",
    explain="The older of two processes that must not run side by side ends after its current work; the other goes on alone.",
    plan=_plan,
    apply=_apply,
    target_kinds=("process",),
    settles_after=5.0,
)
