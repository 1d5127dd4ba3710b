"""Checks: what was found last, and asking again."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import Field, Query, Router

from ops.api.answers import answer
from ops.api.inputs import Text
from ops.api.paging import Paging, page
from ops.api.principals import principal_of
from ops.api.problems import not_found
from ops.api.schemas import CheckList, CheckRuns
from ops.choices import CheckStatus
from ops.models import CheckState
from ops.registry import get_check
from ops.runner import run_checks
from ops.services.audit import record

router = Router(tags=["Checks"])


class CheckFilter(Paging):
    status: CheckStatus | None = None
    check: Text = Field("", description="Only this check.")


def _state_dict(state: CheckState) -> dict[str, Any]:
    known = get_check(state.check_id)
    return {
        "check": state.check_id,
        "title": known.title if known else state.check_id,
        "target": state.target,
        "status": state.status,
        "severity": known.severity if known else "error",
        "sentence": state.sentence,
        "evidence": state.evidence,
        "since": state.since,
        "failures_in_a_row": state.failures_in_a_row,
        "duration_ms": state.duration_ms,
        "checked_at": state.checked_at,
    }


@router.get("", response=CheckList, operation_id="checks_list", summary="List what checks found last")
def checks_list(request: HttpRequest, query: Query[CheckFilter]) -> HttpResponse:
    rows = CheckState.objects.all()
    if query.status:
        rows = rows.filter(status=query.status)
    if query.check:
        rows = rows.filter(check_id=query.check)
    return page(request, rows, query, render=_state_dict)


@router.post("/{check_id}/run", response=CheckRuns, operation_id="checks_run", summary="Run a check now")
def checks_run(request: HttpRequest, check_id: Text) -> HttpResponse:
    """Runs it on all its targets and answers when it has ended or used up its time."""
    if get_check(check_id) is None:
        raise not_found("check", check_id)
    runs = run_checks([check_id])
    record(actor=principal_of(request).actor, action="check.run", target=f"check:{check_id}")
    return answer({"runs": [run.to_dict() for run in runs]})
