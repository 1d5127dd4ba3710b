"""Conversations: what was said, and where it stopped. Also the test message, a real round trip that can be watched."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Exists, OuterRef, Prefetch
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.shortcuts import render
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString, mark_safe
from unfold.decorators import display

from agents.admin.common import client_address
from agents.matrix.markdown import render as render_markdown
from agents.models import Agent
from chat.admin.common import DELIVERY_LAMPS, TURN_LAMPS
from chat.admin.looking import ReasonForm
from chat.admin.silent import silent_live_view, silent_view
from chat.models import (
    OPEN_TURN_STATES,
    Conversation,
    Link,
    Membership,
    Message,
    Participant,
    Person,
    RefusedEvent,
    Role,
    Turn,
    TurnState,
)
from chat.queries import Hop, trace, traces
from chat.services.approvals import approval_decide
from chat.services.branches import path as branch_path
from chat.services.branches import siblings
from chat.services.holds import conversation_hold, conversation_release
from chat.services.messages import CannotSend
from chat.services.probes import test_message_send
from chat.services.turns import WrongState
from chat.turns.waiting import pending
from ops import html
from ops.admin.base import Deed, OperatorAdmin, actor_of

PAGE = 40
GREETING = "This is a test from the operator. Please answer with one short sentence."


class PlaceFilter(admin.SimpleListFilter):
    """Of the portal, of rooms, and held."""

    title = "place"
    parameter_name = "place"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("portal", "Portal"), ("room", "Matrix room"), ("held", "Legal hold")]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        if self.value() == "portal":
            return queryset.filter(portal=True)
        if self.value() == "room":
            return queryset.filter(Exists(Link.objects.filter(conversation=OuterRef("pk"), room__isnull=False)))
        return queryset.exclude(hold="") if self.value() == "held" else queryset


class PersonFilter(admin.SimpleListFilter):
    """Those of one person, whose page leads here; offered only then."""

    title = "person"
    parameter_name = "person"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        key = request.GET.get("person", "")
        person = Person.objects.filter(pk=int(key)).first() if key.isdigit() and len(key) < 18 else None
        return [(key, str(person))] if person is not None else []

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        if not self.value():
            return queryset
        return queryset.filter(Exists(Membership.objects.filter(conversation=OuterRef("pk"), person=int(self.value()))))  # type: ignore[arg-type]


@admin.register(Conversation)
class ConversationAdmin(OperatorAdmin):
    list_display = ("title_text", "who", "messages_count", "open_room", "last_message")
    search_fields = ("title", "participants__name", "participants__external_id", "links__room__room_id")
    search_help_text = "Title, participant, Matrix id or room id"
    list_filter = (PlaceFilter, PersonFilter)
    ordering = ("-last_message_at", "-id")
    detail_template = "switchboard/conversation.html"
    expected_errors = (ValidationError, WrongState)
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
            path("<int:object_id>/approve/", wrap(self.approve_view), name="chat_conversation_approve"),
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
        return html.outside(address, "Open") if address else "Portal" if row.portal else "API"

    @display(description="Last message", ordering="last_message_at")
    def last_message(self, row: Conversation) -> str:
        return html.ago(row.last_message_at)

    def deeds(self) -> tuple[Deed, ...]:
        return (
            Deed("hold", "Hold", self.hold, shown=lambda row: not row.hold, button="Legal hold…", form=lambda data, row: ReasonForm(data),
                 explain=lambda row: "Nothing of it is removed, neither for its age nor with its people, until you release it."),
            Deed("release", "Release", self.release, shown=lambda row: bool(row.hold), button="Release the hold…",
                 explain=lambda row: f"It is held: {row.hold}. Afterwards the rules of retention apply to it again."),
        )  # fmt: skip

    def hold(self, request: HttpRequest, row: Conversation, asked: dict[str, Any]) -> str:
        conversation_hold(conversation=row, reason=asked["reason"], actor=actor_of(request))
        return f"{row} is held."

    def release(self, request: HttpRequest, row: Conversation) -> str:
        conversation_release(conversation=row, actor=actor_of(request))
        return f"{row} is no longer held."

    def approve_view(self, request: HttpRequest, object_id: int) -> HttpResponse:
        """Allow or refuse a call that an agent waits for."""
        row: Conversation = self._row(request, str(object_id))
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        key = request.POST.get("turn", "")
        turn = Turn.objects.filter(conversation=row, pk=int(key)).first() if key.isdigit() else None
        if turn is None:
            raise Http404("There is no such turn here.")
        allow = request.POST.get("do") == "approve"
        try:
            approval_decide(
                turn=turn,
                call_id=request.POST.get("call", ""),
                approve=allow,
                reason=request.POST.get("reason", "")[:500],
                actor=actor_of(request),
            )
        except WrongState as error:
            messages.error(request, error.sentence)
        else:
            messages.success(request, "The call is allowed." if allow else "The call is refused.")
        return HttpResponseRedirect(self.address_of(row))

    def detail_context(self, request: HttpRequest, row: Conversation) -> dict[str, Any]:
        rows, first, last = self._page_of(request, row)
        shown = set(branch_path(row)) if row.portal and row.head_id else set()
        beside = siblings(row.pk, [one.pk for one in rows]) if row.portal else {}
        hops = traces([one for one in rows if one.role == Role.USER])
        room = next((one.room for one in row.links.all() if one.room), None)
        refused = (
            list(RefusedEvent.objects.filter(place=room.room_id)[:10]) if room is not None and room.room_id else []
        )
        return {
            "items": [_item(one, hops, shown, beside.get(one.pk, [])) for one in rows],
            "members": list(row.memberships.select_related("person").order_by("pk")[:50]) if row.portal else [],
            "waiting": [
                {"turn": turn, "calls": pending(turn)}
                for turn in Turn.objects.filter(conversation=row, state=TurnState.WAITING_APPROVAL).select_related(
                    "agent"
                )[:20]
            ],
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
            .prefetch_related("turns", "attachments")
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


def _item(message: Message, hops: dict[int, Any], shown: set[int], beside: list[int]) -> dict[str, Any]:
    """What the timeline shows of a message. ``aside``: it stands in a branch that is not shown; ``variant``: which of how many."""
    turns = list(message.turns.all())
    return {
        "aside": bool(shown) and message.pk not in shown,
        "variant": f"‹{beside.index(message.pk) + 1}/{len(beside)}›"
        if len(beside) > 1 and message.pk in beside
        else "",
        "files": list(message.attachments.all()),
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
