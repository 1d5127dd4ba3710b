"""Turns: one agent's answer to one message."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.urls import URLPattern, path, reverse
from unfold.decorators import display

from chat.admin.common import DELIVERY_LAMPS, EXPECTED, TURN_LAMPS, took
from chat.admin.dead_letters import dead_letters_view
from chat.models import OPEN_TURN_STATES, Turn
from chat.queries import trace
from chat.services.turns import FAILED_STATES, turn_cancel, turn_discard, turn_retry
from ops import html
from ops.admin.base import Deed, OperatorAdmin, actor_of


@admin.register(Turn)
class TurnAdmin(OperatorAdmin):
    list_display = ("number", "state_lamp", "agent_link", "question", "asked", "took_text", "error_code")
    list_filter = ("state", "agent__service")
    list_select_related = ("agent", "message", "conversation")
    search_fields = ("agent__name", "error_code", "upstream_ref")
    search_help_text = "Agent, error code or the server's run id"
    detail_template = "switchboard/turn.html"
    expected_errors = EXPECTED
    intro = (
        "Answers, the newest first: which are waiting, which are under way, how long they took, and why they failed."
    )
    empty_title = "No turn yet"
    empty_text = "As soon as somebody writes to an agent, its answer appears here."

    @display(description="Turn", ordering="id")
    def number(self, row: Turn) -> str:
        return f"Turn {row.pk}"

    @display(description="State", ordering="state")
    def state_lamp(self, row: Turn) -> str:
        return html.lamp(TURN_LAMPS[row.state], row.get_state_display())

    @display(description="Agent")
    def agent_link(self, row: Turn) -> str:
        return html.link(reverse("admin:agents_agent_change", args=[row.agent_id]), row.agent)

    @display(description="Answers")
    def question(self, row: Turn) -> str:
        return row.message.text[:80]

    @display(description="Asked", ordering="id")
    def asked(self, row: Turn) -> str:
        return html.ago(row.created_at)

    @display(description="Took")
    def took_text(self, row: Turn) -> str:
        return html.duration(took(row))

    def get_urls(self) -> list[URLPattern]:
        own = [path("dead/", self.admin_site.admin_view(dead_letters_view), name="dead_letters")]
        return [*own, *super().get_urls()]

    def deeds(self) -> tuple[Deed, ...]:
        return (
            Deed("retry", "Try again", self.retry, primary=True, shown=lambda row: row.state in FAILED_STATES),
            Deed(
                "cancel",
                "Stop",
                self.cancel,
                shown=lambda row: row.state in OPEN_TURN_STATES and not row.stop_requested_by,
            ),
            Deed(
                "discard",
                "Discard",
                self.discard,
                explain=lambda row: (
                    "The message is not answered and leaves the dead letters. It stays in the conversation, with a note of who "
                    "decided so. This cannot be undone."
                ),
                danger=True,
                shown=lambda row: row.state in FAILED_STATES,
            ),
        )

    def retry(self, request: HttpRequest, row: Turn) -> str:
        turn_retry(turn=row, actor=actor_of(request))
        return "The message is given to the agent again."

    def cancel(self, request: HttpRequest, row: Turn) -> str:
        turn_cancel(turn=row, actor=actor_of(request))
        return "The turn is stopped; what was said so far is kept."

    def discard(self, request: HttpRequest, row: Turn) -> str:
        turn_discard(turn=row, actor=actor_of(request))
        return "The turn is discarded."

    def detail_context(self, request: HttpRequest, row: Turn) -> dict[str, Any]:
        deliveries = row.deliveries.select_related("room").order_by("id")
        return {
            "lamp_state": TURN_LAMPS[row.state],
            "hops": trace(row.message),
            "took": took(row),
            "deliveries": [(one, html.lamp(DELIVERY_LAMPS[one.state], one.get_state_display())) for one in deliveries],
        }
