"""Agents and rooms word for word, as their servers have them: the read-only views behind an agent's and a room's page."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from django.http import HttpRequest
from django.urls import reverse

from agents.backends.letta.backend import LettaBackend
from agents.models import Agent, Room
from agents.services.backends import backend_for, open_homeserver
from ops.admin.log_lines import logs_address
from ops.admin.panels import Button, Panel, register_panel
from ops.doctor.targets import row_of
from ops.logbook.raw import NothingRaw, register_raw


def raw_agent(key: str) -> Any:
    """What the backend says of the agent; a Letta server's own words, with its memory blocks and tools."""
    agent = row_of(f"agent:{key}")
    if not isinstance(agent, Agent):
        raise NothingRaw("There is no such agent.")
    backend = backend_for(agent.service)
    if isinstance(backend, LettaBackend):
        return backend.server.json("GET", f"/v1/agents/{quote(agent.external_id, safe='')}")
    info = backend.get_agent(agent.external_id)
    if info is None:
        raise NothingRaw(
            f"{agent.service.name} does not know {agent.external_id}: sync, so that it is marked as missing."
        )
    return {name: getattr(info, name) for name in getattr(info, "__dataclass_fields__", {})}


def raw_room(key: str) -> Any:
    """All state events of the room, as the account in it sees them."""
    room = row_of(f"room:{key}")
    if not isinstance(room, Room) or not room.room_id:
        raise NothingRaw("The room does not exist on the homeserver yet.")
    mapping = getattr(room, "mapping", None)
    return open_homeserver().client.full_state(room.room_id, mapping.account.user_id if mapping is not None else None)


def _buttons_of_agent(request: HttpRequest, row: Agent) -> Panel:
    raw = reverse("admin:ops_logline_raw", args=["agent", row.pk])
    return Panel(buttons=(Button("Log lines", logs_address(agent=row.name)), Button("As its server has it", raw)))


def _buttons_of_room(request: HttpRequest, row: Room) -> Panel:
    return Panel(buttons=(Button("Raw state", reverse("admin:ops_logline_raw", args=["room", row.pk])),))


register_raw("agent", label="the agent", fetch=raw_agent)
register_raw("room", label="the room's state", fetch=raw_room)
register_panel("agents.agent", _buttons_of_agent)
register_panel("agents.room", _buttons_of_room)
