"""Backups: made, listed, verified, drilled, fetched, brought, pinned, removed."""

from __future__ import annotations

from typing import Any, BinaryIO, cast
from uuid import UUID

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.urls import reverse
from ninja import Field, Query, Router

from ops.admin.backup_files import send_backup
from ops.admin.backup_words import standing
from ops.admin.backups import tables_of
from ops.api.answers import answer, nothing
from ops.api.backup_problems import NOT_FRESH, refused
from ops.api.backup_schemas import BackupDetailOut, BackupList, BackupOut, DrillList, PruneOut, StandingOut
from ops.api.inputs import Body, Text
from ops.api.jobs import job_dict
from ops.api.paging import Paging, page
from ops.api.principals import principal_of
from ops.api.problems import AUTH_SCOPE, Problem, not_found
from ops.api.schemas import JobOut
from ops.fresh import is_fresh
from ops.models import Backup, BackupDestination, BackupDrill, BackupReason, BackupState, JobTrigger, TokenScope
from ops.services.jobs import job_start

router = Router(tags=["Backups"])

_DRILLS = 10


class BackupIn(Body):
    note: Text = Field("", max_length=300)
    contents: list[Text] = Field(
        default=[], max_length=20, description="Parts besides what is always in it: letta_agents, homeserver."
    )
    drill: bool = Field(False, description="Restore it into a scratch place right afterwards.")


class ChangeIn(Body):
    pinned: bool = Field(description="Pinned ones are removed by no rule.")


class AtIn(Body):
    destination: int | None = Field(None, description="That copy and no other; the nearest when left out.")


class BackupFilter(Paging):
    state: BackupState | None = None
    reason: BackupReason | None = None
    good: bool | None = None


def backup_dict(row: Backup) -> dict[str, Any]:
    """A backup as JSON, without what is in it. Wants its copies prefetched with their destinations."""
    return {
        "id": row.pk,
        "name": row.name,
        "reason": row.reason,
        "state": row.state,
        "good": bool(row.good_at and not row.verify_error),
        "note": row.note,
        "version": row.version,
        "installation": row.installation,
        "recipients": row.recipients,
        "size": row.size,
        "sha256": row.sha256,
        "rows": row.rows,
        "missing": row.missing,
        "error": row.error,
        "actor": row.actor,
        "job": row.job_id,
        "pinned": row.pinned,
        "made_at": row.made_at,
        "finished_at": row.finished_at,
        "verified_at": row.verified_at,
        "verify_error": row.verify_error,
        "good_at": row.good_at,
        "copies": [
            {
                "destination": copy.destination.name,
                "state": copy.state,
                "size": copy.size,
                "attempts": copy.attempts,
                "error": copy.error,
                "stored_at": copy.stored_at,
                "checked_at": copy.checked_at,
            }
            for copy in row.copies.all()
        ],
        "url": f"/api/v1/backups/{row.pk}",
        "admin_url": reverse("admin:ops_backup_change", args=[row.pk]),
    }


def drill_dict(row: BackupDrill) -> dict[str, Any]:
    """A drill as JSON."""
    return {
        "id": row.pk,
        "backup": row.backup_id,
        "destination": row.destination.name if row.destination is not None else None,
        "state": row.state,
        "steps": row.steps,
        "findings": row.findings,
        "rows": row.rows,
        "seconds": row.seconds,
        "error": row.error,
        "actor": row.actor,
        "started_at": row.started_at,
        "finished_at": row.finished_at,
    }


def detail_dict(row: Backup) -> dict[str, Any]:
    """A backup with its parts and its last drills."""
    drills = row.drills.select_related("destination")[:_DRILLS]
    return {
        **backup_dict(row),
        "parts": row.parts,
        "tables": dict(tables_of(row)),
        "drills": [drill_dict(one) for one in drills],
    }


