"""Asking an agent that has no room, and looking at what became of the turn."""

from __future__ import annotations

from agents.models import Agent
from chat.models import Turn
from chat.services.messages import conversation_open, message_send
from tests.support.stage import Stage

KEEPS = "scripted_memory"


def ask(stage: Stage, text: str = "Hello", name: str = "Ada", kind: str = "scripted") -> Turn:
    """A message in a conversation of its own with an agent that has no room."""
    agent = Agent.objects.filter(name=name).first() or stage.agent(name, kind=kind, homeserver=False)
    conversation = conversation_open(agent=agent, actor="test")
    turn = message_send(
        agent=agent, text=text, conversation=conversation, speaker_name="Alice", speaker_id="alice"
    ).turn
    assert turn is not None
    return turn


def again(turn: Turn, text: str) -> Turn:
    """The next message of the same conversation."""
    sent = message_send(agent=turn.agent, text=text, conversation=turn.conversation)
    assert sent.turn is not None
    return sent.turn


def state(turn: Turn) -> str:
    turn.refresh_from_db()
    return str(turn.state)
