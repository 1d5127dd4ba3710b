"""Conversations: what was said, and where it stopped. Also the test message, a real round trip that can be watched."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Prefetch
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString, mark_safe
from unfold.decorators import display

from agents.admin.common import client_address
from agents.matrix.markdown import render as render_markdown
from agents.models import Agent
from chat.admin.common import DELIVERY_LAMPS, TURN_LAMPS
from chat.admin.silent import silent_live_view, silent_view
from chat.models import OPEN_TURN_STATES, Conversation, Link, Message, Participant, Person, RefusedEvent, Role
from chat.queries import Hop, trace, traces
from chat.services.messages import CannotSend
from chat.services.probes import test_message_send
from ops import html
from ops.admin.base import OperatorAdmin, actor_of

PAGE = 40
GREETING = "This is a test from the operator. Please answer with one short sentence."


@admin.register(Conversation)
class ConversationAdmin(OperatorAdmin):
    list_display = ("title_text", "who", "messages_count", "open_room", "last_message")
    search_fields = ("title", "participants__name", "participants__external_id", "links__room__room_id")
    search_help_text = "Title, participant, Matrix id or room id"
    ordering = ("-last_message_at", "-id")
    detail_template = "switchboard/conversation.html"
    intro = "What was said, with the way of each message: when it arrived, was stored, was answered, was delivered, and where it stopped."
    empty_title = "Nothing was said yet"
    empty_text = "A conversation begins when somebody writes in an agent's room, or when you send a test message from an agent's page."

    def get_queryset(self, request: HttpRequest) -> Any:
        rows = super().get_queryset(request)
        return rows.prefetch_related(
            Prefetch("participants", Participant.objects.order_by("id")),
            Prefetch("links", Link.objects.select_related("room")),
        )

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        own = [
            path("silent/<slug:kind>/<int:pk>/", wrap(silent_view), name="chat_silent"),
            path("silent/<slug:kind>/<int:pk>/live/", wrap(silent_live_view), name="chat_silent_live"),
            path("test/<int:agent_id>/", wrap(self.test_view), name="chat_test"),
            path("test/<int:agent_id>/<int:message_id>/", wrap(self.watch_view), name="chat_test_watch"),
            path("test/<int:agent_id>/<int:message_id>/live/", wrap(self.live_view), name="chat_test_live"),
        ]
        return [*own, *super().get_urls()]

    @display(description="Conversation", ordering="title")
    def title_text(self, row: Conversation) -> str:
        return str(row)

    @display(description="Who")
    def who(self, row: Conversation) -> str:
        names = [str(one) for one in row.participants.all()]
        return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")

    @display(description="Messages")
    def messages_count(self, row: Conversation) -> str:
        return str(row.next_seq - 1)

    @display(description="Room")
    def open_room(self, row: Conversation) -> str:
        address = next((client_address(one.room) for one in row.links.all() if one.room), "")
        return html.outside(address, "Open") if address else "API"

    @display(description="Last message", ordering="last_message_at")
    def last_message(self, row: Conversation) -> str:
        return html.ago(row.last_message_at)

    def detail_context(self, request: HttpRequest, row: Conversation) -> dict[str, Any]:
        rows, first, last = self._page_of(request, row)
        hops = traces([one for one in rows if one.role == Role.USER])
        room = next((one.room for one in row.links.all() if one.room), None)
        refused = (
            list(RefusedEvent.objects.filter(place=room.room_id)[:10]) if room is not None and room.room_id else []
        )
        return {
            "items": [_item(one, hops) for one in rows],
            "participants": list(row.participants.all()),
            "room": room,
            "room_address": client_address(room),
            "earlier": first if first > 1 else 0,
            "later": last + PAGE if last and last < row.next_seq - 1 else 0,
            "refused": refused,
            "count": row.next_seq - 1,
        }

    def _page_of(self, request: HttpRequest, row: Conversation) -> tuple[list[Message], int, int]:
        """One page of messages in order, with the numbers of its first and its last."""
        wanted = request.GET.get("before") or request.GET.get("at", "")
        limit = int(wanted) if wanted.isdigit() and len(wanted) < 10 else row.next_seq
        if "at" in request.GET and "before" not in request.GET:
            # A message in the middle of its page.
            limit += PAGE // 2
        found = (
            Message.objects.filter(conversation=row, seq__lt=limit)
            .select_related("sender")
            .prefetch_related("turns")
            .order_by("-seq")[:PAGE]
        )
        rows = list(found)[::-1]
        return rows, rows[0].seq if rows else 1, rows[-1].seq if rows else 0

    # The test message

    def test_view(self, request: HttpRequest, agent_id: int) -> HttpResponse:
        """GET asks what to say; POST says it and shows what becomes of it."""
        agent = _agent(agent_id)
        if request.method == "POST":
            if not isinstance(request.user, Person):
                raise PermissionDenied
            try:
                sent = test_message_send(
                    agent=agent, text=request.POST.get("text", ""), person=request.user, actor=actor_of(request)
                )
            except CannotSend as error:
                messages.error(request, error.sentence)
            else:
                return HttpResponseRedirect(reverse("admin:chat_test_watch", args=[agent.pk, sent.message.pk]))
        mapping = getattr(agent, "mapping", None)
        return self.page(
            request,
            "switchboard/test_message.html",
            title=f"Test message to {agent}",
            agent=agent,
            in_room=bool(mapping and mapping.room and mapping.room.room_id),
            text=request.POST.get("text", GREETING),
        )

    def watch_view(self, request: HttpRequest, agent_id: int, message_id: int) -> HttpResponse:
        """The page of a test message."""
        agent = _agent(agent_id)
        context = _live(agent, message_id)
        return self.page(request, "switchboard/test_watch.html", title=f"Test message to {agent}", **context)

    def live_view(self, request: HttpRequest, agent_id: int, message_id: int) -> HttpResponse:
        """The part of it that is fetched again until the answer has been delivered."""
        return render(request, "switchboard/test_live.html", _live(_agent(agent_id), message_id))


def _agent(agent_id: int) -> Agent:
    agent = Agent.objects.select_related("service", "mapping__room", "mapping__account").filter(pk=agent_id).first()
    if agent is None:
        raise Http404(f"There is no agent {agent_id}.")
    return agent


def _live(agent: Agent, message_id: int) -> dict[str, Any]:
    message = Message.objects.select_related("conversation").filter(pk=message_id).first()
    if message is None:
        raise Http404(f"There is no message {message_id}.")
    turn = message.turns.filter(agent=agent).select_related("reply").first()
    deliveries = list(turn.deliveries.select_related("room")) if turn else []
    over = turn is None or (
        turn.state not in OPEN_TURN_STATES and all(DELIVERY_LAMPS[one.state] != "working" for one in deliveries)
    )
    return {
        "agent": agent,
        "message": message,
        "turn": turn,
        "hops": trace(message),
        "answer": (turn.reply.text if turn.reply else turn.partial) if turn else "",
        "turn_lamp": TURN_LAMPS[turn.state] if turn else "off",
        "turn_word": turn.get_state_display() if turn else "Not answered",
        "over": over,
        "live": "" if over else reverse("admin:chat_test_live", args=[agent.pk, message.pk]),
    }


def _item(message: Message, hops: dict[int, Any]) -> dict[str, Any]:
    """What the timeline shows of a message."""
    turns = list(message.turns.all())
    return {
        "message": message,
        "is_agent": message.role == Role.ASSISTANT,
        "hops": hops.get(message.pk, []),
        "outcome": _outcome(hops.get(message.pk, [])),
        "turns": turns,
        "where": _WHERE.get(message.transport, message.transport),
        "html": _formatted(message),
        "parts": [
            {"label": _part_label(part), "body": _part_body(part)} for part in message.parts if part["type"] != "text"
        ],
    }


def _outcome(hops: list[Hop]) -> dict[str, Any]:
    """One line for the whole way: where it stopped, or how long it took. Opened where something needs a look."""
    if not hops:
        return {}
    stopped = next((hop for hop in hops if hop.lamp in {"trouble", "working"}), hops[-1])
    times = [hop.at for hop in hops if hop.at]
    whole = (times[-1] - times[0]).total_seconds() * 1000 if stopped.lamp == "good" and len(times) > 1 else None
    return {"lamp": stopped.lamp, "word": stopped.label, "after": whole, "open": stopped.lamp == "trouble"}


_WHERE = {
    "matrix": "from Matrix",
    "api": "through the API or the admin",
    "command": "from the terminal",
    "turn": "",
    "notice": "",
    "portal": "from the portal",
}


def _formatted(message: Message) -> SafeString:
    """An agent's Markdown as the room shows it (sanitised there and here by the same code); people's words stay as they are."""
    if message.role == Role.USER:
        return SafeString("")
    return mark_safe(render_markdown(message.text).formatted_body or "")  # noqa: S308 - sanitised by render


def _part_label(part: dict[str, Any]) -> str:
    kind = part.get("type", "")
    if kind == "reasoning":
        return "Reasoning"
    if kind == "tool_call":
        return f"Tool call: {part.get('name', '')}"
    if kind == "tool_result":
        return f"Tool result: {part.get('name', '')}".rstrip(": ")
    return "Edited: the text before" if kind == "edit" else str(kind).capitalize()


def _part_body(part: dict[str, Any]) -> Any:
    """What is worth reading of a part: its text; all of it when it has none."""
    named = {"reasoning": "text", "tool_call": "arguments", "tool_result": "output", "edit": "before"}
    return part.get(named.get(part.get("type", ""), ""), part)
