"""Starts, runs, cancels and rescues jobs."""

from __future__ import annotations

import json
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models, transaction
from django.utils import timezone

from ops import quiet
from ops.database_away import when_back
from ops.job_kinds import (
    CURRENT,
    SILENCE_SECONDS,
    JobFailed,
    JobHandle,
    JobKind,
    JobLost,
    JobStopped,
    get_job_kind,
    job_kind,
    job_kinds,
)
from ops.leases import WORKER, holder_is_dead
from ops.logs import bind, get_logger
from ops.models import Job, JobLine, JobState, JobTrigger, LogLevel
from ops.redaction import redact, redact_text
from ops.services import audit

__all__ = [
    "JobFailed",
    "JobHandle",
    "JobLost",
    "JobStopped",
    "job_cancel",
    "job_kind",
    "job_kinds",
    "job_start",
    "run_job",
    "run_job_now",
    "sweep_jobs",
]

logger = get_logger(__name__)

# A queued job that nobody has claimed for so long lost its task, and is woken again.
_WAKE_AGAIN_SECONDS = 15.0


def job_start(
    *,
    kind: str,
    title: str = "",
    actor: str,
    trigger: str = JobTrigger.SYSTEM,
    params: Mapping[str, Any] | None = None,
    once: bool = False,
    queue: bool = True,
) -> Job:
    """Create a job and, on commit, send it to the workers.

    ``params`` are the keyword arguments of the kind's function: JSON, ids rather than objects, never secrets. With ``once`` a
    job of the same kind and parameters that has not begun is returned instead of a second one. ``queue=False`` leaves it to
    ``run_job_now``. Raises ``ValueError`` for an unknown kind.
    """
    known = get_job_kind(kind)
    if known is None:
        names = ", ".join(sorted(k.kind for k in job_kinds())) or "none are registered"
        raise ValueError(f"There is no job kind {kind!r}; known are: {names}.")
    kept = json.loads(json.dumps(dict(params or {}), cls=DjangoJSONEncoder))
    with transaction.atomic():
        if once:
            # One that runs has read its inputs already, and would miss what this call is about.
            for open_job in Job.objects.filter(kind=kind, state=JobState.QUEUED, cancel_requested=False):
                if open_job.params == kept:
                    return open_job
        job = Job.objects.create(
            kind=kind, title=(title or known.label)[:255], actor=actor[:255], trigger=trigger, params=kept
        )
        audit.record(actor=actor, action="job.started", target=job, after={"kind": kind, "params": kept})
        if queue:
            transaction.on_commit(lambda: wake(job))
    return job


def wake(job: Job) -> None:
    """Send the job's id to the workers. A broker that is down delays the job until the sweep, and loses nothing."""
    from ops.tasks import run_job as task

    try:
        task.apply_async(args=[str(job.pk)], retry=False)
    except Exception as error:
        logger.warning("job_not_sent", job_id=str(job.pk), error=str(error))


def job_cancel(*, job: Job, actor: str) -> bool:
    """Cancel a queued job at once, ask a running one to stop. False when it had ended already."""
    now = timezone.now()
    with transaction.atomic():
        if Job.objects.filter(pk=job.pk, state=JobState.QUEUED).update(
            state=JobState.CANCELLED, cancel_requested=True, finished_at=now
        ):
            done = True
        else:
            done = bool(
                Job.objects.filter(pk=job.pk, state=JobState.RUNNING, cancel_requested=False).update(
                    cancel_requested=True
                )
            )
        if done:
            audit.record(actor=actor, action="job.cancelled", target=job)
    job.refresh_from_db()
    return done


def run_job(job_id: Any) -> bool:
    """Claim and run a queued job in this thread. False: it is not to be had (running, ended, unknown), or everything stands still."""
    if quiet.is_quiet() and not quiet.held_here():
        return False
    now = timezone.now()
    claimed = Job.objects.filter(pk=job_id, state=JobState.QUEUED).update(
        state=JobState.RUNNING,
        fence=models.F("fence") + 1,
        attempts=models.F("attempts") + 1,
        worker=WORKER[:100],
        started_at=now,
        heartbeat_at=now,
    )
    if not claimed:
        return False
    job = Job.objects.get(pk=job_id)
    token = CURRENT.set((*CURRENT.get(), str(job.pk)))
    try:
        with bind(job_id=job.pk, job_kind=job.kind):
            _run(job)
    finally:
        CURRENT.reset(token)
    return True


def others_running() -> int:
    """Jobs that run at the moment, but for those of this thread."""
    alive = timezone.now() - timedelta(seconds=SILENCE_SECONDS)
    rows = Job.objects.filter(state=JobState.RUNNING, heartbeat_at__gte=alive).exclude(pk__in=CURRENT.get())
    return sum(not holder_is_dead(worker) for worker in rows.values_list("worker", flat=True))


quiet.register_drain("running jobs", others_running, needed=True)


