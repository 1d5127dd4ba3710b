"""Deliveries: one message to be shown in one place."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from unfold.decorators import display

from chat.admin.common import DELIVERY_LAMPS, EXPECTED
from chat.models import Delivery, DeliveryState
from chat.services.deliveries import delivery_discard, delivery_retry
from ops import html
from ops.admin.base import Deed, OperatorAdmin, actor_of


@admin.register(Delivery)
class DeliveryAdmin(OperatorAdmin):
    list_display = ("number", "state_lamp", "to", "what", "attempts", "made", "sent", "error_code")
    list_filter = ("state", "target", "notice")
    list_select_related = ("room", "message")
    search_fields = ("room__name", "room__room_id", "error_code")
    search_help_text = "Room or error code"
    detail_template = "switchboard/delivery.html"
    expected_errors = EXPECTED
    intro = "What is on its way to rooms. A delivery is tried again for hours before it becomes a dead letter."
    empty_title = "No delivery yet"
    empty_text = "As soon as an agent answers in a room, its answer appears here on its way."

    @display(description="Delivery", ordering="id")
    def number(self, row: Delivery) -> str:
        return f"Delivery {row.pk}"

    @display(description="State", ordering="state")
    def state_lamp(self, row: Delivery) -> str:
        return html.lamp(DELIVERY_LAMPS[row.state], row.get_state_display())

    @display(description="To")
    def to(self, row: Delivery) -> str:
        return str(row.room or row.target)

    @display(description="What")
    def what(self, row: Delivery) -> str:
        return row.message.text[:80] if row.message else ""

    @display(description="Made", ordering="id")
    def made(self, row: Delivery) -> str:
        return html.ago(row.created_at)

    @display(description="Delivered")
    def sent(self, row: Delivery) -> str:
        return html.ago(row.sent_at, "not yet")

    def deeds(self) -> tuple[Deed, ...]:
        return (
            Deed("retry", "Send again", self.retry, primary=True, shown=_is_dead),
            Deed(
                "discard",
                "Discard",
                self.discard,
                explain=lambda row: (
                    f"The message is not shown in {row.room or row.target}. It stays in the conversation here. This cannot be undone."
                ),
                danger=True,
                shown=_is_dead,
            ),
        )

    def retry(self, request: HttpRequest, row: Delivery) -> str:
        delivery_retry(delivery=row, actor=actor_of(request))
        return "It is sent again; what did arrive is not shown twice."

    def discard(self, request: HttpRequest, row: Delivery) -> str:
        delivery_discard(delivery=row, actor=actor_of(request))
        return "The delivery is discarded."

    def detail_context(self, request: HttpRequest, row: Delivery) -> dict[str, Any]:
        return {"lamp_state": DELIVERY_LAMPS[row.state]}


def _is_dead(row: Delivery) -> bool:
    return row.state == DeliveryState.DEAD
