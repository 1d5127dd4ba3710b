"""Conversations in Matrix rooms, rooms' conversations in the portal, and an account for whoever has none."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import Body as FromBody
from ninja import Field, Query, Router, Schema

from agents.models import Room
from chat.access.grants import membership_at
from chat.api.people.auth import caller_of
from chat.api.people.me import only_oneself
from chat.api.people.render import conversation_json
from chat.api.people.schemas import ConversationOfPersonOut, PlaceOut
from chat.portal.queries import unread_of
from chat.services.matrix_account import account_make
from chat.services.portal_rooms import conversation_room_open, place_json, room_open, rooms_of
from ops.api.answers import answer, answer_once_shown
from ops.api.inputs import Body, Id, Text
from ops.api.paging import Paging, page

router = Router(tags=["Portal: Matrix"])


class RoomOfPersonOut(Schema):
    """A room in which one's Matrix account takes part."""

    id: int
    name: str
    agent: str
    room: PlaceOut
    conversation: int | None = Field(description="Where it is open in the portal already.")


class RoomOfPersonList(Schema):
    items: list[RoomOfPersonOut]
    next: str | None


class MatrixAccountIn(Body):
    password: Text = Field("", max_length=200, description="One is made when left out.")


class MatrixAccountOut(Schema):
    user_id: str
    password: str = Field(description="Shown this once.")
    homeserver: str


@router.post(
    "/conversations/{conversation_id}/room",
    response={201: PlaceOut},
    operation_id="chat_conversation_room",
    summary="Go on in a Matrix room",
)
def conversation_room(request: HttpRequest, conversation_id: Id) -> HttpResponse:
    """Makes the room, or names the one that there is, and invites one's Matrix account to it. What was said before follows."""
    caller = caller_of(request)
    membership = membership_at(caller.person, conversation_id)
    return answer(conversation_room_open(membership=membership, actor=caller.actor), status=201)


@router.get("/rooms", response=RoomOfPersonList, operation_id="chat_rooms", summary="Matrix rooms that one is in")
def rooms(request: HttpRequest, query: Query[Paging]) -> HttpResponse:
    person = caller_of(request).person
    own = dict(person.memberships.filter(removed_at=None).values_list("conversation_id", "pk"))

    def render(room: Room) -> dict[str, Any]:
        link, mapping = getattr(room, "link", None), getattr(room, "mapping", None)
        opened = link.conversation_id if link is not None and link.conversation_id in own else None
        agent = mapping.agent.name if mapping is not None else ""
        return {"id": room.pk, "name": str(room), "agent": agent, "room": place_json(room), "conversation": opened}

    return page(request, rooms_of(person), query, render=render, order=("id",))


@router.post(
    "/rooms/{room_id}/open",
    response={201: ConversationOfPersonOut},
    operation_id="chat_room_open",
    summary="Have a room's conversation in the portal too",
)
def open_room(request: HttpRequest, room_id: Id) -> HttpResponse:
    caller = caller_of(request)
    made = room_open(person=caller.person, room_pk=room_id, actor=caller.actor)
    membership = membership_at(caller.person, made.conversation_id)
    unread = unread_of([membership]).get(membership.conversation_id, 0)
    return answer(conversation_json(membership, unread), status=201)


@router.post(
    "/matrix-account",
    response={201: MatrixAccountOut},
    operation_id="chat_matrix_account",
    summary="Make oneself an account on the local homeserver",
)
def matrix_account(request: HttpRequest, body: MatrixAccountIn | None = FromBody(None)) -> HttpResponse:
    caller = only_oneself(request)
    made = account_make(person=caller.person, password=body.password if body else "", actor=caller.actor)
    return answer_once_shown(
        {"user_id": made.user_id, "password": made.password, "homeserver": made.homeserver}, status=201
    )
