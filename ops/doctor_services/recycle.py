"""The repair that has a process replaced by a fresh one, after its current work."""

from __future__ import annotations

from typing import Any

from ops.adapters import AdapterError, adapter_for, role_part
from ops.doctor.repairs import Change, Plan, RepairFailed, RepairRefused, RepairWork, register_repair
from ops.doctor_services.checks_resources import troubles_of
from ops.doctor_services.waiting import end_of, ready_one
from ops.leases import WORKER
from ops.models import Process
from ops.processes.queries import alive, expected_roles, label
from ops.processes.services import process_drain
from ops.registry import ServiceField


def _wanted(work: RepairWork) -> list[Process]:
    """The live processes that are meant; without ``force`` only those that use too much."""
    rows = [row for row in alive() if row.drain_requested_at is None]
    kind, _, key = work.target.partition(":")
    if kind == "process":
        rows = [row for row in rows if row.pk == key]
    elif kind == "role":
        rows = [row for row in rows if row.role == key]
    elif work.target:
        raise RepairRefused(f"{work.target!r} is no process.")
    if work.params.get("force"):
        return rows
    return [row for row in rows if troubles_of(row)]


def replaced_by(row: Process, others: list[Process]) -> str:
    """Who does the work of a process once it has ended; "" when nobody would."""
    adapter = adapter_for(role_part(row.role))
    if row.role == "up":
        return "it starts itself again"
    if adapter.supervises:
        return f"{adapter.name} starts the next one"
    if adapter.name == "local":
        return "the next one is started"
    if row.role not in expected_roles():
        return "it is not needed here"
    if any(one.role == row.role and one.pk != row.pk for one in others):
        return "another one of its kind goes on"
    return ""


def _plan(work: RepairWork) -> Plan:
    everybody = alive()
    changes = []
    names = []
    for row in _wanted(work):
        by = replaced_by(row, [one for one in everybody if one.drain_requested_at is None])
        if not by:
            part = role_part(row.role)
            raise RepairRefused(
                f"{label(row).capitalize()} would end and nobody would start the next one. Restart it by hand: "
                f"{adapter_for(part).command(part, 'start')}"
            )
        names.append(row.pk)
        before = f"runs since {row.started_at:%d %b %H:%M}, {row.rss_bytes / 2**20:.0f} MB"
        changes.append(Change(f"process:{row.pk}", str(row), before, f"ends after its current work; {by}"))
    if not changes:
        return Plan("No process has to be replaced.")
    count = "One process is" if len(changes) == 1 else f"{len(changes)} processes are"
    return Plan(
        f"{count} replaced after {'its' if len(changes) == 1 else 'their'} current work.",
        tuple(changes),
        {"rows": names},
    )


def _apply(work: RepairWork) -> dict[str, Any]:
    rows = list(Process.objects.filter(pk__in=work.plan.data["rows"]))
    receipt: dict[str, Any] = {}
    # One after the other: the work of each has somebody to go to.
    for number, row in enumerate(sorted(rows, key=lambda one: one.pk == WORKER)):
        work.progress(number, len(rows), str(row))
        process_drain(process=row, actor=work.actor)
        if row.pk == WORKER:
            receipt[str(row)] = "asked; it ends after its current work"
        elif not end_of(row):
            receipt[str(row)] = "has heard it, and ends after its current work"
        else:
            receipt[str(row)] = _replace(row)
    return receipt


def _replace(row: Process) -> str:
    part = role_part(row.role)
    adapter = adapter_for(part)
    if adapter.name != "local" or row.role not in expected_roles() or row.role == "up":
        return "has ended"
    try:
        adapter.start(part)
    except AdapterError as error:
        raise RepairFailed(str(error)) from error
    fresh = ready_one(row.role, since=row.started_at)
    if fresh is None:
        raise RepairFailed(
            f"{label(row).capitalize()} has ended, and the next one does not get ready. Look at its log."
        )
    return f"replaced by {label(fresh)}"


register_repair(
    "service.recycle",
    title="Replace a process by a fresh one",
    repair_class="A",
    button="Recycle",
    explain=(
        "The process takes no more work, ends after what it is doing, and is started anew: no message is lost. For one that "
        "uses too much memory or processor time."
    ),
    plan=_plan,
    apply=_apply,
    fields=(ServiceField("force", "Also when it uses little", kind="bool", default=False),),
    target_kinds=("process", "role"),
    settles_after=10.0,
)
