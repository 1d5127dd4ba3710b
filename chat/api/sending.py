"""Saying something through the API."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from ninja import Field

from agents.models import Agent
from chat.api.problems import MESSAGE_REFUSED
from chat.api.render import message_dict, turn_dict
from chat.models import Conversation
from chat.services.messages import Sent, message_send
from ops.api.answers import answer
from ops.api.inputs import Body, Text
from ops.api.principals import principal_of
from ops.api.problems import KEY_REUSED, Problem
from ops.api.repeat import message_key

TEST_TEXT = "This is a test message from an operator. Please answer with one short sentence."


class SpeakerIn(Body):
    """Somebody outside of Switchboard for whom the caller speaks; the agent is told that it is them."""

    name: Text = Field(min_length=1, max_length=255, examples=["Grace"])
    id: Text = Field(min_length=1, max_length=200, description="Stable.", examples=["ticket-4711"])


class MessageIn(Body):
    text: Text = Field(min_length=1, max_length=2_000_000, examples=["What is on my calendar today?"])
    speaker: SpeakerIn | None = Field(None, description="Without it the owner of the token speaks.")


def say(
    request: HttpRequest, *, agent: Agent, body: MessageIn, conversation: Conversation | None = None
) -> HttpResponse:
    """Send, and answer 202 with message and turn. Raises ``CannotSend`` or ``Problem``."""
    speaker = body.speaker
    sent = message_send(
        agent=agent,
        text=body.text,
        person=None if speaker else principal_of(request).person,
        speaker_name=speaker.name if speaker else "",
        speaker_id=speaker.id if speaker else "",
        conversation=conversation,
        transport="api",
        external_id=message_key(request),
    )
    if sent.repeated and sent.message.text != body.text.replace("\x00", ""):
        raise Problem(KEY_REUSED, "This Idempotency-Key was used for another message. Use a new key.")
    return sent_answer(sent)


def sent_answer(sent: Sent) -> HttpResponse:
    """202 with message and turn. Raises ``Problem`` for a message that nobody answers."""
    if sent.turn is None:
        raise Problem(MESSAGE_REFUSED, f"The message is kept but not answered ({sent.message.guard or 'no agent'}).")
    data = {"message": message_dict(sent.message), "turn": turn_dict(sent.turn), "repeated": sent.repeated}
    return answer(data, status=202)
