"""Restores: compare a backup with what is here, apply it, take it back."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from ninja import Field, Query, Router, Schema

from ops.admin.restores import WORD
from ops.api.answers import answer
from ops.api.backup_problems import refused
from ops.api.backups import backup_of
from ops.api.inputs import Body, Text
from ops.api.paging import Paging, page
from ops.api.principals import principal_of
from ops.api.problems import REQUEST_INVALID, FieldError, Problem, not_found
from ops.models import JobTrigger, Restore, RestoreState

router = Router(tags=["Restores"])


class RestoreIn(Body):
    backup: UUID
    kinds: list[Text] = Field(
        default=[], max_length=20, description="settings, people, mappings, conversations, history; all when empty."
    )
    words_since: bool = Field(
        True,
        description="What was said since the backup was made stays as history. False: it is removed; rooms are read again all the same.",
    )
    key: Text = Field(
        "",
        max_length=500,
        description="`AGE-SECRET-KEY-1…`, when this machine's own key does not open it. It is kept (encrypted) only until it is used.",
    )


class ApplyIn(Body):
    typed: Text = Field(max_length=40, description=f"The word `{WORD}`: what is here is replaced.")


class UndoIn(Body):
    typed: Text = Field(max_length=40, description="The word `undo`: what came since is replaced.")


class RestoreFilter(Paging):
    state: RestoreState | None = None
    backup: UUID | None = None


class RestoreOut(Schema):
    """A restore, without its plan."""

    id: UUID
    backup: UUID | None
    source: str
    made_at: datetime | None = Field(description="The moment that the backup holds.")
    kinds: list[str] = Field(description="Empty: all.")
    state: str = Field(
        description="planning, planned (nothing changed yet), applying, reconciling, done, failed, discarded or undone"
    )
    safety: UUID | None = Field(description="The backup that was made before anything was changed.")
    undoes: UUID | None
    job: UUID | None = Field(description="What works on it: follow it at /api/v1/jobs/{id}.")
    error: str
    actor: str
    created_at: datetime
    applied_at: datetime | None
    finished_at: datetime | None
    url: str


class RestoreDetailOut(RestoreOut):
    """With what it would change: `plan.models` are `{model, label, kind, added, changed, removed, kept, same, examples}`.

    `plan.since.words` says what becomes of what was said since: `{kept, messages, conversations, made, without_room, drafts, examples}`, what is
    `lost` and what is `returning`.
    """

    plan: dict[str, Any]
    parts: dict[str, Any]
    findings: list[dict[str, Any]]
    report: dict[str, Any]


class RestoreList(Schema):
    items: list[RestoreOut]
    next: str | None


def restore_dict(row: Restore) -> dict[str, Any]:
    """A restore as JSON, without its plan."""
    return {
        "id": row.pk,
        "backup": row.backup_id,
        "source": row.source,
        "made_at": row.made_at,
        "kinds": row.kinds,
        "state": row.state,
        "safety": row.safety_id,
        "undoes": row.undoes_id,
        "job": row.job_id,
        "error": row.error,
        "actor": row.actor,
        "created_at": row.created_at,
        "applied_at": row.applied_at,
        "finished_at": row.finished_at,
        "url": f"/api/v1/restores/{row.pk}",
    }


def _detail(row: Restore) -> dict[str, Any]:
    return {
        **restore_dict(row),
        "plan": row.plan,
        "parts": row.parts,
        "findings": row.findings,
        "report": row.report,
    }


def _restore(restore_id: UUID) -> Restore:
    row = Restore.objects.filter(pk=restore_id).first()
    if row is None:
        raise not_found("restore", restore_id)
    return row


def require_word(typed: str, word: str) -> None:
    """Raises ``Problem`` unless the word was sent that a destructive deed asks for."""
    if typed.strip() != word:
        sentence = f"Send the word {word!r} to confirm."
        raise Problem(REQUEST_INVALID, sentence, errors=[FieldError("typed", sentence)])


@router.get("", response=RestoreList, operation_id="restores_list", summary="List restores, newest first")
def restores_list(request: HttpRequest, query: Query[RestoreFilter]) -> HttpResponse:
    rows = Restore.objects.defer("plan", "parts", "findings", "report")
    if query.state:
        rows = rows.filter(state=query.state)
    if query.backup:
        rows = rows.filter(backup=query.backup)
    return page(request, rows, query, render=restore_dict, order=("-created_at", "id"))


@router.post(
    "", response={202: RestoreDetailOut}, operation_id="restores_plan", summary="Compare a backup with what is here"
)
def restores_plan(request: HttpRequest, body: RestoreIn) -> HttpResponse:
    """202 with a restore whose job compares; nothing is changed. When it is `planned`, look at `plan`, then apply or discard it."""
    from ops.services.restores import restore_plan_start

    try:
        row = restore_plan_start(
            backup=backup_of(body.backup),
            identities=["".join(body.key.split()).upper()] if body.key.strip() else None,
            kinds=body.kinds,
            words_since=body.words_since,
            actor=principal_of(request).actor,
            trigger=JobTrigger.API,
        )
    except ValueError as error:
        raise refused(error) from error
    return answer(_detail(row), status=202)


@router.get("/{restore_id}", response=RestoreDetailOut, operation_id="restores_get", summary="Get a restore")
def restores_get(request: HttpRequest, restore_id: UUID) -> HttpResponse:
    return answer(_detail(_restore(restore_id)))


@router.post(
    "/{restore_id}/apply", response={202: RestoreOut}, operation_id="restores_apply", summary="Apply a restore"
)
def restores_apply(request: HttpRequest, restore_id: UUID, body: ApplyIn) -> HttpResponse:
    """202. A backup of what is here is made first; then it happens in one transaction, and the outside is looked at."""
    from ops.services.restores import restore_apply_start

    row = _restore(restore_id)
    require_word(body.typed, WORD)
    started = restore_apply_start(restore=row, actor=principal_of(request).actor, trigger=JobTrigger.API)
    return answer(restore_dict(started), status=202)


@router.post(
    "/{restore_id}/undo", response={202: RestoreOut}, operation_id="restores_undo", summary="Take a restore back"
)
def restores_undo(request: HttpRequest, restore_id: UUID, body: UndoIn) -> HttpResponse:
    """202 with the restore that takes it back: its safety backup is restored, of the same kinds."""
    from ops.services.restores import restore_undo_start

    row = _restore(restore_id)
    require_word(body.typed, "undo")
    started = restore_undo_start(restore=row, actor=principal_of(request).actor, trigger=JobTrigger.API)
    return answer(restore_dict(started), status=202)


@router.post(
    "/{restore_id}/discard", response=RestoreOut, operation_id="restores_discard", summary="Put a planned restore aside"
)
def restores_discard(request: HttpRequest, restore_id: UUID) -> HttpResponse:
    from ops.services.restores import restore_discard

    row = restore_discard(restore=_restore(restore_id), actor=principal_of(request).actor)
    return answer(restore_dict(row))
