"""Runs repairs: plan, show, keep what undoes it, apply, ask the check again, receipt; and undoes them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from ops.choices import IssueState, JobState, RepairClass, RepairRunState
from ops.doctor.planning import (
    Planned,
    affected_objects,
    find_repair,
    form_values,
    plain_json,
    plan_of,
    shown_changes,
    words_of,
    work_of,
)
from ops.doctor.proving import ask_again, statuses
from ops.doctor.queries import automatic_repairs, may_run_unattended
from ops.doctor.repairs import Plan, Repair, RepairRefused, RepairWork, get_repair
from ops.job_kinds import JobFailed, JobHandle, job_kind
from ops.leases import WORKER, holder_is_dead
from ops.locks import LockHeld, named_lock
from ops.logs import bind, get_logger
from ops.models import Issue, NamedLock, RepairPolicy, RepairRun
from ops.redaction import redact, redact_text
from ops.services import audit
from ops.services.jobs import job_start

logger = get_logger(__name__)

UNDO_WITHIN = timedelta(days=7)
_JOB = "ops.repair"


def repair_plan(*, repair_id: str, target: str = "", params: Mapping[str, Any] | None = None, actor: str) -> Planned:
    """What the repair would change; changes nothing.

    ``target`` is one object (``agent:42``), a check's target, or "" for everything affected. Raises ``ValueError`` for an unknown
    repair and ``RepairRefused`` when it cannot be done as things stand.
    """
    repair = find_repair(repair_id)
    values = form_values(repair, params or {})
    return plan_of(repair, work_of(repair, target, values, actor))


def repair_start(
    *,
    repair_id: str,
    target: str = "",
    params: Mapping[str, Any] | None = None,
    actor: str,
    trigger: str,
    issue: Issue | None = None,
    typed: str = "",
) -> RepairRun:
    """Plan the repair and do it: here, or as a job when it is a long one and somebody waits in a browser.

    Returns the run; ``unneeded`` when there was nothing to change. ``trigger`` is a ``JobTrigger``. Raises ``ValueError`` for an
    unknown repair, ``RepairRefused`` (also when ``typed`` is not the word that a destructive repair asks for) and ``LockHeld``
    while the same repair works on the same target. A failure does not raise: the run says what happened.
    """
    planned = repair_plan(repair_id=repair_id, target=target, params=params, actor=actor)
    repair = planned.repair
    run = RepairRun(
        repair_id=repair.id,
        target=target[:200],
        repair_class=repair.repair_class,
        issue=issue,
        actor=actor[:255],
        sentence=redact_text(planned.plan.sentence)[:1000],
        changes=shown_changes(planned.plan),
        changes_count=len(planned.plan.changes),
        params=planned.params,
    )
    if not planned.plan.changes:
        return _unneeded(run, repair)
    if planned.confirm_word and typed.strip() != planned.confirm_word:
        raise RepairRefused(f"Type {planned.confirm_word!r} to confirm: this cannot be done by one click.")
    if repair.long and trigger != "command":
        with transaction.atomic():
            run.save()
            run.job = job_start(
                kind=_JOB, title=f"Repair: {repair.title}", actor=actor, trigger=trigger, params={"run": str(run.pk)}
            )
            run.save(update_fields=["job"])
        return run
    # Before the row is written: a second one leaves no trace.
    with named_lock(_lock(repair, target), ttl=60):
        run.save()
        _perform(run, repair, planned.plan)
    return run


def repair_undo(*, run: RepairRun, actor: str) -> RepairRun:
    """Bring back what the run changed, and ask its checks again.

    Raises ``RepairRefused`` when it cannot be undone (any more), and ``LockHeld``. When undoing fails the run stays as it was.
    """
    repair = find_repair(run.repair_id)
    with named_lock(_lock(repair, run.target), ttl=60):
        run.refresh_from_db()
        reason = why_not_undo(run)
        if reason or repair.undo is None:
            raise RepairRefused(reason or "This repair cannot be undone.")
        work = RepairWork(target=run.target, params=run.params or {}, actor=actor, plan=_kept_plan(run), run=run)
        with bind(repair=repair.id):
            try:
                with transaction.atomic() if repair.atomic else nullcontext():
                    repair.undo(work)
            except RepairRefused:
                raise
            except Exception as error:
                logger.exception("repair_not_undone")
                raise RepairRefused(f"It could not be undone: {words_of(error)}") from error
        with transaction.atomic():
            run.state, run.undone_at, run.undone_by = RepairRunState.UNDONE, timezone.now(), actor[:255]
            run.save(update_fields=["state", "undone_at", "undone_by"])
            audit.record(
                actor=actor,
                action="repair.undone",
                target=run,
                message=f"{repair.title}: undone.",
                after={"repair": repair.id, "target": run.target},
            )
        ask_again(repair, run)
    return run


def why_not_undo(run: RepairRun) -> str:
    """Why a run cannot be undone, in a sentence; "" when it can."""
    repair = get_repair(run.repair_id)
    if repair is None or repair.undo is None:
        return "This repair cannot be undone."
    if run.state == RepairRunState.UNDONE:
        return "It has been undone already."
    if run.state not in (RepairRunState.SUCCEEDED, RepairRunState.UNPROVEN):
        return "There is nothing to undo: it changed nothing that stayed."
    if run.undo_until is not None and run.undo_until < timezone.now():
        return f"It can be undone for {UNDO_WITHIN.days} days only; they are over."
    return ""


def repair_policy_set(*, repair_id: str, automatic: bool, actor: str) -> RepairPolicy:
    """Let a repair of class A run unattended, or stop that. Raises ``RepairRefused`` for one that must not."""
    repair = find_repair(repair_id)
    if automatic and (repair.repair_class is not RepairClass.AUTOMATIC or repair.fields):
        raise RepairRefused("Only a repair of class A that asks nothing may run unattended.")
    with transaction.atomic():
        policy, _ = RepairPolicy.objects.update_or_create(
            repair_id=repair.id, defaults={"automatic": automatic, "changed_by": actor[:255]}
        )
        audit.record(actor=actor, action="repair.policy", target=f"repair:{repair.id}", after={"automatic": automatic})
    return policy


def run_automatic_repairs() -> int:
    """Start the proposed repairs of open issues that may run unattended; returns how many ran."""
    allowed = automatic_repairs()
    count = 0
    if not allowed:
        return 0
    for issue in Issue.objects.filter(state=IssueState.OPEN, fix__repair__in=sorted(allowed)):
        repair = get_repair(issue.fix["repair"])
        target = issue.fix.get("target", "")
        if repair is None or not may_run_unattended(repair, target):
            continue
        try:
            repair_start(
                repair_id=repair.id,
                target=target,
                params=issue.fix.get("params") or {},
                actor="system",
                trigger="beat",
                issue=issue,
            )
            count += 1
        except (RepairRefused, LockHeld) as error:
            logger.info("automatic_repair_refused", repair=repair.id, target=target, error=str(error))
    return count


def sweep_repairs() -> int:
    """Settle runs whose process died while they ran; returns how many."""
    count = 0
    for run in RepairRun.objects.filter(state=RepairRunState.RUNNING):
        repair = get_repair(run.repair_id)
        held = repair is not None and NamedLock.objects.filter(
            name=_lock(repair, run.target), expires_at__gt=timezone.now()
        )
        # Whoever runs it holds its lock, and prolongs it while it lives.
        if held and held.exists() and not holder_is_dead(run.worker):
            continue
        text = (
            "Its process died while it ran. What it had done may have stayed; look at the objects, then start it again."
        )
        count += RepairRun.objects.filter(pk=run.pk, state=RepairRunState.RUNNING).update(
            state=RepairRunState.FAILED, error=text, finished_at=timezone.now()
        )
        _let_go(run)
    for run in RepairRun.objects.filter(
        state=RepairRunState.QUEUED, job__state__in=[JobState.FAILED, JobState.CANCELLED]
    ):
        count += RepairRun.objects.filter(pk=run.pk, state=RepairRunState.QUEUED).update(
            state=RepairRunState.FAILED, error="Its job ended before it began.", finished_at=timezone.now()
        )
    return count


@job_kind(_JOB, label="Repair")
def _run_as_job(job: JobHandle, *, run: str) -> dict[str, Any]:
    row = RepairRun.objects.filter(pk=run, state=RepairRunState.QUEUED).first()
    if row is None:
        raise JobFailed("This repair has run already, or was removed.")
    repair = find_repair(row.repair_id)
    try:
        with named_lock(_lock(repair, row.target), ttl=60):
            # The world may have changed since the plan was shown: what is applied is planned now.
            planned = plan_of(repair, work_of(repair, row.target, dict(row.params or {}), row.actor, job.progress))
            row.changes, row.changes_count = shown_changes(planned.plan), len(planned.plan.changes)
            row.sentence = redact_text(planned.plan.sentence)[:1000]
            if not planned.plan.changes:
                _unneeded(row, repair)
            else:
                _perform(row, repair, planned.plan, job.progress)
    except (RepairRefused, LockHeld) as error:
        RepairRun.objects.filter(pk=row.pk).update(
            state=RepairRunState.FAILED, error=redact_text(str(error)), finished_at=timezone.now()
        )
        raise JobFailed(str(error)) from error
    if row.state == RepairRunState.FAILED:
        raise JobFailed(row.error)
    return {"run": str(row.pk), "state": row.state, "sentence": row.sentence}


def _perform(
    run: RepairRun, repair: Repair, plan: Plan, progress: Callable[[int, int, str], None] | None = None
) -> None:
    """Apply a plan under the repair's lock, and write the receipt."""
    run.state, run.worker, run.started_at = RepairRunState.RUNNING, WORKER[:100], timezone.now()
    run.snapshot = plain_json(plan.snapshot)
    run.checks_before = statuses(repair, run)
    run.save()
    if run.issue_id:
        Issue.objects.filter(pk=run.issue_id).exclude(state=IssueState.RESOLVED).update(state=IssueState.FIXING)
    work = RepairWork(
        target=run.target,
        params=run.params or {},
        actor=run.actor,
        plan=plan,
        run=run,
        affected=affected_objects(repair, run.target),
        progress=progress,
    )
    with bind(repair=repair.id, target=run.target or None):
        try:
            with transaction.atomic() if repair.atomic else nullcontext():
                receipt = repair.apply(work)
        except Exception as error:
            _failed(run, repair, work, error)
            return
        run.receipt = redact(plain_json(receipt or {}))
        green = ask_again(repair, run, patience=repair.settles_after)
        run.state = RepairRunState.SUCCEEDED if green else RepairRunState.UNPROVEN
        run.finished_at = timezone.now()
        run.undo_until = run.finished_at + UNDO_WITHIN if repair.undo is not None else None
        with transaction.atomic():
            run.save()
            audit.record(
                actor=run.actor,
                action="repair.done",
                target=run,
                message=f"{repair.title}: {run.sentence}",
                after={"repair": repair.id, "target": run.target, "state": str(run.state), "changes": run.changes[:50]},
            )
        _let_go(run)
        logger.info("repair_done", state=str(run.state), changes=run.changes_count)


