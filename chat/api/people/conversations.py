"""A person's conversations: the list, one of them, and what they make of it."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.utils.dateparse import parse_datetime
from ninja import Field, Query, Router, Schema

from chat.access.grants import membership_at
from chat.api.people.auth import caller_of
from chat.api.people.cursors import cursor_link, cursor_values, invalid
from chat.api.people.finding import agent_at, removed_at
from chat.api.people.render import attachment_json, conversation_json
from chat.api.people.schemas import (
    ConversationOfPersonDetailOut,
    ConversationOfPersonOut,
    ConversationsOfPersonList,
    DraftOut,
    ReadOut,
)
from chat.models import Membership
from chat.portal.queries import Place, list_page, unread_of
from chat.services import portal
from chat.services.messages import MOST_ATTACHMENTS
from chat.services.portal_rooms import place_of
from ops.api.answers import answer, nothing
from ops.api.inputs import LARGEST_ID, Body, Id, Text

router = Router(tags=["Portal: conversations"])
_KIND = "conversations"


class ConversationsFilter(Schema):
    limit: int = Field(50, ge=1, le=200)
    cursor: str = Field("", max_length=1000, description="From `next` of the page before.")
    archived: bool = Field(False, description="Those that were put away, instead of the others.")
    removed: bool = Field(False, description="Those that were deleted and can still be brought back.")
    q: Text = Field(
        "", max_length=200, description="Only those with this in their title. `search` looks into the texts too."
    )


class ConversationStartIn(Body):
    agent: int = Field(ge=1, le=LARGEST_ID, examples=[7])
    title: Text = Field("", max_length=255)


class ConversationPatch(Body):
    """What is left out stays."""

    title: Text | None = Field(None, max_length=255, description="Empty: named after its first message again.")
    pinned: bool | None = None
    archived: bool | None = None


class ReadIn(Body):
    seq: int = Field(ge=0, le=2**31 - 1, description="The number of the last message that was seen.")


class DraftIn(Body):
    text: Text = Field("", max_length=portal.DRAFT_CHARS)
    attachments: list[UUID] = Field(default_factory=list, max_length=MOST_ATTACHMENTS)


def _shown(membership: Membership) -> dict[str, Any]:
    return conversation_json(membership, unread_of([membership]).get(membership.conversation_id, 0))


@router.get(
    "/conversations",
    response=ConversationsOfPersonList,
    operation_id="chat_conversations",
    summary="List one's conversations, pinned ones first, then the newest",
)
def conversations(request: HttpRequest, query: Query[ConversationsFilter]) -> HttpResponse:
    values = cursor_values(query.cursor, _KIND, (int, str, int))
    after = None
    if values is not None:
        at: datetime | None = parse_datetime(values[1])
        if at is None or at.tzinfo is None:
            raise invalid()
        after = Place(values[0], at, values[2])
    rows, following = list_page(
        caller_of(request).person,
        archived=query.archived,
        removed=query.removed,
        title=query.q,
        after=after,
        limit=query.limit,
    )
    unread = unread_of(rows)
    link = None
    if following is not None:
        link = cursor_link(request, _KIND, (following.pinned, following.at.isoformat(), following.id))
    return answer({"items": [conversation_json(row, unread.get(row.conversation_id, 0)) for row in rows], "next": link})


@router.post(
    "/conversations",
    response={201: ConversationOfPersonOut},
    operation_id="chat_conversation_start",
    summary="Begin a conversation with an agent",
)
def conversation_start(request: HttpRequest, body: ConversationStartIn) -> HttpResponse:
    caller = caller_of(request)
    agent = agent_at(caller.person, body.agent)
    made = portal.conversation_start(person=caller.person, agent=agent, title=body.title, actor=caller.actor)
    return answer(_shown(membership_at(caller.person, made.conversation_id)), status=201)


@router.get(
    "/conversations/{conversation_id}",
    response=ConversationOfPersonDetailOut,
    operation_id="chat_conversation",
    summary="Get one of one's conversations",
)
def conversation(request: HttpRequest, conversation_id: Id) -> HttpResponse:
    membership = membership_at(caller_of(request).person, conversation_id)
    return answer(
        {
            **_shown(membership),
            "room": place_of(membership.conversation),
            "draft_attachments": [attachment_json(row) for row in portal.draft_files(membership)],
            "people": Membership.objects.filter(conversation_id=conversation_id, removed_at=None).count(),
        }
    )


@router.patch(
    "/conversations/{conversation_id}",
    response=ConversationOfPersonOut,
    operation_id="chat_conversation_change",
    summary="Rename, pin or archive a conversation",
)
def conversation_change(request: HttpRequest, conversation_id: Id, body: ConversationPatch) -> HttpResponse:
    caller = caller_of(request)
    membership = membership_at(caller.person, conversation_id)
    if body.title is not None:
        portal.conversation_rename(membership=membership, title=body.title, actor=caller.actor)
    if body.pinned is not None:
        portal.membership_pin(membership=membership, pinned=body.pinned, actor=caller.actor)
    if body.archived is not None:
        portal.membership_archive(membership=membership, archived=body.archived, actor=caller.actor)
    return answer(_shown(membership))


@router.delete(
    "/conversations/{conversation_id}",
    response={204: None},
    operation_id="chat_conversation_remove",
    summary="Delete a conversation; it can be brought back for 30 days",
)
def conversation_remove(request: HttpRequest, conversation_id: Id) -> HttpResponse:
    """For its person only: whoever else has it keeps it. Links by which it was shared end."""
    caller = caller_of(request)
    portal.membership_remove(membership=membership_at(caller.person, conversation_id), actor=caller.actor)
    return nothing()


@router.post(
    "/conversations/{conversation_id}/restore",
    response=ConversationOfPersonOut,
    operation_id="chat_conversation_restore",
    summary="Bring a deleted conversation back",
)
def conversation_restore(request: HttpRequest, conversation_id: Id) -> HttpResponse:
    caller = caller_of(request)
    portal.membership_restore(membership=removed_at(caller.person, conversation_id), actor=caller.actor)
    return answer(_shown(membership_at(caller.person, conversation_id)))


@router.post(
    "/conversations/{conversation_id}/read",
    response=ReadOut,
    operation_id="chat_conversation_read",
    summary="Note up to where it was read",
)
def conversation_read(request: HttpRequest, conversation_id: Id, body: ReadIn) -> HttpResponse:
    """It never goes back."""
    membership = membership_at(caller_of(request).person, conversation_id)
    portal.membership_read(membership=membership, seq=body.seq)
    unread = unread_of([membership]).get(conversation_id, 0)
    return answer({"last_read_seq": membership.last_read_seq, "unread": unread})


@router.put(
    "/conversations/{conversation_id}/draft",
    response=DraftOut,
    operation_id="chat_conversation_draft",
    summary="Keep what is half written",
)
def conversation_draft(request: HttpRequest, conversation_id: Id, body: DraftIn) -> HttpResponse:
    """Empty text and no attachments forget it."""
    caller = caller_of(request)
    membership = membership_at(caller.person, conversation_id)
    ids = [str(pk) for pk in body.attachments]
    return answer(
        {"draft": portal.draft_save(membership=membership, text=body.text, attachments=ids, actor=caller.actor)}
    )