def run_job_now(job: Job, *, timeout: float = 3600.0) -> Job:
    """Run a job in this process, for commands; when a worker was faster, wait for it. Returns the row as it ended."""
    if not run_job(job.pk):
        until = time.monotonic() + timeout
        job.refresh_from_db()
        while not job.is_final and time.monotonic() < until:
            time.sleep(0.2)
            if job.state == JobState.QUEUED and not quiet.is_quiet() and run_job(job.pk):
                break
            job.refresh_from_db()
    job.refresh_from_db()
    return job


def _run(job: Job) -> None:
    handle = JobHandle(job)
    known = get_job_kind(job.kind)
    end = threading.Event()
    beat = threading.Thread(target=handle.beat, args=(end,), name=f"job {job.pk}", daemon=True)
    beat.start()
    fields: dict[str, Any] = {}
    trace = ""
    try:
        if known is None:
            raise JobFailed(f"This worker does not know the job kind {job.kind!r}. Is it running an older version?")
        result = known.function(handle, **job.params)
        fields["result"] = _json(result)
        state = JobState.CANCELLED if handle.stop_seen else JobState.SUCCEEDED
    except JobLost:
        logger.warning("job_lost")
        return
    except JobStopped as stopped:
        # What it says of what is left, if anything.
        state, fields["error"] = JobState.CANCELLED, redact_text(str(stopped))
    except JobFailed as error:
        state, fields["error"] = JobState.FAILED, redact_text(str(error))
    except Exception as error:
        state, fields["error"] = JobState.FAILED, sentence_of(error)
        trace = _traceback(error)
        logger.exception("job_failed")
    finally:
        end.set()
        beat.join(timeout=5)

    def end_it() -> None:
        with transaction.atomic():
            if not handle.finish(state, **fields):
                logger.warning("job_lost")
                return
            if trace:
                JobLine.objects.create(job=job, at=timezone.now(), level=LogLevel.ERROR, text=trace)
            if state == JobState.FAILED:
                audit.record(actor=job.actor, action="job.failed", target=job, message=fields["error"])

    when_back(end_it)


def sentence_of(error: BaseException) -> str:
    """One line that says what went wrong, without secrets."""
    text = " ".join(redact_text(str(error)).split())
    return f"{type(error).__name__}: {text}"[:1000] if text else f"{type(error).__name__}, without a message."


def _traceback(error: BaseException) -> str:
    """The traceback with paths relative to the project and to site-packages: shorter, and silent about the machine."""
    text = "".join(traceback.format_exception(error))
    roots = {str(settings.BASE_DIR), *(entry for entry in sys.path if Path(entry).is_absolute())}
    for root in sorted(roots, key=len, reverse=True):
        text = text.replace(f"{root}/", "")
    return redact_text(text)


def _json(value: Any) -> Any:
    if value is None:
        return None
    return json.loads(json.dumps(redact(value), cls=DjangoJSONEncoder))


def sweep_jobs() -> dict[str, int]:
    """Wake queued jobs that nobody took, and settle running ones whose worker died. Returns counts of what was done.

    A dead worker is one on this host that is gone, or one whose heartbeat is older than ``SILENCE_SECONDS``.
    """
    now = timezone.now()
    counts = {"woken": 0, "requeued": 0, "failed": 0, "cancelled": 0}
    stale = now - timedelta(seconds=_WAKE_AGAIN_SECONDS)
    waiting = Job.objects.filter(state=JobState.QUEUED, created_at__lt=stale).filter(
        models.Q(heartbeat_at=None) | models.Q(heartbeat_at__lt=stale)
    )
    for job in waiting.order_by("created_at")[:100]:
        wake(job)
        counts["woken"] += 1
    silent = now - timedelta(seconds=SILENCE_SECONDS)
    for job in Job.objects.filter(state=JobState.RUNNING):
        if (job.heartbeat_at is None or job.heartbeat_at < silent) or holder_is_dead(job.worker):
            counts[_settle(job)] += 1
    return counts


def _settle(job: Job) -> str:
    known: JobKind | None = get_job_kind(job.kind)
    if job.cancel_requested:
        outcome, fields = "cancelled", {"state": JobState.CANCELLED, "finished_at": timezone.now()}
        text = "Its worker died after it had been asked to stop."
    elif known is not None and known.resumable and job.attempts < known.attempts:
        outcome, fields = "requeued", {"state": JobState.QUEUED}
        text = f"Its worker ({job.worker}) died; it is started again."
    else:
        outcome = "failed"
        text = f"Its worker ({job.worker}) died while it ran. Look at what it had done, then start it again."
        fields = {"state": JobState.FAILED, "finished_at": timezone.now(), "error": text}
    with transaction.atomic():
        # Conditional on what we saw: a worker that is alive after all has written a newer heartbeat.
        settled = Job.objects.filter(
            pk=job.pk, fence=job.fence, state=JobState.RUNNING, heartbeat_at=job.heartbeat_at
        ).update(**fields)
        if settled:
            JobLine.objects.create(job=job, at=timezone.now(), level=LogLevel.WARNING, text=text)
            if outcome == "failed":
                audit.record(actor="system", action="job.failed", target=job, message=text)
            if outcome == "requeued":
                transaction.on_commit(lambda: wake(job))
    if settled:
        logger.warning("job_settled", job_id=str(job.pk), outcome=outcome, worker=job.worker)
    return outcome
