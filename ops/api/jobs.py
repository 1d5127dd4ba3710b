"""Jobs: long actions and their logs."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from ninja import Field, Query, Router, Schema

from ops.api.answers import answer
from ops.api.inputs import LARGEST_ID, Text
from ops.api.paging import Paging, page
from ops.api.principals import principal_of
from ops.api.problems import Problem, declare, not_found
from ops.api.schemas import JobDetailOut, JobList, JobOut
from ops.models import Job, JobState
from ops.services.jobs import job_cancel

router = Router(tags=["Jobs"])

ENDED = declare("job.ended", 409, "The job has ended")

MOST_LINES = 1000


class JobFilter(Paging):
    kind: Text = ""
    state: JobState | None = None


class Lines(Schema):
    lines_after: int = Field(0, ge=0, le=LARGEST_ID, description=f"Log lines behind this id, at most {MOST_LINES}.")


def job_dict(job: Job) -> dict[str, Any]:
    """A job as JSON."""
    return {
        "id": job.pk,
        "kind": job.kind,
        "title": job.title,
        "state": job.state,
        "progress_done": job.progress_done,
        "progress_total": job.progress_total,
        "progress_text": job.progress_text,
        "params": job.params,
        "result": job.result,
        "error": job.error,
        "actor": job.actor,
        "trigger": job.trigger,
        "cancel_requested": job.cancel_requested,
        "attempts": job.attempts,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "url": job_url(job),
    }


def job_url(job: Job) -> str:
    """Where the job can be followed."""
    return f"/api/v1/jobs/{job.pk}"


def _job(job_id: UUID) -> Job:
    job = Job.objects.filter(pk=job_id).first()
    if job is None:
        raise not_found("job", job_id)
    return job


@router.get("", response=JobList, operation_id="jobs_list", summary="List jobs, newest first")
def jobs_list(request: HttpRequest, query: Query[JobFilter]) -> HttpResponse:
    rows = Job.objects.all()
    if query.kind:
        rows = rows.filter(kind=query.kind)
    if query.state:
        rows = rows.filter(state=query.state)
    return page(request, rows, query, render=job_dict, order=("-created_at", "id"))


@router.get("/{job_id}", response=JobDetailOut, operation_id="jobs_get", summary="Get a job with its log")
def jobs_get(request: HttpRequest, job_id: UUID, query: Query[Lines]) -> HttpResponse:
    job = _job(job_id)
    lines = job.lines.filter(pk__gt=query.lines_after).order_by("pk").values("id", "at", "level", "text")[:MOST_LINES]
    return answer({**job_dict(job), "lines": list(lines)})


@router.post("/{job_id}/cancel", response={202: JobOut}, operation_id="jobs_cancel", summary="Cancel a job")
def jobs_cancel(request: HttpRequest, job_id: UUID) -> HttpResponse:
    """A job that waits ends at once; one that runs is asked to stop between two steps."""
    job = _job(job_id)
    if not job_cancel(job=job, actor=principal_of(request).actor) and job.is_final:
        raise Problem(ENDED, f"The job has ended already: {job.get_state_display().lower()}.")
    return answer(job_dict(job), status=202)
