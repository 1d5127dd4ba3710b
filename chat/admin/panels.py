"""What this app adds to the pages of agents and rooms."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.urls import reverse

from agents.models import Agent, AgentState, Room, RoomKind
from chat.admin.common import TURN_LAMPS, took
from chat.admin.silent import agents_rows, conversation_rows, room_rows, silent_address
from chat.models import Link, Participant, Turn, TurnState
from ops import html
from ops.admin.issue_panel import register_also
from ops.admin.panels import Button, Panel, register_panel

TURNS, CONVERSATIONS = 8, 5


def agent_panel(request: HttpRequest, agent: Agent) -> Panel:
    """An agent's recent turns and conversations, and the way to a test message."""
    turns = Turn.objects.filter(agent=agent).select_related("message__sender").order_by("-id")[:TURNS]
    parts = Participant.objects.filter(agent=agent, conversation__last_message_at__isnull=False)
    recent = parts.select_related("conversation").order_by("-conversation__last_message_at")[:CONVERSATIONS]
    buttons: tuple[Button, ...] = ()
    if agent.state != AgentState.ARCHIVED:
        buttons = (
            Button("Send a test message", reverse("admin:chat_test", args=[agent.pk]), primary=True),
            Button("Why is it silent?", silent_address("agent", agent.pk)),
            Button("Sync now…", reverse("admin:agents_syncrun_plan") + f"?service={agent.service.name}"),
        )
    context: dict[str, Any] = {
        "turns": [(one, html.lamp(TURN_LAMPS[one.state], one.get_state_display()), took(one)) for one in turns],
        "conversations": [one.conversation for one in recent],
    }
    return Panel("What it was asked", "switchboard/panel_agent.html", context, buttons)


def room_panel(request: HttpRequest, room: Room) -> Panel:
    """The way from a room to its conversation."""
    why = Button("Why is it silent?", silent_address("room", room.pk))
    link = Link.objects.filter(room=room).first()
    if link is None:
        return Panel(buttons=(why,) if room.kind != RoomKind.SPACE else ())
    address = reverse("admin:chat_conversation_change", args=[link.conversation_id])
    return Panel(buttons=(Button("What was said here", address), why))


def turn_panel(request: HttpRequest, turn: Turn) -> Panel:
    """The way from a turn to why its message got no answer."""
    if turn.state == TurnState.DONE:
        return Panel()
    return Panel(buttons=(Button("Why is it silent?", silent_address("message", turn.message_id)),))


register_panel("agents.agent", agent_panel)
register_panel("agents.room", room_panel)
register_panel("chat.turn", turn_panel)
register_also("agents.agent", agents_rows)
register_also("agents.room", room_rows)
register_also("chat.conversation", conversation_rows)
register_also("chat.turn", lambda turn: [turn.message])
