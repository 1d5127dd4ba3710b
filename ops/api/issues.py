"""Issues: what is wrong, and what an operator says about it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from django.http import HttpRequest, HttpResponse
from ninja import Body, Field, Query, Router, Schema

from ops.api.answers import answer
from ops.api.doctor_schemas import IssueDetailOut, IssueList, RepairRunOut
from ops.api.inputs import LARGEST_ID, Text
from ops.api.paging import Paging, page
from ops.api.principals import principal_of
from ops.api.problems import Problem, not_found
from ops.api.repairs import REFUSED, started
from ops.choices import IssueState
from ops.doctor.queries import issues_about, offer_of
from ops.doctor.render import issue_detail, issue_dict
from ops.models import Issue
from ops.services.issues import issue_acknowledge, issue_ignore, issue_reopen, issue_snooze

router = Router(tags=["Issues"])


class IssueFilter(Paging):
    state: IssueState | Literal["unresolved"] | None = Field(
        None, description="One state, or `unresolved` for all but resolved."
    )
    severity: Literal["info", "warning", "error", "critical"] | None = None
    check: Text = ""
    target: Text = Field("", description="Only those that are about this object, for example `agent:42`.")


class Note(Schema):
    note: str = Field("", max_length=500)


class Snooze(Note):
    until: datetime = Field(description="With its zone.")


class FixIn(Schema):
    target: str = Field("", max_length=200, description="One affected object; all of them when it is empty.")
    params: dict[str, Any] | None = Field(
        None, description="The form's values; those that the issue suggests otherwise."
    )
    typed: str = Field("", description="The word that a destructive repair asks for.")
    dry_run: bool = False


def _issue(issue_id: int) -> Issue:
    issue = Issue.objects.filter(pk=issue_id).first() if issue_id <= LARGEST_ID else None
    if issue is None:
        raise not_found("issue", issue_id)
    return issue


@router.get("", response=IssueList, operation_id="issues_list", summary="List issues, newest first")
def issues_list(request: HttpRequest, query: Query[IssueFilter]) -> HttpResponse:
    rows = Issue.objects.all()
    if query.state == "unresolved":
        rows = rows.exclude(state=IssueState.RESOLVED)
    elif query.state:
        rows = rows.filter(state=query.state)
    if query.severity:
        rows = rows.filter(severity=query.severity)
    if query.check:
        rows = rows.filter(check_id=query.check)
    if query.target:
        rows = rows.filter(pk__in=[issue.pk for issue in issues_about(query.target)])
    return page(request, rows, query, render=issue_dict, order=("-opened_at", "id"))


@router.get("/{int:issue_id}", response=IssueDetailOut, operation_id="issues_get", summary="Get an issue")
def issues_get(request: HttpRequest, issue_id: int) -> HttpResponse:
    return answer(issue_detail(_issue(issue_id)))


@router.post("/{int:issue_id}/ack", response=IssueDetailOut, operation_id="issues_ack", summary="Acknowledge an issue")
def issues_ack(request: HttpRequest, issue_id: int, body: Body[Note]) -> HttpResponse:
    """It stays open, and nobody is reminded."""
    actor = principal_of(request).actor
    return answer(issue_detail(issue_acknowledge(issue=_issue(issue_id), actor=actor, note=body.note)))


@router.post("/{int:issue_id}/snooze", response=IssueDetailOut, operation_id="issues_snooze", summary="Snooze an issue")
def issues_snooze(request: HttpRequest, issue_id: int, body: Body[Snooze]) -> HttpResponse:
    """It comes back by itself."""
    until = body.until if body.until.tzinfo is not None else body.until.replace(tzinfo=UTC)
    actor = principal_of(request).actor
    return answer(issue_detail(issue_snooze(issue=_issue(issue_id), actor=actor, until=until, note=body.note)))


@router.post(
    "/{int:issue_id}/ignore",
    response=IssueDetailOut,
    operation_id="issues_ignore",
    summary="Ignore an issue until the next release",
)
def issues_ignore(request: HttpRequest, issue_id: int, body: Body[Note]) -> HttpResponse:
    actor = principal_of(request).actor
    return answer(issue_detail(issue_ignore(issue=_issue(issue_id), actor=actor, note=body.note)))


@router.post(
    "/{int:issue_id}/reopen",
    response=IssueDetailOut,
    operation_id="issues_reopen",
    summary="Take back ack, snooze, ignore",
)
def issues_reopen(request: HttpRequest, issue_id: int, body: Body[Note]) -> HttpResponse:
    actor = principal_of(request).actor
    return answer(issue_detail(issue_reopen(issue=_issue(issue_id), actor=actor, note=body.note)))


@router.post(
    "/{int:issue_id}/fix",
    response={202: RepairRunOut},
    operation_id="issues_fix",
    summary="Run the repair that an issue proposes",
)
def issues_fix(request: HttpRequest, issue_id: int, body: Body[FixIn]) -> HttpResponse:
    """With `dry_run` the plan is answered (200) and nothing is done."""
    issue = _issue(issue_id)
    offer = offer_of(issue, body.target)
    if offer is None:
        raise Problem(
            REFUSED,
            f"There is no repair for {issue.check_id}. Its guide says what to do: /api/v1/checks/{issue.check_id}/guide",
        )
    return started(
        request,
        offer.repair.id,
        target=offer.target,
        params=offer.params if body.params is None else body.params,
        typed=body.typed,
        dry_run=body.dry_run,
        issue=issue,
    )
