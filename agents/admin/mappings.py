"""Mappings: an agent with its account and its room."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from unfold.decorators import display

from agents.admin.common import MAPPING_WORDS, client_address
from agents.admin.drift import drift_word, open_drift
from agents.admin.filters import DriftFilter, MappingConnectionFilter
from agents.models import Mapping
from ops import html
from ops.admin.base import OperatorAdmin


@admin.register(Mapping)
class MappingAdmin(OperatorAdmin):
    list_display = ("agent", "state_lamp", "drift", "account_id_text", "room_id_text", "open_room", "problem")
    list_filter = (MappingConnectionFilter, DriftFilter, ("agent__service", admin.RelatedOnlyFieldListFilter))
    list_select_related = ("agent__service", "account", "room")
    search_fields = ("agent__name", "agent__external_id", "account__user_id", "room__room_id", "room__alias")
    search_help_text = "Agent, Matrix id, room id or address"
    intro = (
        "Who is connected to whom: an agent, the account it speaks as, and the room it speaks in. What fails says why."
    )
    empty_title = "No mapping yet"
    empty_text = "A sync reserves an account and a room for each agent as soon as a homeserver is set up."

    @display(description="State")
    def state_lamp(self, row: Mapping) -> str:
        return html.lamp(*MAPPING_WORDS[row.status])

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).prefetch_related(open_drift())

    @display(description="Drift")
    def drift(self, row: Mapping) -> str:
        return drift_word(row)

    @display(description="Account", ordering="account__user_id")
    def account_id_text(self, row: Mapping) -> str:
        return html.copyable(row.account.user_id)

    @display(description="Room", ordering="room__room_id")
    def room_id_text(self, row: Mapping) -> str:
        return html.copyable(row.room.room_id if row.room else "")

    @display(description="Open")
    def open_room(self, row: Mapping) -> str:
        address = client_address(row.room)
        return html.outside(address, "Open") if address else ""

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: object = None
    ) -> HttpResponse:
        """A mapping's page is its agent's."""
        row = self._row(request, object_id)
        return HttpResponseRedirect(reverse("admin:agents_agent_change", args=[row.agent_id]))
