"""What the pages about conversations share."""

from __future__ import annotations

from chat.models import Turn, TurnState
from chat.services.messages import CannotSend
from chat.services.turns import WrongState

EXPECTED = (WrongState, CannotSend)

TURN_LAMPS: dict[str, str] = {
    TurnState.QUEUED: "working",
    TurnState.RUNNING: "working",
    TurnState.WAITING_APPROVAL: "attention",
    TurnState.DONE: "good",
    TurnState.FAILED: "trouble",
    TurnState.CANCELLED: "off",
    TurnState.TIMED_OUT: "trouble",
    TurnState.DEAD: "trouble",
}
DELIVERY_LAMPS: dict[str, str] = {
    "streaming": "working",
    "queued": "working",
    "running": "working",
    "sent": "good",
    "dead": "trouble",
    "discarded": "off",
}


def took(turn: Turn) -> float | None:
    """Milliseconds from the question to the end of the answer."""
    return (turn.finished_at - turn.created_at).total_seconds() * 1000 if turn.finished_at else None
