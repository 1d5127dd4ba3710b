"""What an agent's mapping and its memory were, on the agent's own page and beside each block."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

from agents.admin.common import mapping_of
from agents.history import MEMORY, memory_key
from agents.models import Agent
from ops.admin.panels import Panel, register_panel
from ops.admin.versions import address_of_history, panel_of


def mapping_history(request: HttpRequest, row: Any) -> Panel:
    """A mapping has no page of its own: its history stands on its agent's."""
    mapping = mapping_of(row)
    return Panel() if mapping is None else panel_of("agents.mapping", mapping.pk, "What its mapping was")


def memory_history(agent: Agent, label: str) -> str:
    """The page with all that a memory block ever said, as far as it was changed from here."""
    return address_of_history(MEMORY, memory_key(agent, label))


register_panel("agents.agent", mapping_history)
