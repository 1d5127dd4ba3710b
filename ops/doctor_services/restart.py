"""The repair that starts what is down, and restarts what hangs, through whoever manages it."""

from __future__ import annotations

import contextlib
import os
import signal
from datetime import timedelta
from typing import Any

from django.utils import timezone

from ops.adapters import Adapter, AdapterError, Part, adapter_for, part_of, role_part
from ops.adapters.local import log_tail
from ops.checks import HEARTBEAT_DEAD, worker_age
from ops.choices import ServiceStatus
from ops.doctor.repairs import Change, Plan, RepairFailed, RepairRefused, RepairWork, register_repair
from ops.doctor_services.checks_processes import ask_livez, missing_roles, unreplaced
from ops.doctor_services.waiting import READY_SECONDS, end_of, ready_one, until
from ops.leases import WORKER
from ops.models import Process, Service
from ops.processes.facts import boot_id
from ops.processes.queries import START_SECONDS, RoleState, alive, by_role, expected_roles, is_gone, label
from ops.processes.services import process_drain
from ops.registry import ServiceField
from ops.services.services import service_test

_LOOK_BACK = timedelta(days=14)
# A service that was restarted has so long to answer its test.
_SERVICE_SECONDS = 60.0


def hangs(row: Process) -> str:
    """Why a process that runs is no use, "" when it is."""
    if row.ready_after_seconds is None:
        age = timezone.now() - row.started_at
        return "it is not ready" if age > timedelta(seconds=START_SECONDS) else ""
    if row.role in ("web", "up") and row.ports and row.boot_id == boot_id() and (problem := ask_livez(row, tries=1)):
        return f"it does not answer: {problem.rstrip('.')}"
    if row.role in ("worker", "up") and _takes_nothing():
        return "it takes no tasks"
    return ""


def _takes_nothing() -> bool:
    """Beat sends a task every ten seconds, and no worker has run one for a minute."""
    age = worker_age()
    return age is not None and age > HEARTBEAT_DEAD and bool(alive(("beat", "up")))


def _targets(work: RepairWork) -> list[Part]:
    """The parts that are meant: the target, or everything that was found missing or hanging."""
    try:
        if work.target:
            return [part_of(work.target)]
        found = [part_of(one) for one in work.affected if one.partition(":")[0] in ("role", "process", "service")]
    except ValueError as error:
        raise RepairRefused(str(error)) from error
    states = by_role(_LOOK_BACK)
    lost, never = missing_roles(states, timezone.now())
    found += [role_part(role) for role in (*lost, *never)]
    found += [role_part(role) for role in expected_roles() if any(hangs(row) for row in states[role].alive)]
    return list({part.target: part for part in found}.values())


def _plan(work: RepairWork) -> Plan:
    states = by_role(_LOOK_BACK)
    force = bool(work.params.get("force"))
    changes: list[Change] = []
    steps: list[dict[str, Any]] = []
    sentences: list[str] = []
    for part in _targets(work):
        step = _service_step(part, force) if part.service is not None else _role_step(part, states[part.role], force)
        if step is None:
            continue
        adapter = adapter_for(part)
        problem = "" if step["way"] == "drain" and _comes_back(part, adapter) else adapter.why_not(part)
        if problem:
            raise RepairRefused(problem)
        steps.append(step)
        changes.append(Change(part.target, "state", step["before"], "running"))
        sentences.append(
            f"{part.label} is {'restarted' if step['way'] != 'start' else 'started'} ({_means(part, adapter)})"
        )
    if not steps:
        return Plan("What was asked for runs; nothing has to be started.")
    text = "; ".join(sentences)
    return Plan(f"{text[:1].upper()}{text[1:]}.", tuple(changes), {"steps": steps})


def _means(part: Part, adapter: Adapter) -> str:
    return "by itself" if part.role == "up" and adapter.name == "none" else adapter.name


def _comes_back(part: Part, adapter: Adapter) -> bool:
    """Whether a process that ends politely is there again without our doing."""
    return adapter.supervises or part.role == "up"


