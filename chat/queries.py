"""Reads worth a name: agents by what people call them, the way of a message."""

from __future__ import annotations

from collections.abc import Sequence

from django.db.models import Q

from agents.models import Agent, AgentState
from chat.trace import Hop, trace

__all__ = ["Hop", "find_agents", "trace"]


def find_agents(name: str) -> Sequence[Agent]:
    """Agents that a person may mean by ``name``: exact id, Matrix id or name first, then names that contain it."""
    agents = Agent.objects.select_related("service", "mapping__account", "mapping__room").exclude(state=AgentState.ARCHIVED)
    exact = Q(external_id=name) | Q(name__iexact=name) | Q(mapping__account__user_id=name)
    if name.isdigit():
        exact |= Q(pk=int(name))
    found = list(agents.filter(exact)[:10])
    return found or list(agents.filter(name__icontains=name)[:10])