def backup_of(backup_id: UUID) -> Backup:
    """The row. Raises ``Problem``."""
    row = Backup.objects.prefetch_related("copies__destination").filter(pk=backup_id).first()
    if row is None:
        raise not_found("backup", backup_id)
    return row


def _whole(backup_id: UUID) -> Backup:
    row = backup_of(backup_id)
    if row.state not in (BackupState.COMPLETE, BackupState.PARTIAL):
        raise refused(ValueError(f"{row.name} is no whole backup: {row.get_state_display().lower()}."))
    return row


def _destination(number: int | None) -> BackupDestination | None:
    if number is None:
        return None
    row = BackupDestination.objects.filter(pk=number).first()
    if row is None:
        raise not_found("destination", number)
    return row


@router.get("", response=BackupList, operation_id="backups_list", summary="List backups, newest first")
def backups_list(request: HttpRequest, query: Query[BackupFilter]) -> HttpResponse:
    rows = Backup.objects.defer("manifest", "parts").prefetch_related("copies__destination")
    if query.state:
        rows = rows.filter(state=query.state)
    if query.reason:
        rows = rows.filter(reason=query.reason)
    if query.good is not None:
        good = {"good_at__isnull": False, "verify_error": ""}
        rows = rows.filter(**good) if query.good else rows.exclude(**good)
    return page(request, rows, query, render=backup_dict, order=("-made_at", "id"))


@router.post("", response={202: JobOut}, operation_id="backups_create", summary="Make a backup")
def backups_create(request: HttpRequest, body: BackupIn) -> HttpResponse:
    """202 with a job; its result names the backup. What is written while it runs is not in it."""
    from ops.services.backups import backup_start

    try:
        job = backup_start(
            actor=principal_of(request).actor,
            note=body.note,
            optional=body.contents,
            drill=body.drill,
            trigger=JobTrigger.API,
        )
    except ValueError as error:
        raise refused(error) from error
    return answer(job_dict(job), status=202)


@router.get("/standing", response=StandingOut, operation_id="backups_standing", summary="Could anything be lost?")
def backups_standing(request: HttpRequest) -> HttpResponse:
    """The age of the last good backup, and what is not as it should be."""
    found = standing()
    return answer(
        {
            "status": found.lamp.value,
            "sentence": found.sentence,
            "hints": [hint[1] for hint in found.hints],
            "last_good": found.last_good.pk if found.last_good else None,
            "last_good_at": found.last_good.made_at if found.last_good else None,
            "newest": found.newest.pk if found.newest else None,
            "newest_at": found.newest.made_at if found.newest else None,
            "running": found.running.pk if found.running else None,
            "next_at": found.plan.next_at if found.plan and found.plan.enabled else None,
        }
    )


