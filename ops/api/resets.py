"""Beginning anew with a part: its plan, doing it, finishing it, taking it back."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import Field, Router, Schema

from ops.api.answers import answer
from ops.api.inputs import Body, Text
from ops.api.jobs import job_dict
from ops.api.principals import principal_of
from ops.api.problems import Problem, declare, translate
from ops.api.restores import RestoreOut, restore_dict
from ops.api.schemas import JobOut
from ops.models import Backup, JobTrigger
from ops.resets import ALL, reset_scopes
from ops.services.resets import (
    ResetRefused,
    kinds_of,
    last_reset,
    open_reset,
    reset_finish,
    reset_plan,
    reset_start,
)

router = Router(tags=["Resets"])

REFUSED = declare("reset.refused", 409, "The reset cannot be done as things stand")
translate(ResetRefused, lambda error: Problem(REFUSED, str(error)))


class ScopesIn(Body):
    scopes: list[Text] = Field(min_length=1, max_length=20, description="Names of GET /api/v1/resets, or `all`.")


class ResetIn(ScopesIn):
    typed: Text = Field(max_length=200, description="The plan's `word`.")


class ScopeOut(Schema):
    name: str
    label: str
    sentence: str


class ResetsOut(Schema):
    """What can be reset, and how the last one stands."""

    scopes: list[ScopeOut]
    open: dict[str, Any] | None = Field(description="A reset after which not everything outside was found again.")
    last: dict[str, Any] | None


class ResetPlanOut(Schema):
    """What would go. `word` has to be sent; `refused` says why it would be refused now."""

    scopes: list[str]
    word: str
    rows: int
    lines: list[dict[str, Any]]
    outside: list[dict[str, Any]]
    instead: list[dict[str, str]]
    backup: str
    refused: str


class FinishedOut(Schema):
    scopes: list[str]
    backup: str
    left: list[str]
    findings: list[dict[str, Any]]


def _invalid(error: ValueError) -> Problem:
    return Problem(REFUSED, str(error))


@router.get("", response=ResetsOut, operation_id="resets_get", summary="What can be begun anew")
def resets_get(request: HttpRequest) -> HttpResponse:
    scopes = [{"name": one.name, "label": one.label, "sentence": one.sentence} for one in reset_scopes() if one.alone]
    return answer({"scopes": scopes, "open": open_reset(), "last": last_reset()})


@router.post("/plan", response=ResetPlanOut, operation_id="resets_plan", summary="What a reset would remove")
def resets_plan(request: HttpRequest, body: ScopesIn) -> HttpResponse:
    """Changes nothing. `instead` names what may help without removing anything."""
    try:
        return answer(reset_plan(scopes=body.scopes).to_dict())
    except ValueError as error:
        raise _invalid(error) from error


@router.post("", response={202: JobOut}, operation_id="resets_start", summary="Reset a part")
def resets_start(request: HttpRequest, body: ResetIn) -> HttpResponse:
    """202 with a job: a backup that is read to its end, the removal in one transaction, and finding again what exists outside."""
    try:
        job = reset_start(
            scopes=body.scopes, typed=body.typed, actor=principal_of(request).actor, trigger=JobTrigger.API
        )
    except ValueError as error:
        raise _invalid(error) from error
    return answer(job_dict(job), status=202)


@router.post("/finish", response=FinishedOut, operation_id="resets_finish", summary="Find again what a reset left")
def resets_finish(request: HttpRequest) -> HttpResponse:
    return answer(reset_finish(actor=principal_of(request).actor))


@router.post("/undo", response={202: RestoreOut}, operation_id="resets_undo", summary="Take the last reset back")
def resets_undo(request: HttpRequest) -> HttpResponse:
    """202 with a restore of the backup from before it, of what was reset: it is compared first; apply it when it is `planned`."""
    from ops.services.restores import restore_plan_start

    last = last_reset() or {}
    backup = Backup.objects.filter(name=str(last.get("backup") or "")).first()
    if backup is None:
        raise Problem(REFUSED, "There is no backup of a reset here that could be restored.")
    started = restore_plan_start(
        backup=backup,
        kinds=kinds_of(last.get("scopes") or (ALL,)),
        actor=principal_of(request).actor,
        trigger=JobTrigger.API,
    )
    return answer(restore_dict(started), status=202)
