"""Reads worth a name: agents by what people call them, the way of a message."""

from __future__ import annotations

from collections.abc import Sequence

from django.db.models import Q, QuerySet

from agents.models import Agent, AgentState
from chat.models import Delivery, DeliveryState, Turn
from chat.services.turns import FAILED_STATES
from chat.trace import Hop, trace, traces

__all__ = ["Hop", "dead_deliveries", "dead_turns", "find_agents", "trace", "traces"]


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
    return (
        Turn.objects.filter(state__in=FAILED_STATES).select_related("agent", "message", "conversation").order_by("-id")
    )


def dead_deliveries() -> QuerySet[Delivery]:
    """Answers that were not delivered and wait for an operator's decision, newest first."""
    return (
        Delivery.objects.filter(state=DeliveryState.DEAD)
        .select_related("room", "message", "turn__agent")
        .order_by("-id")
    )
