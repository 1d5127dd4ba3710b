"""Versions of what was said: edited, answered again, shown; and tool calls that wait for a word."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from ninja import Field, Router

from chat.api.people.auth import caller_of
from chat.api.people.finding import message_at, turn_at
from chat.api.people.messages import CLIENT_ID, external_id, said
from chat.api.people.render import turn_values
from chat.api.people.schemas import SaidOut, TurnBriefOut
from chat.models import Turn
from chat.services import branches
from chat.services.approvals import approval_decide
from ops.api.answers import answer, nothing
from ops.api.inputs import Body, Id, Text

router = Router(tags=["Portal: messages"])


class EditIn(Body):
    client_id: str = Field(pattern=CLIENT_ID)
    text: Text = Field(min_length=1, max_length=2_000_000)


class ApprovalIn(Body):
    call_id: Text = Field(min_length=1, max_length=255)
    approve: bool
    reason: Text = Field("", max_length=2000)


@router.post(
    "/messages/{message_id}/edit",
    response={202: SaidOut},
    operation_id="chat_edit",
    summary="Say it differently: a version beside the first, answered anew",
)
def edit(request: HttpRequest, message_id: Id, body: EditIn) -> HttpResponse:
    caller = caller_of(request)
    sent = branches.message_edited(
        message=message_at(caller.person, message_id),
        text=body.text,
        person=caller.person,
        actor=caller.actor,
        external_id=external_id(caller, body.client_id),
    )
    return said(sent)


@router.post(
    "/messages/{message_id}/regenerate",
    response={202: TurnBriefOut},
    operation_id="chat_regenerate",
    summary="Answer again: another version beside the first",
)
def regenerate(request: HttpRequest, message_id: Id) -> HttpResponse:
    caller = caller_of(request)
    turn = branches.answer_again(
        message=message_at(caller.person, message_id), person=caller.person, actor=caller.actor
    )
    return answer(turn_values(Turn.objects.filter(pk=turn.pk))[0], status=202)


@router.post(
    "/messages/{message_id}/show",
    response={204: None},
    operation_id="chat_show",
    summary="Show the branch of this version",
)
def show(request: HttpRequest, message_id: Id) -> HttpResponse:
    """The one below this message in which something was said last."""
    caller = caller_of(request)
    message = message_at(caller.person, message_id)
    branches.head_set(conversation=message.conversation, message=message, actor=caller.actor)
    return nothing()


@router.post(
    "/turns/{turn_id}/approvals",
    response={202: TurnBriefOut},
    operation_id="chat_approve",
    summary="Approve or deny a tool call",
)
def approve(request: HttpRequest, turn_id: Id, body: ApprovalIn) -> HttpResponse:
    caller = caller_of(request)
    decided = approval_decide(
        turn=turn_at(caller.person, turn_id),
        call_id=body.call_id,
        approve=body.approve,
        reason=body.reason,
        actor=caller.actor,
    )
    return answer(turn_values(Turn.objects.filter(pk=decided.pk))[0], status=202)
