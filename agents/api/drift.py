"""Drift: where the homeserver differs from the mappings."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import Field, Query, Router, Schema

from agents.models import Drift, DriftKind
from ops.api.answers import answer
from ops.api.inputs import LARGEST_ID, Id
from ops.api.paging import Paging, page
from ops.api.problems import not_found

router = Router(tags=["Drift"])


class DriftOut(Schema):
    """One difference. `mends`: the next sync mends it; otherwise somebody has to decide."""

    id: int
    kind: str = Field(description="account.gone, room.name, space.child, …")
    title: str
    homeserver: str
    mapping: int | None = Field(description="null for what concerns the space.")
    agent: int | None
    agent_name: str
    key: str = Field(description="What else it concerns: a user id, a room id.")
    sentence: str
    detail: dict[str, Any] = Field(description="What is `stored` here and what was `found` there.")
    mends: bool
    error: str = Field(description="Why the last attempt to mend it failed.")
    found_at: datetime
    seen_at: datetime
    mended_at: datetime | None


class DriftList(Schema):
    items: list[DriftOut]
    next: str | None


class DriftFilter(Paging):
    open: bool | None = Field(True, description="Only what differs still (true) or what is mended (false).")
    kind: DriftKind | None = None
    mends: bool | None = Field(None, description="Only what sync mends (true) or what has to be decided (false).")
    agent: int | None = Field(None, ge=1, le=LARGEST_ID, description="Only that of this agent.")
    mapping: int | None = Field(None, ge=1, le=LARGEST_ID, description="Only that of this mapping.")
    space: bool | None = Field(None, description="Only what concerns the space (true) or agents (false).")


def drift_dict(row: Drift) -> dict[str, Any]:
    """A difference as JSON."""
    mapping = row.mapping
    return {
        "id": row.pk,
        "kind": row.kind,
        "title": row.get_kind_display(),
        "homeserver": row.homeserver.name,
        "mapping": row.mapping_id,
        "agent": mapping.agent_id if mapping is not None else None,
        "agent_name": mapping.agent.name if mapping is not None else "",
        "key": row.key,
        "sentence": row.sentence,
        "detail": row.detail,
        "mends": row.mends,
        "error": row.error,
        "found_at": row.found_at,
        "seen_at": row.seen_at,
        "mended_at": row.mended_at,
    }


@router.get("", response=DriftList, operation_id="drift_list", summary="List differences, newest first")
def drift_list(request: HttpRequest, query: Query[DriftFilter]) -> HttpResponse:
    """As the last look at each room found it; every sync looks. Without filters: what differs still."""
    rows = Drift.objects.select_related("mapping__agent", "homeserver")
    if query.open is not None:
        rows = rows.filter(mended_at__isnull=query.open)
    if query.kind is not None:
        rows = rows.filter(kind=query.kind)
    if query.mends is not None:
        rows = rows.filter(mends=query.mends)
    if query.agent is not None:
        rows = rows.filter(mapping__agent_id=query.agent)
    if query.mapping is not None:
        rows = rows.filter(mapping_id=query.mapping)
    if query.space is not None:
        rows = rows.filter(mapping__isnull=query.space)
    return page(request, rows, query, render=drift_dict, order=("-id",))


@router.get("/{drift_id}", response=DriftOut, operation_id="drift_get", summary="Get a difference")
def drift_get(request: HttpRequest, drift_id: Id) -> HttpResponse:
    row = Drift.objects.select_related("mapping__agent", "homeserver").filter(pk=drift_id).first()
    if row is None:
        raise not_found("difference", drift_id)
    return answer(drift_dict(row))
