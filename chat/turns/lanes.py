"""Which turns exclude each other."""

from __future__ import annotations

from agents.backends.registry import kind_of
from agents.models import Agent


def lane_of(agent: Agent, conversation_id: int) -> str:
    """One lane for an agent whose backend takes one turn at a time, else one for each conversation."""
    return f"agent:{agent.pk}" if kind_of(agent.service.kind).traits.exclusive else f"conversation:{conversation_id}"
