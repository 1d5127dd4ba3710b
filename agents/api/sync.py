"""Sync: its plan, starting it, and what its passes did."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import Field, Query, Router

from agents.api.schemas import SyncPlanOut, SyncRunDetailOut, SyncRunList
from agents.models import SyncRun, SyncState
from agents.services.sync import UnknownService, sync_agents
from ops.api.answers import answer
from ops.api.inputs import Body, Id, Text
from ops.api.jobs import job_dict
from ops.api.paging import Paging, page
from ops.api.principals import principal_of
from ops.api.problems import not_found
from ops.api.schemas import JobOut
from ops.models import Job, JobTrigger, Service
from ops.services.jobs import job_start

router = Router(tags=["Sync"])


class SyncIn(Body):
    service: Text = Field("", description="Only the agents of this service.", examples=[""])
    force: bool = Field(False, description="Apply a plan that stopped because it looks like a mistake.")
    verify: bool = Field(False, description="Compare everything with the homeserver, not only a part in turn.")
    dry_run: bool = Field(False, description="Answer with the plan, and change nothing.")


class SyncRunFilter(Paging):
    state: SyncState | None = None


def start_sync(*, actor: str, service: str = "", force: bool = False, verify: bool = False) -> Job:
    """A job that syncs; one that is open already is returned instead of a second. Raises ``UnknownService``."""
    if service and not Service.objects.filter(name=service, enabled=True).exists():
        raise UnknownService(f"There is no enabled service named {service!r}.")
    return job_start(
        kind="agents.sync",
        actor=actor,
        trigger=JobTrigger.API,
        params={"service": service, "force": force, **({"verify": True} if verify else {})},
        once=True,
    )


@router.post(
    "", response={200: SyncPlanOut, 202: JobOut}, operation_id="sync_start", summary="Sync agents, or show the plan"
)
def sync_start(request: HttpRequest, body: SyncIn) -> HttpResponse:
    """202 with a job to follow; with `dry_run` 200 with what would be done. Syncs that are asked for twice are one job."""
    actor = principal_of(request).actor
    if body.dry_run:
        report = sync_agents(
            actor=actor,
            trigger="api",
            service_name=body.service,
            force=body.force,
            verify=body.verify,
            dry_run=True,
        )
        return answer(report.to_dict())
    return answer(
        job_dict(start_sync(actor=actor, service=body.service, force=body.force, verify=body.verify)), status=202
    )


def _run_dict(run: SyncRun) -> dict[str, Any]:
    return {
        "id": run.pk,
        "state": run.state,
        "trigger": run.trigger,
        "actor": run.actor,
        "service": run.service_name,
        "counts": run.counts,
        "findings": run.findings,
        "looked": {name: value for name, value in run.looked.items() if name not in ("cursor", "turned_at", "turned")},
        # While it runs the field holds the name of the worker.
        "error": "" if run.state == SyncState.RUNNING else run.error,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
    }


@router.get("/runs", response=SyncRunList, operation_id="sync_runs_list", summary="List passes of sync, newest first")
def sync_runs_list(request: HttpRequest, query: Query[SyncRunFilter]) -> HttpResponse:
    rows = SyncRun.objects.defer("plan")
    if query.state:
        rows = rows.filter(state=query.state)
    return page(request, rows, query, render=_run_dict, order=("-id",))


@router.get(
    "/runs/{run_id}", response=SyncRunDetailOut, operation_id="sync_runs_get", summary="Get a pass with its steps"
)
def sync_runs_get(request: HttpRequest, run_id: Id) -> HttpResponse:
    run = SyncRun.objects.filter(pk=run_id).first()
    if run is None:
        raise not_found("sync run", run_id)
    return answer({**_run_dict(run), "plan": run.plan})
