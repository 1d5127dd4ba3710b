"""Checks: what was found last, asking again, and the remedies for what is outside our reach."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import Field, Query, Router

from ops.api.answers import answer
from ops.api.doctor_schemas import CheckAboutOut, EntryList, GuideOut
from ops.api.inputs import Text
from ops.api.paging import Paging, page
from ops.api.principals import principal_of
from ops.api.problems import not_found
from ops.api.schemas import CheckList, CheckRuns
from ops.choices import CheckStatus
from ops.doctor import catalogue
from ops.doctor.guides import guide_for
from ops.doctor.render import check_dict, entry_dict
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


def _ids(wanted: str) -> list[str]:
    """Checks by their own id, or by an entry of the catalogue."""
    try:
        return catalogue.resolve(wanted)
    except ValueError:
        raise not_found("check", wanted) from None


@router.get("", response=CheckList, operation_id="checks_list", summary="List what checks found last")
def checks_list(request: HttpRequest, query: Query[CheckFilter]) -> HttpResponse:
    rows = CheckState.objects.all()
    if query.status:
        rows = rows.filter(status=query.status)
    if query.check:
        rows = rows.filter(check_id=query.check)
    return page(request, rows, query, render=_state_dict)


@router.get("/entries", response=EntryList, operation_id="checks_entries", summary="List the known failures")
def checks_entries(request: HttpRequest) -> HttpResponse:
    """Each is detected by a check, impossible by design, or waits for a part that is not built yet."""
    return answer({"items": [entry_dict(entry) for entry in catalogue.entries()]})


@router.get("/{check_id}", response=CheckAboutOut, operation_id="checks_get", summary="Explain a check")
def checks_get(request: HttpRequest, check_id: Text) -> HttpResponse:
    known = get_check(_ids(check_id)[0])
    if known is None:
        raise not_found("check", check_id)
    return answer(check_dict(known))


@router.get("/{check_id}/guide", response=GuideOut, operation_id="checks_guide", summary="Get the remedy of a check")
def checks_guide(request: HttpRequest, check_id: Text, target: Text = "") -> HttpResponse:
    """Steps with snippets that hold this installation's own values."""
    for id in _ids(check_id):
        guide = guide_for(id, target)
        if guide is not None:
            return answer(guide.to_dict())
    raise not_found("guide", check_id)


@router.post("/{check_id}/run", response=CheckRuns, operation_id="checks_run", summary="Run a check now")
def checks_run(request: HttpRequest, check_id: Text, target: Text = "") -> HttpResponse:
    """Runs it on all its targets, or on one, and answers when it has ended or used up its time."""
    runs = run_checks(_ids(check_id), target=target)
    record(actor=principal_of(request).actor, action="check.run", target=f"check:{check_id}")
    return answer({"runs": [run.to_dict() for run in runs]})
