"""Why is it silent? One page for an agent, a room or a message: the way as a cord, where it is cut, and what mends it."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.response import TemplateResponse
from django.urls import reverse

from agents.models import Account, Agent, Mapping, Room
from chat.doctor.silence import Diagnosis, HopState, diagnose
from chat.models import Conversation, Message
from chat.trace import GOOD, OFF, TROUBLE, WORKING
from ops import html
from ops.admin.base import is_operator
from ops.admin.issue_cards import RepairButton, plan_address
from ops.choices import lamp_for

KINDS: dict[str, type[Agent] | type[Room] | type[Message]] = {"agent": Agent, "room": Room, "message": Message}
# The hops of a message itself; those before them are places that every message passes.
OWN = ("said", "received", "stored", "started", "first_token", "finished", "delivered")
LIVE_EVERY = 3000


def silent_address(kind: str, pk: int) -> str:
    """The page for one object."""
    return reverse("admin:chat_silent", args=[kind, pk])


def silent_view(request: HttpRequest, kind: str, pk: int) -> HttpResponse:
    """The whole page."""
    subject = _subject(request, kind, pk)
    context = silent_context(kind, subject)
    title = f"Why is it silent? {subject if kind != 'message' else f'Message {pk}'}"
    frame = {**admin.site.each_context(request), "title": title, **context}
    return TemplateResponse(request, "switchboard/silent.html", frame)


def silent_live_view(request: HttpRequest, kind: str, pk: int) -> HttpResponse:
    """The part of it that is fetched again, until nothing is red or under way."""
    return render(request, "switchboard/silent_live.html", silent_context(kind, _subject(request, kind, pk)))


def silent_context(kind: str, subject: Agent | Room | Message) -> dict[str, Any]:
    """The diagnosis, drawn."""
    found = diagnose(subject)
    red = found.red_hop
    offer = found.offer
    open_ended = any(hop.lamp in (TROUBLE, WORKING) for hop in found.hops)
    return {
        "kind": kind,
        "subject": subject,
        "found": found,
        "lamp": _lamp(found),
        "word": _word(found),
        "rows": _rows(found),
        "red": red,
        "button": RepairButton(offer, plan_address(offer.repair.id, target=offer.target)) if offer else None,
        "agent_address": reverse("admin:agents_agent_change", args=[found.agent.pk]) if found.agent else "",
        "test_address": reverse("admin:chat_test", args=[found.agent.pk]) if found.agent else "",
        "message_address": _message_address(found.message),
        "live": reverse("admin:chat_silent_live", args=[kind, subject.pk]) if open_ended else "",
        "every": LIVE_EVERY,
    }


def agents_rows(agent: Agent) -> list[Mapping | Room | Account]:
    """The rows behind an agent whose troubles stand on its page too."""
    mapping = getattr(agent, "mapping", None)
    if mapping is None:
        return []
    return [mapping, mapping.account, *([mapping.room] if mapping.room is not None else [])]


def room_rows(room: Room) -> list[Mapping]:
    """The mapping that names a room."""
    mapping = getattr(room, "mapping", None)
    return [mapping] if mapping is not None else []


def conversation_rows(conversation: Conversation) -> list[Room]:
    """The rooms in which a conversation can be read."""
    return [link.room for link in conversation.links.select_related("room") if link.room is not None]


def _subject(request: HttpRequest, kind: str, pk: int) -> Agent | Room | Message:
    if not is_operator(request):
        raise PermissionDenied
    model = KINDS.get(kind)
    rows: Any = model._default_manager if model is not None else None
    if rows is not None and kind == "agent":
        rows = rows.select_related("service", "mapping__account", "mapping__room")
    row: Agent | Room | Message | None = rows.filter(pk=pk).first() if rows is not None else None
    if row is None:
        raise Http404(f"There is no {kind} {pk}.")
    return row


def _rows(found: Diagnosis) -> list[dict[str, Any]]:
    """Two stretches of the cord: the line that every message takes, and this message's own way."""
    hops = list(found.hops)
    line = [hop for hop in hops if hop.name not in OWN]
    own = [hop for hop in hops if hop.name in OWN]
    after_red = False
    drawn: list[list[dict[str, Any]]] = []
    for stretch in (line, own):
        row = []
        for hop in stretch:
            is_red = hop is found.red_hop
            row.append(_drawn(hop, is_red, after_red))
            after_red = after_red or is_red
        drawn.append(row)
    return [
        {"title": "The line that every message takes", "hops": drawn[0]},
        {"title": "The way of the message", "hops": drawn[1]},
    ]


def _drawn(hop: HopState, is_red: bool, after_red: bool) -> dict[str, Any]:
    lamp = lamp_for(hop.lamp)
    return {
        "hop": hop,
        "lamp": lamp,
        "red": is_red,
        "beyond": after_red and hop.lamp == OFF,
        "says": "it stopped here" if is_red else _SAYS.get(hop.lamp, ""),
        "at": html.ago(hop.at) if hop.at else "",
    }


_SAYS = {GOOD: "good", WORKING: "under way", TROUBLE: "trouble", OFF: "not reached"}


def _lamp(found: Diagnosis) -> str:
    if found.red_hop is not None:
        return TROUBLE
    return WORKING if any(hop.lamp == WORKING for hop in found.hops) else GOOD


def _word(found: Diagnosis) -> str:
    return {TROUBLE: "Cut", WORKING: "Under way", GOOD: "Whole"}[_lamp(found)]


def _message_address(message: Message | None) -> str:
    if message is None:
        return ""
    address = reverse("admin:chat_conversation_change", args=[message.conversation_id])
    return f"{address}?at={message.seq}#m{message.seq}"
