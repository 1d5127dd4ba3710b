"""The rooms that we know, with what intake needs of them, and the one that sync is just about to write down."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from django.db.models import Prefetch

from agents.models import Mapping, Room, RoomKind
from chat.matrix import state_events
from ops.models import Service
from ops.prepared import PreparedRead

# Seconds; sync needs milliseconds from the homeserver's answer to its row.
WAIT_FOR_NEW_ROOM = 1.0


# So many rooms of a push are read one by one, with reads that are composed already; more of them in one go.
FEW_ROOMS = 4


def known_rooms(by_room: dict[str, list[dict[str, Any]]], homeserver: Service) -> dict[str, Room]:
    """The rooms we know, with what intake needs of them, in two small joins (see ``chat.turns.claim.load``)."""
    if len(by_room) <= FEW_ROOMS:
        rooms = {}
        for room_id in by_room:
            room = _room.first(homeserver.pk, room_id)
            if room is not None:
                mapping = _mapping.first(room.pk)
                Room._meta.get_field("mapping").set_cached_value(room, mapping)
                if mapping is not None:
                    mapping.room = room
                room.homeserver = homeserver
                rooms[room_id] = room
        return rooms
    mappings = Mapping.objects.select_related("agent__service", "account")
    found = (
        Room.objects.filter(homeserver=homeserver, room_id__in=list(by_room))
        .select_related("link__conversation")
        .prefetch_related(Prefetch("mapping", queryset=mappings))
    )
    rooms = {room.room_id: room for room in found if room.room_id}
    for room in rooms.values():
        room.homeserver = homeserver
    return rooms


_room = PreparedRead(
    lambda homeserver_id, room_id: Room.objects.filter(homeserver_id=homeserver_id, room_id=room_id).select_related(
        "link__conversation"
    ),
    1,
    "!room",
)


_mapping = PreparedRead(
    lambda room_pk: Mapping.objects.filter(room_id=room_pk).select_related("agent__service", "account"), 1
)


def room_being_made(room_id: str, events: Sequence[dict[str, Any]], homeserver: Service) -> Room | None:
    """Somebody may speak in a new room before sync has written down its id: wait a moment for that, and only then."""
    if all(isinstance(event.get("state_key"), str) for event in events):
        return None
    until = time.monotonic() + WAIT_FOR_NEW_ROOM
    while time.monotonic() < until:
        if not Room.objects.filter(homeserver=homeserver, kind=RoomKind.AGENT, room_id__isnull=True).exists():
            break
        time.sleep(0.02)
        if found := known_rooms({room_id: []}, homeserver):
            return found[room_id]
    return known_rooms({room_id: []}, homeserver).get(room_id)


def agent_of(room: Room) -> Any:
    """Whose room it is; ``None``: nobody's."""
    mapping = getattr(room, "mapping", None)
    if mapping is not None:
        return mapping.agent
    return state_events.agent_of_direct_room(room)
