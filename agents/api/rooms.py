"""Matrix rooms."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from django.conf import settings
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from ninja import Field, Query, Router

from agents.api.schemas import RoomList, RoomOut
from agents.models import Room, RoomKind
from agents.services.rooms import room_set_quiet
from ops.api.answers import answer
from ops.api.inputs import Body, Id, Text
from ops.api.paging import Paging, page
from ops.api.principals import principal_of
from ops.api.problems import not_found

router = Router(tags=["Rooms"])


class RoomFilter(Paging):
    kind: RoomKind | None = None
    quiet: bool | None = None
    search: Text = Field("", max_length=200, description="Part of the name.")


class RoomPatch(Body):
    quiet: bool = Field(description="Keep messages, answer only when the agent is mentioned.")


def room_dict(room: Room) -> dict[str, Any]:
    """A room as JSON."""
    mapping = getattr(room, "mapping", None)
    place = room.room_id or room.alias
    return {
        "id": room.pk,
        "kind": room.kind,
        "room_id": room.room_id,
        "alias": room.alias,
        "name": room.name,
        "topic": room.topic,
        "in_space": room.in_space,
        "quiet": room.quiet,
        "encrypted": room.encrypted,
        "agent": mapping.agent_id if mapping is not None else None,
        "link": f"{settings.MATRIX_CLIENT_URL}{quote(place, safe='!#:@')}" if place else "",
        "created_at": room.created_at,
    }


def _rows() -> QuerySet[Room]:
    return Room.objects.select_related("mapping")


def _room(room_id: int) -> Room:
    room = _rows().filter(pk=room_id).first()
    if room is None:
        raise not_found("room", room_id)
    return room


@router.get("", response=RoomList, operation_id="rooms_list", summary="List rooms")
def rooms_list(request: HttpRequest, query: Query[RoomFilter]) -> HttpResponse:
    rows = _rows()
    if query.kind:
        rows = rows.filter(kind=query.kind)
    if query.quiet is not None:
        rows = rows.filter(quiet=query.quiet)
    if query.search:
        rows = rows.filter(name__icontains=query.search)
    return page(request, rows, query, render=room_dict)


@router.get("/{room_id}", response=RoomOut, operation_id="rooms_get", summary="Get a room")
def rooms_get(request: HttpRequest, room_id: Id) -> HttpResponse:
    return answer(room_dict(_room(room_id)))


@router.patch("/{room_id}", response=RoomOut, operation_id="rooms_update", summary="Keep a room quiet, or not")
def rooms_update(request: HttpRequest, room_id: Id, body: RoomPatch) -> HttpResponse:
    room = room_set_quiet(room=_room(room_id), quiet=body.quiet, actor=principal_of(request).actor)
    return answer(room_dict(room))
