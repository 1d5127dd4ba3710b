"""People, for operators: who they are, what they may do, what they have open; shutting them out and letting them in."""

from __future__ import annotations

from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from ninja import Field, Query, Router

from agents.models import Agent
from chat.api.desk_render import person_dict, session_dict
from chat.api.desk_schemas import (
    LinkOut,
    PersonAgentsIn,
    PersonDetailOut,
    PersonList,
    ReasonIn,
    SessionList,
)
from chat.models import AgentGrant, Person, PersonRole
from chat.open_things import sessions_of
from chat.queries_people import with_numbers
from chat.quota_figures import standing_of_person
from chat.services.grants import person_agents_set
from chat.services.open_sessions import NothingOpen, open_end
from chat.services.people import person_deactivate, person_delete, person_reactivate, reset_link, sign_out_everywhere
from chat.services.reset_handed import reset_handed
from ops.api.answers import answer, answer_once_shown, nothing
from ops.api.inputs import Body, Id, Text
from ops.api.paging import Paging, page
from ops.api.principals import principal_of
from ops.api.problems import NOT_FOUND, REQUEST_INVALID, FieldError, Problem, not_found, translate

router = Router(tags=["People"])

translate(NothingOpen, lambda error: Problem(NOT_FOUND, error.sentence))


class PersonFilter(Paging):
    q: str = Field("", max_length=150, description="Part of the name, the e-mail or the Matrix id.")
    role: PersonRole | None = None
    active: bool | None = None


class DeleteIn(Body):
    confirm: Text = Field(max_length=150, description="The user name, to be sure.")
    conversations: str = Field("keep", pattern="^(keep|delete)$", description="What becomes of what was said.")


def person_at(person_id: int) -> Person:
    """The person with their numbers. Raises ``Problem``."""
    found: Person | None = with_numbers(Person.objects.filter(pk=person_id)).first()
    if found is None:
        raise not_found("person", person_id)
    return found


def agents_at(ids: list[int]) -> list[Agent]:
    """The agents with these ids. Raises ``Problem`` for one that there is not."""
    rows = list(Agent.objects.filter(pk__in=ids))
    missing = sorted(set(ids) - {row.pk for row in rows})
    if missing:
        sentence = f"There is no agent {missing[0]}."
        raise Problem(REQUEST_INVALID, sentence, errors=[FieldError("agents", sentence)])
    return rows


def _detail(person_id: int) -> HttpResponse:
    row = person_at(person_id)
    agents = list(AgentGrant.objects.filter(person=row).order_by("agent").values_list("agent", flat=True)[:10_000])
    return answer({**person_dict(row), "agents": agents, "quota": [one.to_dict() for one in standing_of_person(row)]})


@router.get("", response=PersonList, operation_id="people_list", summary="List people")
def people_list(request: HttpRequest, query: Query[PersonFilter]) -> HttpResponse:
    rows = Person.objects.all()
    if query.q:
        rows = rows.filter(
            Q(username__icontains=query.q)
            | Q(display_name__icontains=query.q)
            | Q(email__icontains=query.q)
            | Q(matrix_user_id__icontains=query.q)
        )
    if query.role is not None:
        rows = rows.filter(is_staff=query.role == PersonRole.OPERATOR)
    if query.active is not None:
        rows = rows.filter(is_active=query.active)
    return page(request, with_numbers(rows), query, render=person_dict, order=("id",))


@router.get("/{person_id}", response=PersonDetailOut, operation_id="people_get", summary="Get a person")
def people_get(request: HttpRequest, person_id: Id) -> HttpResponse:
    return _detail(person_id)


@router.delete("/{person_id}", response={204: None}, operation_id="people_delete", summary="Delete a person for good")
def people_delete(request: HttpRequest, person_id: Id, body: DeleteIn) -> HttpResponse:
    """What they have open ends; `conversations` says whether operators keep what was said."""
    row = person_at(person_id)
    if body.confirm != row.get_username():
        sentence = f"Give the user name {row.get_username()} to be sure."
        raise Problem(REQUEST_INVALID, sentence, errors=[FieldError("confirm", sentence)])
    person_delete(person=row, conversations=body.conversations, actor=principal_of(request).actor)  # type: ignore[arg-type]
    return nothing()


@router.post("/{person_id}/deactivate", response=PersonDetailOut, operation_id="people_deactivate", summary="Shut somebody out")  # fmt: skip
def people_deactivate(request: HttpRequest, person_id: Id, body: ReasonIn) -> HttpResponse:
    """Browsers, programs, tokens and sockets end within two seconds; what they said stays."""
    person_deactivate(person=person_at(person_id), reason=body.reason, actor=principal_of(request).actor)
    return _detail(person_id)


@router.post("/{person_id}/reactivate", response=PersonDetailOut, operation_id="people_reactivate", summary="Let somebody in again")  # fmt: skip
def people_reactivate(request: HttpRequest, person_id: Id) -> HttpResponse:
    person_reactivate(person=person_at(person_id), actor=principal_of(request).actor)
    return _detail(person_id)


@router.post("/{person_id}/sign-out", response=PersonDetailOut, operation_id="people_sign_out", summary="Sign somebody out everywhere")  # fmt: skip
def people_sign_out(request: HttpRequest, person_id: Id) -> HttpResponse:
    sign_out_everywhere(person=person_at(person_id), actor=principal_of(request).actor)
    return _detail(person_id)


@router.post("/{person_id}/reset-link", response={201: LinkOut}, operation_id="people_reset_link", summary="Make a link for a new password")  # fmt: skip
def people_reset_link(request: HttpRequest, person_id: Id) -> HttpResponse:
    """It counts once, for a day. Hand it over on a way that only they read."""
    row = person_at(person_id)
    link = reset_link(person=row, actor=principal_of(request).actor)
    reset_handed(person=row)
    return answer_once_shown({"link": link})


@router.put("/{person_id}/agents", response=PersonDetailOut, operation_id="people_agents", summary="Say whom somebody may talk to")  # fmt: skip
def people_agents(request: HttpRequest, person_id: Id, body: PersonAgentsIn) -> HttpResponse:
    person_agents_set(
        person=person_at(person_id),
        all_agents=body.all_agents,
        agents=agents_at(body.agents),
        actor=principal_of(request).actor,
    )
    return _detail(person_id)


@router.get("/{person_id}/sessions", response=SessionList, operation_id="people_sessions", summary="List what somebody has open")  # fmt: skip
def people_sessions(request: HttpRequest, person_id: Id) -> HttpResponse:
    """Browsers, programs and personal tokens that count now, the latest first; at most two hundred of each."""
    return answer({"items": [session_dict(one) for one in sessions_of(person_at(person_id))], "next": None})


@router.delete("/{person_id}/sessions/{kind}/{key}", response={204: None}, operation_id="people_session_end", summary="End one of them")  # fmt: skip
def people_session_end(request: HttpRequest, person_id: Id, kind: str, key: str) -> HttpResponse:
    """What it opened ends within two seconds."""
    open_end(person=person_at(person_id), kind=kind[:20], key=key[:100], actor=principal_of(request).actor)
    return nothing()
