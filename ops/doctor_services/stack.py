"""What runs of the whole, in order, and the repair that starts what does not."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.utils import timezone

from ops.adapters import AdapterError, adapter_for, role_part
from ops.adapters.local import log_tail
from ops.doctor.repairs import Change, Plan, RepairFailed, RepairRefused, RepairWork, register_repair
from ops.doctor_services.graph import CHECKS, graph, start_order
from ops.doctor_services.restart import end_now
from ops.doctor_services.waiting import READY_SECONDS, end_of, ready_one
from ops.leases import WORKER
from ops.models import Process
from ops.models.process import ProcessRole
from ops.processes.facts import boot_id
from ops.processes.queries import START_SECONDS, by_role, expected_roles, is_gone, label
from ops.processes.services import process_drain
from ops.runner import run_checks


@dataclass(frozen=True, slots=True)
class Node:
    """One node of the whole. ``state`` is ready, starting, hangs, down or unknown; ``needs`` are other nodes."""

    name: str
    state: str
    sentence: str
    needs: tuple[str, ...]
    ready_after: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON shape: ``{name, state, sentence, needs, ready_after}``."""
        return {
            "name": self.name,
            "state": self.state,
            "sentence": self.sentence,
            "needs": list(self.needs),
            "ready_after": self.ready_after,
        }


def status() -> list[Node]:
    """Every node in the order in which they start; asks database and broker now."""
    asked = {run.check.id: run for run in run_checks(sorted(CHECKS.values()))}
    states = by_role(timedelta(days=14))
    now = timezone.now()
    needs = graph()
    nodes = []
    for name in start_order():
        if name not in ProcessRole.values:
            run = asked[CHECKS[name]]
            good = run.status in ("pass", "warn", "skip")
            nodes.append(Node(name, "ready" if good else "down", run.sentence, needs[name]))
            continue
        rows = states[name].alive
        ready = [row for row in rows if row.ready_after_seconds is not None]
        if ready:
            who = label(ready[0]) if len(ready) == 1 else f"{len(ready)} processes"
            nodes.append(
                Node(
                    name,
                    "ready",
                    f"{who} since {ready[0].started_at:%d %b %H:%M}",
                    needs[name],
                    ready[0].ready_after_seconds,
                )
            )
        elif rows:
            late = now - rows[0].started_at > timedelta(seconds=START_SECONDS)
            nodes.append(Node(name, "hangs" if late else "starting", f"{label(rows[0])} is not ready yet", needs[name]))
        else:
            nodes.append(Node(name, "down", "nothing reports", needs[name]))
    return nodes


def _superfluous() -> list[Process]:
    """Processes that hang and are not needed here: they are asked to go."""
    now = timezone.now()
    return [
        row
        for role, state in by_role().items()
        if role not in expected_roles()
        for row in state.alive
        if row.ready_after_seconds is None
        and row.drain_requested_at is None
        and now - row.started_at > timedelta(seconds=START_SECONDS)
    ]


def _plan(work: RepairWork) -> Plan:
    nodes = status()
    broken = [node for node in nodes if node.name not in ProcessRole.values and node.state == "down"]
    todo = [node for node in nodes if node.name in ProcessRole.values and node.state in ("down", "hangs")]
    spare = _superfluous()
    changes = [Change(f"process:{row.pk}", "state", "not ready, and not needed here", "ended") for row in spare]
    for node in todo:
        if any(one.name in node.needs for one in broken):
            names = " and ".join(one.name for one in broken)
            raise RepairRefused(f"The {names} has to answer first: {broken[0].sentence}")
        part = role_part(node.name)
        problem = adapter_for(part).why_not(part)
        if problem:
            raise RepairRefused(problem)
        changes.append(Change(part.target, "state", node.state, "ready"))
    if not changes:
        return Plan("Everything runs; nothing has to be started.", (), {})
    order = ", ".join(node.name for node in todo)
    text = (
        f"Starts what is down, each when what it needs is ready: {order}."
        if todo
        else "Ends what hangs and is not needed."
    )
    return Plan(text, tuple(changes), {"roles": [node.name for node in todo], "spare": [row.pk for row in spare]})


def _apply(work: RepairWork) -> dict[str, Any]:
    receipt: dict[str, Any] = {}
    for row in Process.objects.filter(pk__in=work.plan.data["spare"]):
        process_drain(process=row, actor=work.actor, evict=True)
        if not end_of(row, 8.0):
            end_now(row)
        receipt[row.pk] = "ended"
    roles = work.plan.data["roles"]
    for number, role in enumerate(roles):
        work.progress(number, len(roles), role)
        receipt[role] = _start(role)
    return receipt


def _start(role: str) -> str:
    part = role_part(role)
    adapter = adapter_for(part)
    state = by_role()[role]
    still = [row for row in state.dead if row.ended_at is None and row.boot_id == boot_id() and not is_gone(row)]
    hanging = [row for row in (*state.alive, *still) if row.pk != WORKER]
    since = timezone.now() - timedelta(seconds=1)
    try:
        if hanging and adapter.supervises:
            adapter.restart(part)
        else:
            for row in hanging:
                end_now(row)
            adapter.start(part)
    except AdapterError as error:
        raise RepairFailed(str(error)) from error
    fresh = ready_one(role, since=since)
    if fresh is None:
        tail = log_tail(role) if adapter.name == "local" else ""
        detail = f" The end of its log:\n{tail}" if tail else ""
        raise RepairFailed(f"The {role} was started and is not ready after {READY_SECONDS:g} s.{detail}")
    return f"ready after {fresh.ready_after_seconds:.1f} s"


register_repair(
    "stack.start",
    title="Bring the stack up",
    repair_class="C",
    button="Bring the stack up",
    explain="Starts every process that is missing, in order, each when what it needs is ready. What runs is left alone.",
    plan=_plan,
    apply=_apply,
    settles_after=15.0,
)
