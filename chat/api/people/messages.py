"""What is said in a person's conversations: the branch that is shown, saying something, saying it differently, answering again."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpRequest, HttpResponse
from ninja import Field, Query, Router, Schema

from chat.access.grants import NotYours, membership_at
from chat.api.people.auth import Caller, caller_of
from chat.api.people.finding import turn_at
from chat.api.people.render import message_json, turn_values
from chat.api.people.schemas import BranchOut, SaidOut, TurnBriefOut, TurnTextOfPersonOut
from chat.api.problems import KEY_REUSED_BY_CLIENT, NO_AGENT
from chat.models import Message, Turn
from chat.portal.queries import branch_page
from chat.services.messages import MOST_ATTACHMENTS, Sent, message_send
from chat.services.portal import membership_read
from chat.services.turns import turn_cancel
from chat.turns.follow import read_row
from ops.api.answers import answer
from ops.api.inputs import LARGEST_ID, Body, Id, Text
from ops.api.problems import Problem

router = Router(tags=["Portal: messages"])

PORTAL = "portal"
CLIENT_ID = r"^[A-Za-z0-9_-]{1,64}$"


class BranchPaging(Schema):
    before: int | None = Field(None, ge=1, le=2**31 - 1, description="Only what was said before this number.")
    limit: int = Field(50, ge=1, le=200)


class SayIn(Body):
    client_id: str = Field(pattern=CLIENT_ID, description="Yours for this message: sent again, it is the same message.")
    text: Text = Field("", max_length=2_000_000)
    attachments: list[UUID] = Field(default_factory=list, max_length=MOST_ATTACHMENTS)
    parent: int | None = Field(
        None, ge=1, le=LARGEST_ID, description="The message to speak below; the last of the branch when left out."
    )


def external_id(caller: Caller, client_id: str) -> str:
    """The id of a person's message: nobody else can take it, whatever their client calls it."""
    return f"{caller.person.pk}:{client_id}"


def said(sent: Sent) -> HttpResponse:
    message = Message.objects.select_related("sender").get(pk=sent.message.pk)
    turns = turn_values(Turn.objects.filter(pk=sent.turn.pk)) if sent.turn is not None else [None]
    data = {"message": message_json([message])[0], "turn": turns[0], "repeated": sent.repeated}
    return answer(data, status=202)


@router.get(
    "/conversations/{conversation_id}/messages",
    response=BranchOut,
    operation_id="chat_messages",
    summary="What was said, newest page first",
)
def messages(request: HttpRequest, conversation_id: Id, query: Query[BranchPaging]) -> HttpResponse:
    """The branch that is shown. Within a page the oldest comes first; `before` leads further back."""
    membership = membership_at(caller_of(request).person, conversation_id)
    rows, before = branch_page(membership, before=query.before, limit=query.limit)
    conversation = membership.conversation
    return answer(
        {
            "items": message_json(rows),
            "before": before,
            "head": conversation.head_id,
            "revision": conversation.revision,
            "last_seq": conversation.next_seq - 1,
        }
    )


@router.post(
    "/conversations/{conversation_id}/messages",
    response={202: SaidOut},
    operation_id="chat_say",
    summary="Say something",
)
def say(request: HttpRequest, conversation_id: Id, body: SayIn) -> HttpResponse:
    """Answered at once with what was stored; follow the answer over the socket, or ask `turns/{id}`."""
    caller = caller_of(request)
    membership = membership_at(caller.person, conversation_id)
    agent = membership.conversation.agent
    if agent is None:
        raise Problem(NO_AGENT, "The agent of this conversation no longer exists. Begin another one.")
    parent = None
    if body.parent is not None:
        parent = Message.objects.filter(pk=body.parent, conversation_id=conversation_id).first()
        if parent is None:
            raise NotYours(f"There is no message {body.parent} in this conversation.")
    sent = message_send(
        agent=agent,
        text=body.text,
        person=caller.person,
        conversation=membership.conversation,
        transport=PORTAL,
        external_id=external_id(caller, body.client_id),
        parent=parent,
        attachments=body.attachments,
        actor=caller.actor,
    )
    if sent.message.conversation_id != conversation_id:
        raise Problem(KEY_REUSED_BY_CLIENT, "This client_id was used in another conversation. Use a new one.")
    if not sent.repeated:
        membership.conversation.refresh_from_db(fields=["next_seq"])
        membership_read(membership=membership, seq=sent.message.seq)
    return said(sent)


@router.get(
    "/turns/{turn_id}", response=TurnTextOfPersonOut, operation_id="chat_turn", summary="An answer, as far as it is"
)
def turn(request: HttpRequest, turn_id: Id) -> HttpResponse:
    """For programs without a socket."""
    found = turn_at(caller_of(request).person, turn_id)
    row = read_row(found.pk)
    if row is None:
        raise NotYours(f"There is no turn {turn_id}.")
    shown = turn_values(Turn.objects.filter(pk=found.pk))[0]
    return answer({"turn": shown, "text": row.shown, "attempt": row.fence, "final": row.final})


@router.post("/turns/{turn_id}/stop", response={202: TurnBriefOut}, operation_id="chat_stop", summary="Stop an answer")
def stop(request: HttpRequest, turn_id: Id) -> HttpResponse:
    """Upstream as well. Does nothing for one that is over."""
    caller = caller_of(request)
    stopped = turn_cancel(turn=turn_at(caller.person, turn_id), actor=caller.actor)
    return answer(turn_values(Turn.objects.filter(pk=stopped.pk))[0], status=202)
