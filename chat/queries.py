"""Reads worth a name: agents by what people call them, the way of a message."""

from __future__ import annotations

from collections.abc import Sequence

from django.db.models import Q, QuerySet

from agents.models import Agent, AgentState
from chat.models import OPEN_TURN_STATES, Delivery, DeliveryState, Turn, TurnState
from chat.services.turns import FAILED_STATES
from chat.trace import Hop, trace, traces

__all__ = ["Hop", "dead_deliveries", "dead_turns", "find_agents", "open_turns", "trace", "traces"]


def find_agents(name: str) -> Sequence[Agent]:
    """Agents that a person may mean by ``name``: exact id, Matrix id or name first, then names that contain it."""
    agents = Agent.objects.select_related("service", "mapping__account", "mapping__room").exclude(
        state=AgentState.ARCHIVED
    )
    exact = Q(external_id=name) | Q(name__iexact=name) | Q(mapping__account__user_id=name)
    if name.isdecimal() and name.isascii():
        exact |= Q(pk=int(name))
    found = list(agents.filter(exact)[:10])
    return found or list(agents.filter(name__icontains=name)[:10])


def dead_turns() -> QuerySet[Turn]:
    """Messages that were not answered and wait for an operator's decision, newest first."""
    return _in_states(FAILED_STATES).select_related("agent", "message", "conversation").order_by("-id")


def open_turns() -> QuerySet[Turn]:
    """Turns that wait or run."""
    return _in_states(OPEN_TURN_STATES)


def _in_states(states: Sequence[TurnState]) -> QuerySet[Turn]:
    """Turns in one of these states, by the partial index that has the very same list.

    The states stand in the statement itself: SQLite takes a partial index for ``IN`` only when it sees the values, not
    parameters. They are words of ours, never anybody's input.
    """
    words = ", ".join(f"'{TurnState(state).value}'" for state in states)
    return Turn.objects.extra(where=[f"chat_turn.state IN ({words})"])  # noqa: S610


def dead_deliveries() -> QuerySet[Delivery]:
    """Answers that were not delivered and wait for an operator's decision, newest first."""
    return (
        Delivery.objects.filter(state=DeliveryState.DEAD)
        .select_related("room", "message", "turn__agent")
        .order_by("-id")
    )