def _role_step(part: Part, state: RoleState, force: bool) -> dict[str, Any] | None:
    hanging = {row.pk: why for row in state.alive if (why := hangs(row))}
    if hanging:
        return {
            "target": part.target,
            "way": "restart",
            "before": next(iter(hanging.values())),
            "rows": sorted(hanging),
        }
    if not state.alive:
        # One that stands still reports nothing, and still has its port.
        still = [row.pk for row in state.dead if row.ended_at is None and row.boot_id == boot_id() and not is_gone(row)]
        if still:
            return {"target": part.target, "way": "restart", "before": "stands still", "rows": still}
        return {"target": part.target, "way": "start", "before": "not running", "rows": []}
    lost = unreplaced(state, timezone.now()) if part.role in expected_roles() else []
    if lost:
        return {"target": part.target, "way": "start", "before": f"{len(lost)} lost", "rows": []}
    rows = [row.pk for row in state.alive if row.drain_requested_at is None]
    if force and rows:
        return {"target": part.target, "way": "drain", "before": "running", "rows": rows}
    return None


def _service_step(part: Part, force: bool) -> dict[str, Any] | None:
    assert part.service is not None
    if not part.service.enabled:
        raise RepairRefused(f"{part.label.capitalize()} is switched off. Switch it on first.")
    result = service_test(service=part.service, actor="system")
    if result.status == ServiceStatus.OK and not force:
        return None
    return {"target": part.target, "way": "restart", "before": str(result.status), "rows": []}


def _apply(work: RepairWork) -> dict[str, Any]:
    receipt: dict[str, Any] = {}
    steps = work.plan.data["steps"]
    for number, step in enumerate(steps):
        part = part_of(step["target"])
        work.progress(number, len(steps), part.label)
        try:
            receipt[part.target] = _do_service(part) if part.service is not None else _do_role(part, step, work.actor)
        except AdapterError as error:
            raise RepairFailed(str(error)) from error
    return receipt


def _do_service(part: Part) -> str:
    adapter = adapter_for(part)
    adapter.restart(part)

    def answers() -> bool:
        service = Service.objects.get(pk=part.service.pk)  # type: ignore[union-attr]
        return service_test(service=service, actor="system").status != ServiceStatus.DOWN

    if not until(answers, _SERVICE_SECONDS):
        raise RepairFailed(f"{part.label.capitalize()} was restarted and does not answer yet. Look at its log.")
    return "answers again"


def _do_role(part: Part, step: dict[str, Any], actor: str) -> str:
    adapter = adapter_for(part)
    began = timezone.now() - timedelta(seconds=1)
    rows = list(Process.objects.filter(pk__in=step["rows"]))
    if any(row.pk == WORKER for row in rows):
        for row in rows:
            process_drain(process=row, actor=actor)
        return "This process was asked as well: it ends after its current work, and comes back."
    if step["way"] == "drain":
        for row in rows:
            process_drain(process=row, actor=actor)
        if not all(end_of(row) for row in rows):
            return "It has heard it, and is restarted after its current work."
        if not _comes_back(part, adapter):
            for _ in rows:
                adapter.start(part)
    elif step["way"] == "restart" and adapter.supervises:
        adapter.restart(part)
    else:
        for row in rows:
            end_now(row)
        adapter.start(part)
    fresh = ready_one(part.role, since=began)
    if fresh is None:
        tail = log_tail(part.role) if adapter.name == "local" else ""
        detail = f" The end of its log:\n{tail}" if tail else ""
        raise RepairFailed(f"{part.label.capitalize()} was started and is not ready after {READY_SECONDS:g} s.{detail}")
    return f"{label(fresh)} is ready after {fresh.ready_after_seconds:.1f} s"


def end_now(row: Process) -> None:
    """End a process of this machine that hangs: politely, then by force. Raises ``RepairFailed`` for one of another machine."""
    if row.boot_id != boot_id():
        raise RepairFailed(f"{label(row).capitalize()} hangs, and runs on another machine: end it there.")
    for number, seconds in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
        if is_gone(row):
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(row.pid, number)
        until(lambda: is_gone(row), seconds)


register_repair(
    "service.restart",
    title="Start or restart what is down",
    repair_class="C",
    button="Restart",
    explain=(
        "Starts what is down and restarts what hangs: our own processes through PROCESS_MANAGER, the local homeserver through "
        "`up`, an outside service through the unit or container that its options name. Where nobody was named the exact "
        "command is shown instead."
    ),
    plan=_plan,
    apply=_apply,
    fields=(
        ServiceField(
            "force", "Also when it runs well", "It ends after its current work first.", kind="bool", default=False
        ),
    ),
    target_kinds=("role", "process", "service"),
    settles_after=20.0,
)
