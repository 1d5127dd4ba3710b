"""The one function behind every way to sync: command, beat, API, webhook, admin action."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import DatabaseError, IntegrityError, connections, transaction
from django.utils import timezone

from agents.matrix.errors import MatrixError
from agents.models import SyncRun, SyncState
from agents.restoring.order import is_adopting
from agents.services.backends import Homeserver, NoHomeserver, open_homeserver
from agents.services.drift import ALL, look_now
from agents.services.drift_pass import DriftPass, decision
from agents.services.refill import refill_reset
from agents.sync.apply import Applier, Outcome
from agents.sync.gone import as_empty, look_for_loss
from agents.sync.lost import look_for_traces
from agents.sync.observe import observe
from agents.sync.plan import make_plan
from agents.sync.steps import Step, SyncPlan
from agents.sync.stops import other_servers, serious
from ops.findings import Finding
from ops.leases import LEASE_SECONDS, WORKER, holder_is_dead, lease_end
from ops.logs import get_logger
from ops.models import Service
from ops.quiet import refuse_when_quiet

log = get_logger(__name__)

Progress = Callable[[int, int, str], None]
RENEW_EVERY = LEASE_SECONDS / 3


class UnknownService(Exception):
    """``--service`` names no enabled backend."""


class SyncBusy(Exception):
    """Another sync runs, and the caller did not want to wait (any longer)."""


@dataclass(slots=True)
class SyncReport:
    """What a sync found and did. ``applied`` counts steps by kind; ``run_id`` is ``None`` for a dry run.

    ``looked`` says how much of the homeserver was compared (see ``SyncRun.looked``), ``drift`` what differed.
    """

    plan: SyncPlan
    applied: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    state: str = SyncState.DONE
    run_id: int | None = None
    error: str = ""
    looked: dict[str, Any] = field(default_factory=dict)
    drift: list[dict[str, Any]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return {
            "run": self.run_id,
            "state": str(self.state),
            "planned": self.plan.counts,
            "applied": self.applied,
            "stopped": self.plan.stopped,
            "looked": self.looked,
            "drift": self.drift,
            "steps": [step.to_dict() for step in self.plan.steps],
            "findings": [finding.to_dict() for finding in self.findings],
            "error": self.error,
        }


def sync_agents(
    *,
    actor: str,
    trigger: str = "system",
    service_name: str = "",
    dry_run: bool = False,
    force: bool = False,
    verify: bool = False,
    wait: float = 600.0,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> SyncReport:
    """Bring agents, accounts, rooms and the space to what the backends say.

    The homeserver is compared with our rows in every pass, a bounded part of it in turn; ``verify``: all of it.
    ``wait``: seconds to wait for a sync that is already running. Raises ``UnknownService`` or ``SyncBusy``. Failures of single
    services or agents are findings of the report, not exceptions.
    """
    if service_name and not Service.objects.filter(name=service_name, enabled=True).exists():
        raise UnknownService(f"There is no enabled service named {service_name!r}.")
    request = _Request(actor, service_name, force, verify, trigger == "beat")
    if dry_run:
        return _dry(_plan(request))
    refuse_when_quiet()
    if trigger != "restore" and is_adopting():
        raise SyncBusy("A backup was restored, and what was made since is found again first. Try again in a moment.")
    with alone(actor=actor, trigger=trigger, service_name=service_name, wait=wait) as (run, lost):
        report = _run(request, progress, lambda: lost.is_set() or should_stop())
        if lost.is_set():
            report.state, report.error = (
                SyncState.FAILED,
                "Another process took this run for dead and went on with it.",
            )
    finish_run(
        run,
        report.state,
        counts=report.applied,
        plan=[step.to_dict() for step in report.plan.steps[:2000]],
        findings=[finding.to_dict() for finding in report.findings],
        looked=report.looked,
        error=report.error,
    )
    report.run_id = run.pk
    return report


@dataclass(frozen=True, slots=True)
class _Request:
    """What was asked for. ``by_itself``: nobody asked, the time had come."""

    actor: str
    service_name: str
    force: bool
    verify: bool
    by_itself: bool


@dataclass(frozen=True, slots=True)
class _Planned:
    """A plan with what it was made from."""

    plan: SyncPlan
    homeserver: Homeserver | None
    invitees: tuple[str, ...]
    drift: DriftPass | None


def _plan(request: _Request) -> _Planned:
    trouble: Finding | None = None
    homeserver: Homeserver | None = None
    drift: DriftPass | None = None
    try:
        homeserver = open_homeserver()
    except NoHomeserver as error:
        trouble = Finding("warning", "homeserver.none", error.sentence)
    except MatrixError as error:
        trouble = Finding("error", error.code, error.sentence, "homeserver")
    observed = observe(
        service_name=request.service_name,
        homeserver=homeserver.service if homeserver else None,
        server_name=homeserver.server_name if homeserver else "",
    )
    if homeserver is not None and not other_servers(observed):
        look_for_loss(homeserver, observed, everything=request.force)
        lost = observed.loss is not None and serious(observed.loss)
        if lost and request.force:
            as_empty(observed)
        elif not request.force and observed.loss is None:
            look_for_traces(homeserver, observed)
        if not lost:
            # Where everything is gone there is nothing to compare.
            looked = look_now(
                homeserver,
                budget=None if request.verify else ALL,
                service_name=request.service_name,
                by_itself=request.by_itself,
            )
            drift = DriftPass(homeserver, looked, request.by_itself)
            drift.prepare(observed)
    name = (homeserver.service.options.get("space_name") if homeserver else "") or settings.MATRIX_SPACE_NAME
    plan = make_plan(observed, now=timezone.now(), force=request.force, space_name=name)
    if drift is not None:
        drift.plan(plan, force=request.force)
    if trouble is not None:
        plan.findings.append(trouble)
    return _Planned(plan, homeserver, observed.invitees, drift)


def _dry(planned: _Planned) -> SyncReport:
    plan = planned.plan
    report = SyncReport(plan, findings=list(plan.findings))
    if planned.drift is not None:
        found = planned.drift.looked.found
        report.findings += [decision(one) for one in found if not one.mends]
        report.drift = [one.to_dict() for one in found]
        report.looked = planned.drift.to_dict()
    report.state = SyncState.STOPPED if plan.stopped else SyncState.DONE
    return report


@contextmanager
def alone(
    *, actor: str, trigger: str, service_name: str = "", wait: float = 600.0
) -> Iterator[tuple[SyncRun, threading.Event]]:
    """While the block lasts nobody else syncs. Gives the run's row, to be closed by ``finish_run``, and an event that is set when
    another process has taken over. Raises ``SyncBusy``; an error of the block closes the row as failed.
    """
    run = _acquire(actor=actor, trigger=trigger, service_name=service_name, wait=wait)
    try:
        with _kept(run) as lost:
            yield run, lost
    except BaseException as error:
        finish_run(run, SyncState.FAILED, error=f"{type(error).__name__}: {error}"[:2000])
        raise


@contextmanager
def _kept(run: SyncRun) -> Iterator[threading.Event]:
    """Renew the run's lease for as long as the block lasts, also while one slow request is under way.

    The event is set when another process has taken over: whoever works here must stop.
    """
    lost, over = threading.Event(), threading.Event()

    def renew() -> None:
        try:
            while not over.wait(RENEW_EVERY) and not lost.is_set():
                try:
                    if not SyncRun.objects.filter(pk=run.pk, state=SyncState.RUNNING).update(lease_until=lease_end()):
                        lost.set()
                except DatabaseError as error:
                    # The database may be back before the lease runs out.
                    log.warning("sync.lease_not_renewed", run=run.pk, error=str(error)[:200])
        finally:
            connections.close_all()

    thread = threading.Thread(target=renew, name="sync-lease", daemon=True)
    thread.start()
    try:
        yield lost
    finally:
        over.set()
        thread.join()


def _run(request: _Request, progress: Progress | None, should_stop: Callable[[], bool]) -> SyncReport:
    planned = _plan(request)
    plan, drift = planned.plan, planned.drift
    report = SyncReport(plan, findings=list(plan.findings))
    if plan.refill is not None and planned.homeserver is not None:
        refill_reset(homeserver=planned.homeserver, loss=plan.refill, actor=request.actor)

    def apply(steps: list[Step]) -> Outcome:
        outcome = Applier(
            planned.homeserver,
            actor=request.actor,
            invitees=planned.invitees,
            on_step=progress,
            should_stop=should_stop,
        ).apply(steps)
        for kind, count in outcome.done.items():
            report.applied[kind] = report.applied.get(kind, 0) + count
        report.error = report.error or outcome.aborted
        report.findings += outcome.findings
        return outcome

    if drift is not None:
        drift.write()
        report.drift = [one.to_dict() for one in drift.looked.found]
    if plan.steps:
        outcome = apply(plan.steps)
        if drift is not None:
            plan.steps += drift.follow_up(plan.steps, outcome, apply)
        log.info("sync.applied", **{key.replace(".", "_"): value for key, value in report.applied.items()})
    if drift is not None:
        report.findings += drift.findings
        report.looked = drift.to_dict()
    if plan.stopped:
        report.state = SyncState.STOPPED
    elif report.error:
        report.state = SyncState.FAILED
    return report


def _acquire(*, actor: str, trigger: str, service_name: str, wait: float) -> SyncRun:
    """The run's own row is the lock: the database allows one that is running."""
    deadline = time.monotonic() + wait
    while True:
        try:
            with transaction.atomic():
                return SyncRun.objects.create(
                    actor=actor, trigger=trigger, service_name=service_name, lease_until=lease_end(), error=WORKER
                )
        except IntegrityError:
            if _take_over():
                continue
        if time.monotonic() >= deadline:
            raise SyncBusy("Another sync is running.")
        time.sleep(0.1)


