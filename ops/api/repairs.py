"""Repairs: what can be mended, what a repair would change, running it, undoing it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from ninja import Body, Field, Query, Router, Schema

from ops.api.answers import answer
from ops.api.doctor_schemas import PlanOut, RepairList, RepairOut, RepairRunList, RepairRunOut
from ops.api.inputs import Text
from ops.api.paging import Paging, page
from ops.api.principals import principal_of
from ops.api.problems import Problem, declare, not_found
from ops.choices import RepairRunState
from ops.doctor.queries import automatic_repairs
from ops.doctor.render import repair_dict, run_dict
from ops.doctor.repairs import RepairRefused, all_repairs, get_repair
from ops.models import Issue, JobTrigger, RepairRun
from ops.services.repairs import repair_plan, repair_policy_set, repair_start, repair_undo

router = Router(tags=["Repairs"])
runs_router = Router(tags=["Repairs"])

REFUSED = declare("repair.refused", 409, "The repair cannot be done as things stand")


class RepairIn(Schema):
    target: str = Field("", max_length=200, description="One object (`agent:42`), or empty for everything affected.")
    params: dict[str, Any] = Field(default_factory=dict, description="The form's values.")
    dry_run: bool = Field(False, description="Answer the plan (200) and change nothing.")
    typed: str = Field("", description="The word that a destructive repair asks for.")


class PolicyIn(Schema):
    automatic: bool = Field(description="Whether it may run unattended.")


class RunFilter(Paging):
    repair: Text = ""
    target: Text = ""
    state: RepairRunState | None = None


def started(
    request: HttpRequest,
    repair_id: str,
    *,
    target: str,
    params: dict[str, Any],
    typed: str,
    dry_run: bool,
    issue: Issue | None = None,
) -> HttpResponse:
    """Plan (200) or run (202) a repair. A refusal is a problem with its sentence; a failed run is answered as a run."""
    actor = principal_of(request).actor
    try:
        if dry_run:
            planned = repair_plan(repair_id=repair_id, target=target, params=params, actor=actor)
            return answer(planned.to_dict())
        run = repair_start(
            repair_id=repair_id,
            target=target,
            params=params,
            actor=actor,
            trigger=JobTrigger.API,
            issue=issue,
            typed=typed,
        )
    except RepairRefused as error:
        raise Problem(REFUSED, str(error)) from error
    return answer(run_dict(run), status=202)


@router.get("", response=RepairList, operation_id="repairs_list", summary="List the repairs there are")
def repairs_list(request: HttpRequest) -> HttpResponse:
    allowed = automatic_repairs()
    return answer({"items": [repair_dict(repair, allowed) for repair in all_repairs()]})


@router.get("/{repair_id}", response=RepairOut, operation_id="repairs_get", summary="Get a repair")
def repairs_get(request: HttpRequest, repair_id: Text) -> HttpResponse:
    repair = get_repair(repair_id)
    if repair is None:
        raise not_found("repair", repair_id)
    return answer(repair_dict(repair, automatic_repairs()))


@router.post(
    "/{repair_id}",
    response={200: PlanOut, 202: RepairRunOut},
    operation_id="repairs_start",
    summary="Run a repair, or show its plan",
)
def repairs_start(request: HttpRequest, repair_id: Text, body: Body[RepairIn]) -> HttpResponse:
    """202 with the run: ended, or with the address of its job. With `dry_run` 200 with the plan."""
    if get_repair(repair_id) is None:
        raise not_found("repair", repair_id)
    return started(request, repair_id, target=body.target, params=body.params, typed=body.typed, dry_run=body.dry_run)


@router.put(
    "/{repair_id}/policy",
    response=RepairOut,
    operation_id="repairs_policy",
    summary="Let a repair run unattended, or stop that",
)
def repairs_policy(request: HttpRequest, repair_id: Text, body: Body[PolicyIn]) -> HttpResponse:
    repair = get_repair(repair_id)
    if repair is None:
        raise not_found("repair", repair_id)
    try:
        repair_policy_set(repair_id=repair_id, automatic=body.automatic, actor=principal_of(request).actor)
    except RepairRefused as error:
        raise Problem(REFUSED, str(error)) from error
    return answer(repair_dict(repair, automatic_repairs()))


def _run(run_id: UUID) -> RepairRun:
    run = RepairRun.objects.filter(pk=run_id).first()
    if run is None:
        raise not_found("repair run", run_id)
    return run


@runs_router.get(
    "", response=RepairRunList, operation_id="repair_runs_list", summary="List runs of repairs, newest first"
)
def repair_runs_list(request: HttpRequest, query: Query[RunFilter]) -> HttpResponse:
    rows = RepairRun.objects.all()
    if query.repair:
        rows = rows.filter(repair_id=query.repair)
    if query.target:
        rows = rows.filter(target=query.target)
    if query.state:
        rows = rows.filter(state=query.state)
    return page(request, rows, query, render=run_dict, order=("-created_at", "id"))


@runs_router.get("/{run_id}", response=RepairRunOut, operation_id="repair_runs_get", summary="Get a run of a repair")
def repair_runs_get(request: HttpRequest, run_id: UUID) -> HttpResponse:
    return answer(run_dict(_run(run_id)))


@runs_router.post("/{run_id}/undo", response=RepairRunOut, operation_id="repair_runs_undo", summary="Undo a repair")
def repair_runs_undo(request: HttpRequest, run_id: UUID) -> HttpResponse:
    """Brings back what it changed, and asks its checks again."""
    try:
        return answer(run_dict(repair_undo(run=_run(run_id), actor=principal_of(request).actor)))
    except RepairRefused as error:
        raise Problem(REFUSED, str(error)) from error
