"""Mappings: agents with their accounts and rooms."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from ninja import Field, Query, Router

from agents.api.schemas import MappingList, MappingOut, RebuildOut, RecreatedOut, RoomOut
from agents.models import Mapping, Room
from agents.services.backends import open_homeserver
from agents.services.rebuild import rebuild_plan
from agents.services.rooms import mapping_recreate, room_wanted
from agents.services.sync import UnknownService
from ops.api.answers import answer
from ops.api.inputs import LARGEST_ID, Body, Id, Text
from ops.api.jobs import job_dict
from ops.api.paging import Paging, page
from ops.api.principals import principal_of
from ops.api.problems import not_found
from ops.api.schemas import JobOut
from ops.models import JobTrigger, Service
from ops.services.jobs import job_start

router = Router(tags=["Mappings"])


class MappingFilter(Paging):
    agent: int | None = Field(None, ge=1, le=LARGEST_ID, description="Only that of this agent.")
    service: Text = Field("", description="Only agents of the service of this name.")
    trouble: bool | None = Field(None, description="Only those with (or without) a problem.")


def mapping_dict(mapping: Mapping) -> dict[str, Any]:
    """A mapping as JSON."""
    room = mapping.room
    return {
        "id": mapping.pk,
        "agent": mapping.agent_id,
        "agent_name": mapping.agent.name,
        "service": mapping.agent.service.name,
        "status": mapping.status,
        "account": mapping.account.user_id,
        "account_registered_at": mapping.account.registered_at,
        "room": {"id": room.pk, "room_id": room.room_id, "alias": room.alias} if room else None,
        "problem": mapping.problem,
        "problem_since": mapping.problem_since,
        "created_at": mapping.created_at,
        "updated_at": mapping.updated_at,
    }


def _rows() -> QuerySet[Mapping]:
    return Mapping.objects.select_related("agent__service", "account", "room")


def _mapping(mapping_id: int) -> Mapping:
    mapping = _rows().filter(pk=mapping_id).first()
    if mapping is None:
        raise not_found("mapping", mapping_id)
    return mapping


@router.get("", response=MappingList, operation_id="mappings_list", summary="List mappings")
def mappings_list(request: HttpRequest, query: Query[MappingFilter]) -> HttpResponse:
    rows = _rows()
    if query.agent is not None:
        rows = rows.filter(agent_id=query.agent)
    if query.service:
        rows = rows.filter(agent__service__name=query.service)
    if query.trouble is not None:
        rows = rows.exclude(problem="") if query.trouble else rows.filter(problem="")
    return page(request, rows, query, render=mapping_dict)


class RebuildIn(Body):
    service: Text = Field("", description="Only the agents of this service.", examples=[""])
    dry_run: bool = Field(False, description="Answer with what was found, and write nothing.")


@router.post(
    "/rebuild",
    response={200: RebuildOut, 202: JobOut},
    operation_id="mappings_rebuild",
    summary="Rebuild mappings from the homeserver, or show what would be found",
)
def mappings_rebuild(request: HttpRequest, body: RebuildIn) -> HttpResponse:
    """For a database that was lost: accounts, rooms and the space are found on the homeserver and written down; nothing is created
    there. 202 with a job to follow; with `dry_run` 200 with what was found. What is in doubt is listed and left alone."""
    if body.service and not Service.objects.filter(name=body.service, enabled=True).exists():
        raise UnknownService(f"There is no enabled service named {body.service!r}.")
    if body.dry_run:
        return answer(rebuild_plan(homeserver=open_homeserver(), service_name=body.service).to_dict())
    job = job_start(
        kind="agents.rebuild",
        actor=principal_of(request).actor,
        trigger=JobTrigger.API,
        params={"service": body.service},
        once=True,
    )
    return answer(job_dict(job), status=202)


@router.get("/{mapping_id}", response=MappingOut, operation_id="mappings_get", summary="Get a mapping")
def mappings_get(request: HttpRequest, mapping_id: Id) -> HttpResponse:
    return answer(mapping_dict(_mapping(mapping_id)))


@router.post(
    "/{mapping_id}/recreate",
    response=RecreatedOut,
    operation_id="mappings_recreate",
    summary="Put account and room back",
)
def mappings_recreate(request: HttpRequest, mapping_id: Id) -> HttpResponse:
    """Asks the homeserver what is there and makes only what is missing. May be repeated at any time."""
    done = mapping_recreate(mapping=_mapping(mapping_id), actor=principal_of(request).actor)
    return answer(done.to_dict())


@router.post("/{mapping_id}/room", response=RoomOut, operation_id="mappings_room", summary="Make the agent's room now")
def mappings_room(request: HttpRequest, mapping_id: Id) -> HttpResponse:
    """For agents whose rooms are made on first contact. A room that is there is answered as it is; may be repeated at any time."""
    from agents.api.rooms import room_dict

    room = room_wanted(mapping=_mapping(mapping_id), actor=principal_of(request).actor)
    return answer(room_dict(Room.objects.select_related("mapping").get(pk=room.pk)))
