"""Messages: send to an agent, read one with its way."""

from __future__ import annotations

from dataclasses import asdict

from django.http import HttpRequest, HttpResponse
from ninja import Field, Router

from agents.api.agents import agent_of
from chat.api.render import delivery_dict, message_dict, turn_dict
from chat.api.schemas import MessageDetailOut, SentOut
from chat.api.sending import TEST_TEXT, MessageIn, say, sent_answer
from chat.models import Delivery, Message
from chat.queries import trace
from chat.services.probes import test_message_send
from ops.api.answers import answer
from ops.api.inputs import Body, Id, Text
from ops.api.principals import principal_of
from ops.api.problems import not_found

router = Router(tags=["Messages"])
# Below /agents, where callers look for it.
agent_router = Router(tags=["Messages"])


class MessageTestIn(Body):
    text: Text = Field(TEST_TEXT, min_length=1, max_length=2000)


@agent_router.post(
    "/{agent_id}/messages", response={202: SentOut}, operation_id="agents_send", summary="Say something to an agent"
)
def agents_send(request: HttpRequest, agent_id: Id, body: MessageIn) -> HttpResponse:
    """Said in the agent's own room, where everybody there sees it. The answer is under `turn.links`."""
    return say(request, agent=agent_of(agent_id), body=body)


@agent_router.post(
    "/{agent_id}/test-message",
    response={202: SentOut},
    operation_id="agents_test_message",
    summary="Send a test message",
)
def agents_test_message(request: HttpRequest, agent_id: Id, body: MessageTestIn) -> HttpResponse:
    """A real round trip through room and backend, noted in the audit log. The trace of the message tells how far it came."""
    principal = principal_of(request)
    sent = test_message_send(agent=agent_of(agent_id), text=body.text, person=principal.person, actor=principal.actor)
    return sent_answer(sent)


@router.get(
    "/{message_id}", response=MessageDetailOut, operation_id="messages_get", summary="Get a message with its way"
)
def messages_get(request: HttpRequest, message_id: Id) -> HttpResponse:
    message = Message.objects.select_related("sender", "conversation").filter(pk=message_id).first()
    if message is None:
        raise not_found("message", message_id)
    turns = message.turns.select_related("agent").defer("partial", "partial_parts").order_by("pk")
    deliveries = Delivery.objects.filter(message=message).select_related("room", "account").order_by("pk")
    return answer(
        {
            **message_dict(message),
            "trace": [asdict(hop) for hop in trace(message)],
            "turns": [turn_dict(turn) for turn in turns],
            "deliveries": [delivery_dict(delivery) for delivery in deliveries],
        }
    )
