"""What single objects were, and bringing a state back; which releases ran."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from ninja import Field, Query, Router, Schema

from ops.api.answers import answer
from ops.api.inputs import Id, Text
from ops.api.paging import Paging, page
from ops.api.principals import principal_of
from ops.api.problems import Problem, declare, not_found, translate
from ops.history.registry import CannotBringBack, versioned, versioned_kinds
from ops.models import ObjectVersion, Release
from ops.redaction import redact
from ops.services.versions import bring_back, difference

router = Router(tags=["History"])
releases = Router(tags=["History"])

REFUSED = declare("version.refused", 409, "That state cannot be brought back")
translate(CannotBringBack, lambda error: Problem(REFUSED, error.sentence))


class VersionFilter(Paging):
    model: Text = Field("", description="agents.agent, agents.mapping, chat.person, ops.service, agents.memoryblock, …")
    object_id: Text = ""
    deleted: bool | None = Field(None, description="Only what was deleted (or not).")


class VersionOut(Schema):
    """What an object was after one change. Secrets are kept encrypted and never shown."""

    id: int
    model: str
    object_id: str
    label: str
    at: datetime
    actor: str
    action: str
    message: str
    state: dict[str, Any]
    deleted: bool


class DifferenceOut(Schema):
    """One part that bringing it back would change: `before` is now. `observed`: its server says so, and it stays."""

    field: str
    label: str
    before: Any
    after: Any
    secret: bool
    observed: bool


class VersionDetailOut(VersionOut):
    difference: list[DifferenceOut]


class VersionList(Schema):
    items: list[VersionOut]
    next: str | None


class KindOut(Schema):
    model: str
    label: str
    fields: list[str]
    secret_fields: list[str]


class KindList(Schema):
    items: list[KindOut]


class BroughtOut(Schema):
    sentence: str
    model: str
    object_id: str


class ReleaseOut(Schema):
    """A version that ran here. `config` has names of settings with a digest of each value."""

    id: int
    version: str
    git_sha: str
    migrations: dict[str, str]
    config: dict[str, Any]
    python: str
    first_seen_at: datetime
    last_seen_at: datetime
    backup: UUID | None = Field(description="The one from before it first touched the database.")


class ReleaseList(Schema):
    items: list[ReleaseOut]
    next: str | None


def version_dict(row: ObjectVersion) -> dict[str, Any]:
    """A version as JSON."""
    return {
        "id": row.pk,
        "model": row.model,
        "object_id": row.object_id,
        "label": row.label,
        "at": row.at,
        "actor": row.actor,
        "action": row.action,
        "message": row.message,
        "state": redact(row.state or {}),
        "deleted": row.deleted,
    }


def release_dict(row: Release) -> dict[str, Any]:
    """A release as JSON."""
    names = ("version", "git_sha", "migrations", "config", "python", "first_seen_at", "last_seen_at")
    return {"id": row.pk, **{name: getattr(row, name) for name in names}, "backup": row.backup_id}


def _version(version_id: int) -> ObjectVersion:
    row = ObjectVersion.objects.filter(pk=version_id).first()
    if row is None:
        raise not_found("version", version_id)
    return row


@router.get("", response=VersionList, operation_id="versions_list", summary="What objects were, newest first")
def versions_list(request: HttpRequest, query: Query[VersionFilter]) -> HttpResponse:
    rows = ObjectVersion.objects.defer("secret")
    if query.model:
        rows = rows.filter(model=query.model.lower())
    if query.object_id:
        rows = rows.filter(object_id=query.object_id)
    if query.deleted is not None:
        rows = rows.filter(deleted=query.deleted)
    return page(request, rows, query, render=version_dict, order=("-id",))


@router.get("/kinds", response=KindList, operation_id="versions_kinds", summary="What keeps a history")
def versions_kinds(request: HttpRequest) -> HttpResponse:
    return answer(
        {
            "items": [
                {"model": kind.name, "label": kind.label, "fields": kind.fields, "secret_fields": kind.secret_fields}
                for kind in versioned_kinds()
            ]
        }
    )


@router.get("/{version_id}", response=VersionDetailOut, operation_id="versions_get", summary="Get a version")
def versions_get(request: HttpRequest, version_id: Id) -> HttpResponse:
    """With what bringing it back would change."""
    row = _version(version_id)
    found = [one.to_dict() for one in difference(row)] if versioned(row.model) is not None else []
    return answer({**version_dict(row), "difference": found})


@router.post(
    "/{version_id}/bring-back", response=BroughtOut, operation_id="versions_bring_back", summary="Bring a version back"
)
def versions_bring_back(request: HttpRequest, version_id: Id) -> HttpResponse:
    """The object becomes again what it was; one that was deleted comes back (with another id, maybe). 409 says why it cannot."""
    row = _version(version_id)
    done = bring_back(version=row, actor=principal_of(request).actor)
    return answer({"sentence": done.sentence, "model": row.model, "object_id": done.object_id})


@releases.get("", response=ReleaseList, operation_id="releases_list", summary="Which versions ran here")
def releases_list(request: HttpRequest, query: Query[Paging]) -> HttpResponse:
    return page(request, Release.objects.all(), query, render=release_dict, order=("-id",))


@releases.get("/{release_id}", response=ReleaseOut, operation_id="releases_get", summary="Get a release")
def releases_get(request: HttpRequest, release_id: Id) -> HttpResponse:
    row = Release.objects.filter(pk=release_id).first()
    if row is None:
        raise not_found("release", release_id)
    return answer(release_dict(row))