@router.put(
    "/upload",
    response={201: BackupOut},
    operation_id="backups_upload",
    summary="Bring a backup's file",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
def backups_upload(request: HttpRequest, name: Query[Text] = "") -> HttpResponse:
    """The body is the file itself (`curl -T file.sbk`), of any size. It is taken in and listed; nothing is restored."""
    from ops.services.backups import backup_upload

    try:
        row = backup_upload(name=name, stream=cast(BinaryIO, request), actor=principal_of(request).actor)
    except ValueError as error:
        raise refused(error) from error
    return answer(backup_dict(backup_of(row.pk)), status=201)


@router.post("/look", response={202: JobOut}, operation_id="backups_look", summary="Look what lies at the destinations")
def backups_look(request: HttpRequest) -> HttpResponse:
    """202 with a job. Files that nobody knew are listed, copies that are gone say so."""
    job = job_start(kind="backup.look", actor=principal_of(request).actor, trigger=JobTrigger.API, once=True)
    return answer(job_dict(job), status=202)


@router.get("/prune", response=PruneOut, operation_id="backups_prune_plan", summary="What the rules would remove")
def backups_prune_plan(request: HttpRequest) -> HttpResponse:
    from ops.services.backup_pruning import prune

    return answer(prune(dry_run=True, actor=principal_of(request).actor).to_dict())


@router.post("/prune", response={202: JobOut}, operation_id="backups_prune", summary="Remove what no rule keeps")
def backups_prune(request: HttpRequest) -> HttpResponse:
    """202 with a job. Never goes: the last good one, the newest, pinned ones."""
    job = job_start(kind="backup.prune", actor=principal_of(request).actor, trigger=JobTrigger.API, once=True)
    return answer(job_dict(job), status=202)


@router.get("/{backup_id}", response=BackupDetailOut, operation_id="backups_get", summary="Get a backup")
def backups_get(request: HttpRequest, backup_id: UUID) -> HttpResponse:
    return answer(detail_dict(backup_of(backup_id)))


@router.patch("/{backup_id}", response=BackupOut, operation_id="backups_change", summary="Pin or unpin a backup")
def backups_change(request: HttpRequest, backup_id: UUID, body: ChangeIn) -> HttpResponse:
    from ops.services.backups import backup_pin

    backup_pin(backup=backup_of(backup_id), pinned=body.pinned, actor=principal_of(request).actor)
    return answer(backup_dict(backup_of(backup_id)))


@router.delete(
    "/{backup_id}", response={204: None}, operation_id="backups_delete", summary="Delete a backup everywhere"
)
def backups_delete(request: HttpRequest, backup_id: UUID) -> HttpResponse:
    """409 for one that is pinned, being made, or the last good one."""
    from ops.services.backups import backup_delete

    try:
        backup_delete(backup=backup_of(backup_id), actor=principal_of(request).actor)
    except ValueError as error:
        raise refused(error) from error
    return nothing()


@router.get("/{backup_id}/file", response={200: bytes}, operation_id="backups_file", summary="Download a backup's file")
def backups_file(request: HttpRequest, backup_id: UUID) -> HttpResponseBase:
    """A stream, with ranges. Needs a token that may write, or a session whose password was given within the last five minutes."""
    principal = principal_of(request)
    if principal.token is None and not is_fresh(request):
        raise Problem(
            NOT_FRESH, "Sign in again, or give your password again at /account/reauthenticate/, and repeat it."
        )
    if principal.scope != TokenScope.WRITE:
        raise Problem(AUTH_SCOPE, "A backup holds everything. Make a token with the scope 'write' for this.")
    return send_backup(request, _whole(backup_id), actor=principal.actor)


@router.post(
    "/{backup_id}/verify", response={202: JobOut}, operation_id="backups_verify", summary="Read a backup to its end"
)
def backups_verify(request: HttpRequest, backup_id: UUID, body: AtIn) -> HttpResponse:
    """202 with a job: every checksum in it is compared."""
    row, place = _whole(backup_id), _destination(body.destination)
    job = job_start(
        kind="backup.verify",
        title=f"Read {row.name} again",
        actor=principal_of(request).actor,
        trigger=JobTrigger.API,
        params={"backup": str(row.pk), **({"destination": place.pk} if place is not None else {})},
        once=True,
    )
    return answer(job_dict(job), status=202)


@router.post("/{backup_id}/drill", response={202: JobOut}, operation_id="backups_drill", summary="Drill a backup")
def backups_drill(request: HttpRequest, backup_id: UUID, body: AtIn) -> HttpResponse:
    """202 with a job: it is restored into a scratch place, checked, and thrown away. Only then it is good."""
    from ops.services.drills import drill_start

    row = _whole(backup_id)
    job = drill_start(backup=row, destination=_destination(body.destination), actor=principal_of(request).actor)
    return answer(job_dict(job), status=202)


@router.get("/{backup_id}/drills", response=DrillList, operation_id="backups_drills", summary="List a backup's drills")
def backups_drills(request: HttpRequest, backup_id: UUID, query: Query[Paging]) -> HttpResponse:
    rows = BackupDrill.objects.filter(backup=backup_of(backup_id)).select_related("destination")
    return page(request, rows, query, render=drill_dict, order=("-id",))
