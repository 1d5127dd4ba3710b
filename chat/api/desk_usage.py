"""Quotas, use, and attempts to get in, for operators."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from django.http import HttpRequest, HttpResponse
from ninja import Field, Query, Router, Schema

from agents.models import Agent
from chat import usage_figures
from chat.api.desk_render import attempt_dict, quota_dict
from chat.api.desk_schemas import AttemptList, QuotaIn, QuotaList, QuotaOut, UsageSums
from chat.models import AccessAttempt, AttemptKind, Person, Quota
from chat.quota_figures import with_use
from chat.services.quotas import quota_set
from ops.api.answers import answer, nothing
from ops.api.inputs import LARGEST_ID, Id
from ops.api.paging import Paging, page
from ops.api.principals import principal_of
from ops.api.problems import REQUEST_INVALID, FieldError, Problem, not_found

quotas = Router(tags=["Quotas"])
usage = Router(tags=["Use"])
attempts = Router(tags=["Attempts to get in"])


class UsageFilter(Schema):
    by: Literal["day", "person", "agent", "role"] = "day"
    days: int = Field(30, ge=1, le=usage_figures.MOST_DAYS)
    person: int | None = Field(None, ge=1, le=LARGEST_ID)
    agent: int | None = Field(None, ge=1, le=LARGEST_ID)
    role: str = Field("", pattern="^(person|operator|other)?$")
    limit: int = Field(200, ge=1, le=1000)


class AttemptFilter(Paging):
    kind: AttemptKind | None = None
    outcome: str = Field("", max_length=30, description="`failed` for everything but ok.")
    person: int | None = Field(None, ge=1, le=LARGEST_ID)


@quotas.get("", response=QuotaList, operation_id="quotas_list", summary="List quotas, with what is used today")
def quotas_list(request: HttpRequest, query: Query[Paging]) -> HttpResponse:
    return page(request, with_use(Quota.objects.all()), query, render=quota_dict, order=("id",))


@quotas.put(
    "", response={200: QuotaOut, 204: None}, operation_id="quotas_save", summary="Set, change or take away a quota"
)
def quotas_save(request: HttpRequest, body: QuotaIn) -> HttpResponse:
    """Names exactly one of person, agent and role; the tightest limit that fits counts."""
    person = Person.objects.filter(pk=body.person).first() if body.person else None
    agent = Agent.objects.filter(pk=body.agent).first() if body.agent else None
    for name, wanted, found in (("person", body.person, person), ("agent", body.agent, agent)):
        if wanted and found is None:
            sentence = f"There is no {name} {wanted}."
            raise Problem(REQUEST_INVALID, sentence, errors=[FieldError(name, sentence)])
    row = quota_set(
        person=person,
        agent=agent,
        role=body.role,
        messages_per_day=body.messages_per_day,
        tokens_per_day=body.tokens_per_day,
        actor=principal_of(request).actor,
    )
    return nothing() if row is None else answer(quota_dict(with_use(Quota.objects.filter(pk=row.pk)).get()))


@quotas.delete("/{quota_id}", response={204: None}, operation_id="quotas_delete", summary="Take a quota away")
def quotas_delete(request: HttpRequest, quota_id: Id) -> HttpResponse:
    row = Quota.objects.select_related("person", "agent").filter(pk=quota_id).first()
    if row is None:
        raise not_found("quota", quota_id)
    quota_set(person=row.person, agent=row.agent, role=row.role, actor=principal_of(request).actor)
    return nothing()


@usage.get("", response=UsageSums, operation_id="usage_sums", summary="Who used how much")
def usage_sums(request: HttpRequest, query: Query[UsageFilter]) -> HttpResponse:
    """Sums over the last days (of UTC, today included), those who used most first; days in order."""
    rows = usage_figures.rows_of(days=query.days, person=query.person, agent=query.agent, role=query.role)
    return answer(
        {
            "since": usage_figures.today() - timedelta(days=query.days - 1),
            "by": query.by,
            "total": usage_figures.total(rows).to_dict(),
            "items": [one.to_dict() for one in usage_figures.used(rows, query.by, limit=query.limit)],
        }
    )


@attempts.get(
    "", response=AttemptList, operation_id="access_attempts_list", summary="List attempts to get in, newest first"
)
def access_attempts_list(request: HttpRequest, query: Query[AttemptFilter]) -> HttpResponse:
    rows = AccessAttempt.objects.all()
    if query.kind is not None:
        rows = rows.filter(kind=query.kind)
    if query.person is not None:
        rows = rows.filter(person=query.person)
    if query.outcome:
        rows = rows.exclude(outcome="ok") if query.outcome == "failed" else rows.filter(outcome=query.outcome)
    return page(request, rows, query, render=attempt_dict, order=("-id",))
