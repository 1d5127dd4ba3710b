"""The audit log."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import Field, Query, Router

from ops.api.inputs import Text
from ops.api.paging import Paging, page, tuples
from ops.api.schemas import AuditList
from ops.models import AuditEvent

router = Router(tags=["Audit"])

_COLUMNS = (
    "id", "at", "actor", "action", "target_type", "target_id", "target_label", "message", "before", "after", "request_id",
)  # fmt: skip
_ROWS = tuples(AuditEvent, _COLUMNS, order=("-id",))


class AuditFilter(Paging):
    actor: Text = Field("", description="For example person:alice or token:ci.")
    action: Text = Field("", description="For example service.changed.")
    target_type: Text = Field("", description="For example agents.agent.")
    target_id: Text = ""
    since: datetime | None = Field(None, description="Not older than this.")
    until: datetime | None = Field(None, description="Older than this.")


def _event_dict(row: tuple[Any, ...]) -> dict[str, Any]:
    return dict(zip(_COLUMNS, row, strict=False))


@router.get("", response=AuditList, operation_id="audit_list", summary="List who did what, newest first")
def audit_list(request: HttpRequest, query: Query[AuditFilter]) -> HttpResponse:
    wanted = {
        "actor": query.actor,
        "action": query.action,
        "target_type": query.target_type,
        "target_id": query.target_id,
        "at__gte": query.since,
        "at__lt": query.until,
    }
    rows = _ROWS.filter(**{name: value for name, value in wanted.items() if value})
    return page(request, rows, query, render=_event_dict, order=("-id",))
