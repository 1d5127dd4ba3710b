"""Matrix rooms with who was invited to them."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from unfold.decorators import display

from agents.admin.common import EXPECTED, client_address
from agents.models import Room, RoomKind
from agents.services.invitations import open_pauses
from agents.services.rooms import room_set_quiet
from ops import html
from ops.admin.base import Deed, OperatorAdmin, actor_of

INVITATION_LAMPS = {"pending": "working", "invited": "working", "joined": "good", "left": "off", "failed": "trouble"}


@admin.register(Room)
class RoomAdmin(OperatorAdmin):
    list_display = ("label", "state_lamp", "kind", "room_id_text", "alias_text", "open_room", "last_event")
    list_filter = ("kind", "quiet", "in_space", "encrypted")
    list_select_related = ("mapping__agent",)
    search_fields = ("name", "room_id", "alias", "mapping__agent__name")
    search_help_text = "Name, room id or address"
    detail_template = "switchboard/room.html"
    expected_errors = EXPECTED
    intro = "The rooms in which agents speak, and the space that lists them."
    empty_title = "No room yet"
    empty_text = "A sync makes a room for each agent, and a space that lists them."

    @display(description="Room", ordering="name")
    def label(self, row: Room) -> str:
        return str(row)

    @display(description="State")
    def state_lamp(self, row: Room) -> str:
        return html.lamp(*_state(row))

    @display(description="Room id", ordering="room_id")
    def room_id_text(self, row: Room) -> str:
        return html.copyable(row.room_id)

    @display(description="Address", ordering="alias")
    def alias_text(self, row: Room) -> str:
        return html.copyable(row.alias)

    @display(description="Open")
    def open_room(self, row: Room) -> str:
        address = client_address(row)
        return html.outside(address, "Open") if address else ""

    @display(description="Last event", ordering="last_event_at")
    def last_event(self, row: Room) -> str:
        return html.ago(row.last_event_at)

    def deeds(self) -> tuple[Deed, ...]:
        return (
            Deed(
                "quiet",
                "Quiet room",
                lambda r, o: self.quiet(r, o, True),
                shown=lambda row: row.kind != RoomKind.SPACE and not row.quiet,
            ),
            Deed("unquiet", "End quiet", lambda r, o: self.quiet(r, o, False), shown=lambda row: row.quiet),
        )

    def quiet(self, request: HttpRequest, row: Room, quiet: bool) -> str:
        room_set_quiet(room=row, quiet=quiet, actor=actor_of(request))
        return "The agent answers only when it is mentioned." if quiet else "The agent answers everything."

    def detail_context(self, request: HttpRequest, row: Room) -> dict[str, Any]:
        lamp, word = _state(row)
        mapping = getattr(row, "mapping", None)
        return {
            "lamp_state": lamp,
            "word": word,
            "agent": mapping.agent if mapping else None,
            "room_address": client_address(row),
            "invitations": [(one, INVITATION_LAMPS[one.state]) for one in row.invitations.order_by("user_id")[:200]],
            "pauses": list(open_pauses().filter(homeserver=row.homeserver)[:50]),
        }


def _state(row: Room) -> tuple[str, str]:
    if not row.room_id:
        return "working", "Not made yet"
    if row.quiet:
        return "off", "Quiet"
    return ("good", "In use") if row.in_space or row.kind != RoomKind.AGENT else ("attention", "Not in the space")
