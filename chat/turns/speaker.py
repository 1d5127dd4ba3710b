"""The agent as a participant of the conversation that a turn belongs to."""

from __future__ import annotations

from chat.models import Participant, ParticipantKind, Turn
from chat.services.conversations import participant


def speaker_of(turn: Turn) -> Participant:
    """The agent's participant, made when it first speaks; looked up once for each ``Turn`` object."""
    known: Participant | None = turn.__dict__.get("_speaker")
    if known is None:
        known = participant(
            turn.conversation_id,
            kind=ParticipantKind.AGENT,
            external_id=str(turn.agent_id),
            name=turn.agent.name,
            agent_id=turn.agent_id,
        )
        turn.__dict__["_speaker"] = known
    return known