def _failed(run: RepairRun, repair: Repair, work: RepairWork, error: Exception) -> None:
    """Say so, and take back what was done: a repair that fails changes nothing."""
    logger.warning("repair_failed", exc_info=True)
    text = words_of(error)
    if not repair.atomic and repair.undo is not None:
        try:
            repair.undo(work)
            text += " What had been done was taken back."
        except Exception as second:
            logger.exception("repair_not_taken_back")
            text += f" What had been done could not be taken back: {words_of(second)}"
    elif not repair.atomic:
        text += " Look at what it had done before you start it again."
    run.state, run.error, run.finished_at = RepairRunState.FAILED, text, timezone.now()
    with transaction.atomic():
        run.save()
        audit.record(
            actor=run.actor,
            action="repair.failed",
            target=run,
            message=text,
            after={"repair": repair.id, "target": run.target},
        )
    _let_go(run)


def _unneeded(run: RepairRun, repair: Repair) -> RepairRun:
    run.state = RepairRunState.UNNEEDED
    run.started_at = run.started_at or timezone.now()
    run.finished_at = timezone.now()
    run.save()
    # The issue may be older than the world: asking closes it.
    if run.issue_id:
        ask_again(repair, run)
    return run


def _let_go(run: RepairRun) -> None:
    """An issue that the repair left red is open again."""
    if run.issue_id:
        Issue.objects.filter(pk=run.issue_id, state=IssueState.FIXING).update(state=IssueState.OPEN)


def _kept_plan(run: RepairRun) -> Plan:
    return Plan(run.sentence, (), {}, dict(run.snapshot or {}))


def _lock(repair: Repair, target: str) -> str:
    name = f"repair:{repair.id}:{target}"
    return name if len(name) <= 100 else f"repair:{hashlib.sha256(name.encode()).hexdigest()}"
