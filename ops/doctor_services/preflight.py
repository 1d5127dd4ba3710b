"""The repair for what starts again and again: asks everything that a start depends on, and names what is wrong."""

from __future__ import annotations

from typing import Any

from django.utils import timezone

from ops.doctor.repairs import Change, Plan, RepairFailed, RepairWork, register_repair
from ops.doctor_services.loops import WINDOW, failed_starts, looping
from ops.models import Process
from ops.processes.preflight import last_start, put_back
from ops.processes.queries import by_role, label
from ops.processes.services import process_settle, process_unsettle
from ops.registry import all_checks
from ops.runner import CheckRun, run_checks
from ops.words import counted

# A start needs its settings, its database, its broker, its ports and its folder.
_TAGS = {"start", "config", "ports"}
_NOT = ("svc.", "api.", "worker.", "res.")


def preflight_checks() -> list[str]:
    """Ids of the checks that a start depends on: not those that look at the processes themselves."""
    return [
        check.id
        for check in all_checks()
        if _TAGS & set(check.tags) and not check.live and not check.id.startswith(_NOT)
    ]


def _loops() -> list[Process]:
    states, now = by_role(WINDOW * 2), timezone.now()
    rows = [row for rows in looping(states, now).values() for row in rows]
    return list(dict.fromkeys((*rows, *failed_starts(states, now, ("up", "web")))))


def _plan(work: RepairWork) -> Plan:
    rows = _loops()
    last = last_start()
    given_up = bool(last) and not last.get("ok")
    if not rows and not given_up:
        return Plan("No process fails at its start; there is nothing to look into.")
    names = preflight_checks()
    changes = tuple(Change(f"process:{row.pk}", "failed start", "not explained", "looked into") for row in rows)
    if given_up:
        changes += (Change("preflight", "last start", last.get("sentence"), "looked into"),)
    return Plan(
        f"Asks the {counted(len(names), 'check')} that a start depends on. "
        f"If none is red, the {counted(len(rows), 'failed start is', 'failed starts are')} settled; "
        "if one is, it is named.",
        changes,
        {"rows": [row.pk for row in rows], "checks": names},
        {
            "rows": {
                row.pk: {"ended_at": row.ended_at.isoformat() if row.ended_at else None, "end_reason": row.end_reason}
                for row in rows
            },
            "last_start": last if given_up else {},
        },
    )


def _apply(work: RepairWork) -> dict[str, Any]:
    work.progress(0, 1, "preflight")
    red = [run for run in run_checks(work.plan.data["checks"]) if run.status == "fail"]
    if red:
        raise RepairFailed(f"The preflight found what is wrong. {' '.join(_words(run) for run in red[:5])}")
    rows = list(Process.objects.filter(pk__in=work.plan.data["rows"]))
    process_settle(processes=rows, actor=work.actor, reason="a preflight found nothing wrong.")
    if work.snapshot.get("last_start"):
        put_back({**work.snapshot["last_start"], "ok": True, "settled": "a preflight found nothing wrong"})
    return {"asked": len(work.plan.data["checks"]), "red": [], "settled": [label(row) for row in rows[:10]]}


def _words(run: CheckRun) -> str:
    place = f"{run.check.id} ({run.target})" if run.target else run.check.id
    offer = run.fix.repair if run.fix is not None else next(iter(run.check.repairs), "")
    return f"{place}: {run.sentence}" + (f" Repair: {offer}." if offer else "")


def _undo(work: RepairWork) -> None:
    if work.snapshot.get("last_start"):
        put_back(work.snapshot["last_start"])
    kept = work.snapshot.get("rows") or {}
    settled = set(
        Process.objects.filter(pk__in=list(kept), end_reason__startswith="Settled:").values_list("pk", flat=True)
    )
    if settled:
        process_unsettle(kept={name: fields for name, fields in kept.items() if name in settled}, actor=work.actor)


register_repair(
    "service.preflight",
    title="Find out why it does not start",
    repair_class="A",
    button="Run the preflight",
    explain=(
        "Asks every check that a start depends on: settings, database, broker, ports, disk. The one that is red is named with its "
        "own repair. If none is, the failed starts so far no longer count, and three new ones turn the check red again."
    ),
    plan=_plan,
    apply=_apply,
    undo=_undo,
    settles_after=2.0,
)
