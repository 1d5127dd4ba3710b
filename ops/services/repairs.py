"""Runs repairs: plan, show, keep what undoes it, apply, ask the check again, receipt; and undoes them."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db import transaction
from django.utils import timezone

from ops.choices import CheckStatus, IssueState, JobState, RepairClass, RepairRunState
from ops.doctor.queries import affected_by, automatic_repairs, dependants, may_run_unattended
from ops.doctor.repairs import Plan, Repair, RepairFailed, RepairRefused, RepairWork, all_repairs, get_repair
from ops.job_kinds import JobFailed, JobHandle, job_kind
from ops.leases import WORKER, holder_is_dead
from ops.locks import LockHeld, named_lock
from ops.logs import bind, get_logger
from ops.models import CheckState, Issue, NamedLock, RepairPolicy, RepairRun
from ops.redaction import redact, redact_text
from ops.registry import all_checks
from ops.runner import CheckRun, run_checks
from ops.services import audit
from ops.services.jobs import job_start, sentence_of

logger = get_logger(__name__)

UNDO_WITHIN = timedelta(days=7)
# So many lines of a difference are kept; the count says how many there were.
KEPT_CHANGES = 500
_JOB = "ops.repair"
_AGAIN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan with its repair. ``confirm_word`` is what has to be typed before a destructive one is applied."""

    repair: Repair
    target: str
    plan: Plan
    params: dict[str, Any]
    confirm_word: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON shape: ``{repair, title, class, target, sentence, changes, changes_count, confirm_word, undo, unneeded}``."""
        return {
            "repair": self.repair.id,
            "title": self.repair.title,
            "class": str(self.repair.repair_class.value),
            "target": self.target,
            "sentence": self.plan.sentence,
            "changes": _shown(self.plan),
            "changes_count": len(self.plan.changes),
            "confirm_word": self.confirm_word,
            "undo": self.repair.undo is not None,
            "unneeded": not self.plan.changes,
        }


def repair_plan(*, repair_id: str, target: str = "", params: Mapping[str, Any] | None = None, actor: str) -> Planned:
    """What the repair would change; changes nothing.

    ``target`` is one object (``agent:42``), a check's target, or "" for everything affected. Raises ``ValueError`` for an unknown
    repair and ``RepairRefused`` when it cannot be done as things stand.
    """
    repair = _repair(repair_id)
    values = _values(repair, params or {})
    return _plan(repair, _work(repair, target, values, actor))


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
        changes=_shown(planned.plan),
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
    repair = _repair(run.repair_id)
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
                raise RepairRefused(f"It could not be undone: {_words(error)}") from error
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
        _ask_again(repair, run)
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
    repair = _repair(repair_id)
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
    repair = _repair(row.repair_id)
    try:
        with named_lock(_lock(repair, row.target), ttl=60):
            # The world may have changed since the plan was shown: what is applied is planned now.
            planned = _plan(repair, _work(repair, row.target, dict(row.params or {}), row.actor, job.progress))
            row.changes, row.changes_count = _shown(planned.plan), len(planned.plan.changes)
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
    run.snapshot = _json(plan.snapshot)
    run.checks_before = _statuses(repair, run)
    run.save()
    if run.issue_id:
        Issue.objects.filter(pk=run.issue_id).exclude(state=IssueState.RESOLVED).update(state=IssueState.FIXING)
    work = RepairWork(
        target=run.target,
        params=run.params or {},
        actor=run.actor,
        plan=plan,
        run=run,
        affected=_affected(repair, run.target),
        progress=progress,
    )
    with bind(repair=repair.id, target=run.target or None):
        try:
            with transaction.atomic() if repair.atomic else nullcontext():
                receipt = repair.apply(work)
        except Exception as error:
            _failed(run, repair, work, error)
            return
        run.receipt = redact(_json(receipt or {}))
        green = _ask_again(repair, run, patience=repair.settles_after)
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
    text = _words(error)
    if not repair.atomic and repair.undo is not None:
        try:
            repair.undo(work)
            text += " What had been done was taken back."
        except Exception as second:
            logger.exception("repair_not_taken_back")
            text += f" What had been done could not be taken back: {_words(second)}"
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
        _ask_again(repair, run)
    return run


def _let_go(run: RepairRun) -> None:
    """An issue that the repair left red is open again."""
    if run.issue_id:
        Issue.objects.filter(pk=run.issue_id, state=IssueState.FIXING).update(state=IssueState.OPEN)


def _ask_again(repair: Repair, run: RepairRun, *, patience: float = 0.0) -> bool:
    """Run the checks that this repair mends, and those that waited for them. True when none of the former is red."""
    own = _mended(repair, run)
    follow = {check.id for id in own for check in dependants(id) if not check.live}
    blocked = set(
        CheckState.objects.filter(check_id__in=follow, status=CheckStatus.BLOCKED).values_list("check_id", flat=True)
    )
    until = time.monotonic() + patience
    while True:
        if not own:
            return True
        found = run_checks([*own, *blocked])
        after = _statuses(repair, run, found)
        run.checks_after = after
        run.save(update_fields=["checks_after"])
        if not any(status in ("fail", "warn", "blocked") for status in after.values()):
            return True
        if time.monotonic() >= until:
            return False
        time.sleep(_AGAIN_SECONDS)


def _mended(repair: Repair, run: RepairRun) -> list[str]:
    """Ids of the checks to ask after a run: that of its issue, and those of the repair that were not green."""
    ids = {check.id for check in all_checks() if repair.id in check.repairs and not check.live}
    red = set(
        CheckState.objects.filter(check_id__in=ids)
        .exclude(status__in=[CheckStatus.PASS, CheckStatus.SKIP])
        .values_list("check_id", flat=True)
    )
    # What was red before the repair stays of interest when it is undone.
    red |= {place.partition(" ")[0] for place in run.checks_before or {}}
    if run.issue is not None:
        red.add(run.issue.check_id)
    known = {check.id for check in all_checks()}
    return sorted(red & known)


def _statuses(repair: Repair, run: RepairRun, found: Sequence[CheckRun] = ()) -> dict[str, str]:
    """``{"check target": status}`` of what the run is to mend: of its own target when that is a check's target.

    ``found`` are outcomes of this moment: a check that is red for other objects only is green for the run's own object.
    """
    ids = _mended(repair, run)
    states = list(CheckState.objects.filter(check_id__in=ids).values_list("check_id", "target", "status"))
    bare = run.target.partition(":")[2] if run.target.startswith("service:") else run.target
    if bare and any(target == bare for _, target, _ in states):
        states = [one for one in states if one[1] in (bare, "")]
    well = {
        (one.check.id, one.target)
        for one in found
        if run.target and one.affected and not any(other.target == run.target for other in one.affected)
    }
    return {
        f"{id} {target}".strip(): "pass" if (id, target) in well and status in ("fail", "warn") else status
        for id, target, status in states
    }


def _plan(repair: Repair, work: RepairWork) -> Planned:
    with bind(repair=repair.id, target=work.target or None):
        try:
            plan = repair.plan(work)
        except RepairRefused:
            raise
        except Exception as error:
            logger.warning("repair_plan_failed", exc_info=True)
            raise RepairRefused(f"It could not be planned: {_words(error)}") from error
        word = repair.confirm_word(work) if repair.confirm_word is not None else ""
    return Planned(repair, work.target, plan, work.params, word)


def _work(
    repair: Repair,
    target: str,
    params: dict[str, Any],
    actor: str,
    progress: Callable[[int, int, str], None] | None = None,
) -> RepairWork:
    affected = _affected(repair, target)
    return RepairWork(target=target, params=params, actor=actor, affected=affected, progress=progress)


def _affected(repair: Repair, target: str) -> list[str]:
    if target:
        return [target]
    return affected_by(check.id for check in all_checks() if repair.id in check.repairs)


def _repair(id: str) -> Repair:
    repair = get_repair(id)
    if repair is None:
        from difflib import get_close_matches

        near = get_close_matches(id, [known.id for known in all_repairs()], n=1)
        raise ValueError(f"There is no repair {id!r}." + (f" Did you mean {near[0]}?" if near else ""))
    return repair


def _values(repair: Repair, params: Mapping[str, Any]) -> dict[str, Any]:
    """The form's values with defaults, numbers as numbers. Raises ``RepairRefused``."""
    known = {field.name: field for field in repair.fields}
    unknown = sorted(set(params) - set(known))
    if unknown:
        names = ", ".join(sorted(known)) or "none"
        raise RepairRefused(f"{repair.id} does not know {', '.join(unknown)}; it asks for: {names}.")
    values: dict[str, Any] = {}
    for name, field in known.items():
        value = params.get(name, field.default)
        if field.kind == "number" and isinstance(value, str) and value.strip():
            try:
                value = int(value) if value.strip().lstrip("-").isdigit() else float(value)
            except ValueError:
                raise RepairRefused(f"{field.label} ({name}) has to be a number, not {value!r}.") from None
        if field.kind == "bool" and isinstance(value, str):
            value = value.strip().lower() in ("1", "true", "yes", "on")
        if field.choices and value not in ("", None) and value not in {choice for choice, _ in field.choices}:
            allowed = ", ".join(choice for choice, _ in field.choices)
            raise RepairRefused(f"{field.label} ({name}) is one of: {allowed}.")
        if field.required and value in ("", None):
            raise RepairRefused(f"{field.label} ({name}) is missing.")
        values[name] = value
    return values


def _kept_plan(run: RepairRun) -> Plan:
    return Plan(run.sentence, (), {}, dict(run.snapshot or {}))


def _lock(repair: Repair, target: str) -> str:
    name = f"repair:{repair.id}:{target}"
    return name if len(name) <= 100 else f"repair:{hashlib.sha256(name.encode()).hexdigest()}"


def _shown(plan: Plan) -> list[dict[str, Any]]:
    shown: list[dict[str, Any]] = redact(_json([change.to_dict() for change in plan.changes[:KEPT_CHANGES]]))
    return shown


def _words(error: Exception) -> str:
    if isinstance(error, (RepairFailed, RepairRefused)):
        return redact_text(str(error))
    return sentence_of(error)


def _json(value: Any) -> Any:
    return json.loads(json.dumps(value, cls=DjangoJSONEncoder))
