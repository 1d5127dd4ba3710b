"""Refused events: what intake did not take, and why."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from unfold.decorators import display

from chat.models import RefusedEvent
from ops import html
from ops.admin.base import OperatorAdmin


@admin.register(RefusedEvent)
class RefusedEventAdmin(OperatorAdmin):
    list_display = ("reason", "sentence", "sender", "place_text", "event", "when")
    list_filter = ("reason", "transport")
    search_fields = ("external_id", "place", "sender")
    search_help_text = "Event id, room id or sender"
    list_display_links = None
    intro = "Events that arrived and became no message, with the reason: the answer to “did it ever arrive?”. Kept for two weeks."
    empty_title = "Nothing was refused"
    empty_text = "An event that arrives and cannot become a message is noted here with the reason."

    @display(description="Room", ordering="place")
    def place_text(self, row: RefusedEvent) -> str:
        return html.copyable(row.place)

    @display(description="Event")
    def event(self, row: RefusedEvent) -> str:
        return html.copyable(row.external_id)

    @display(description="When", ordering="id")
    def when(self, row: RefusedEvent) -> str:
        return html.ago(row.at)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: object = None
    ) -> HttpResponse:
        row = self._row(request, object_id)
        return self.page(
            request,
            "switchboard/message.html",
            title=row.external_id or row.reason,
            row=row,
            sentence=row.sentence or row.reason,
        )
