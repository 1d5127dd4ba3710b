"""Which turn may run, and taking it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db.models import BooleanField, Exists, OuterRef, QuerySet
from django.db.models.expressions import RawSQL
from django.utils import timezone

from agents.models import Agent
from chat.models import Turn, TurnState
from chat.turns.waiting import stood
from ops.leases import claim
from ops.prepared import PreparedRead


def earlier_open() -> RawSQL:
    """Whether an open turn of the same conversation comes first.

    Written by hand: the ORM takes longer to build this subquery than the database to answer it.
    """
    return RawSQL(_EARLIER_OPEN, [], output_field=BooleanField())  # noqa: S611 (a constant)


_EARLIER_OPEN = """EXISTS (SELECT 1 FROM chat_turn earlier WHERE earlier.conversation_id = chat_turn.conversation_id
AND earlier.seq < chat_turn.seq AND earlier.state IN ('queued', 'running', 'waiting_approval'))"""


def load(pk: int) -> Turn | None:
    """A turn with all that running it needs.

    Two small joins instead of one of eight tables, which costs the database more to plan than to run; and a turn that
    somebody else has taken already, which is often so, is not joined further.
    """
    turn = _turn.first(pk)
    if turn is not None and turn.state == TurnState.QUEUED:
        agent = _agent.first(turn.agent_id)
        if agent is None:
            return None  # removed at this moment, and the turn with it
        turn.agent = agent
    return turn


_turn = PreparedRead(lambda pk: Turn.objects.select_related("message__sender").filter(pk=pk), 1)
_agent = PreparedRead(lambda pk: Agent.objects.select_related("service", "mapping__account").filter(pk=pk), 1)


def may_run(turn: Turn) -> bool:
    """False while it is not queued or its agent is paused."""
    return turn.state == TurnState.QUEUED and not turn.agent.paused


def claim_turn(turn: Turn) -> bool:
    """Take a loaded turn: one conditional UPDATE. It must be first in its conversation, and its lane must be free.

    An answer that stopped for approval goes on where it stopped; any other attempt begins anew.
    """
    fields: dict[str, Any] = {"partial": "", "partial_parts": [], "first_token_at": None, "started_at": timezone.now()}
    if turn.approvals:
        text, parts = stood(turn)
        beside = [{"index": index, **part} for index, part in enumerate(parts) if part["type"] != "text"]
        fields = {"partial": text, "partial_parts": beside}
    return claim(turn, unless=_EARLIER_OPEN, **fields)


def next_in_lane(lane: str) -> list[int]:
    """The first queued turns of a lane that are due, oldest first."""
    return _next_in_lane.all(lane, timezone.now())


_next_in_lane = PreparedRead(
    lambda lane, now: (
        Turn.objects.filter(lane=lane, state=TurnState.QUEUED, not_before__lte=now)
        .order_by("id")
        .values_list("pk", flat=True)[:5]
    ),
    "lane",
    timezone.now(),
)


def runnable(*, due_before: datetime | None = None, limit: int = 200) -> QuerySet[Turn]:
    """Queued turns that nothing holds back: due, first in their conversation, lane free, agent not paused."""
    return (
        Turn.objects.filter(state=TurnState.QUEUED, not_before__lte=due_before or timezone.now(), agent__paused=False)
        .filter(~earlier_open())
        .filter(~Exists(Turn.objects.filter(lane=OuterRef("lane"), state=TurnState.RUNNING)))
        .order_by("not_before")[:limit]
    )