def _take_over() -> int:
    """Close a run whose process is gone, so that the next may start. Returns how many were closed."""
    closed = 0
    for run in SyncRun.objects.filter(state=SyncState.RUNNING):
        # While a run is going on its ``error`` holds the name of the worker that does it.
        if (run.lease_until and run.lease_until < timezone.now()) or holder_is_dead(run.error):
            closed += SyncRun.objects.filter(pk=run.pk, state=SyncState.RUNNING).update(
                state=SyncState.FAILED,
                finished_at=timezone.now(),
                error="The process that ran it is gone. The next pass completes what is missing.",
            )
    return closed


def finish_run(run: SyncRun, state: str, **fields: Any) -> None:
    """Close a run that is still ours."""
    SyncRun.objects.filter(pk=run.pk, state=SyncState.RUNNING).update(
        **{"state": state, "finished_at": timezone.now(), "error": "", **fields}
    )


def prune_sync_runs(*, keep_days: int = 14) -> int:
    """Forget old passes that changed nothing and found nothing (of the last hour all are kept)."""
    now = timezone.now()
    quiet = SyncRun.objects.filter(
        state=SyncState.DONE, counts={}, findings=[], started_at__lt=now - timedelta(hours=1)
    )
    old = SyncRun.objects.exclude(state=SyncState.RUNNING).filter(started_at__lt=now - timedelta(days=keep_days))
    return quiet.delete()[0] + old.delete()[0]
