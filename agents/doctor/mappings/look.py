"""What the homeserver says of an agent's rooms, and which of them is the one that its mapping should name."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from agents.doctor.mappings.sweep import Row
from agents.matrix.client import AppserviceClient
from agents.matrix.errors import Forbidden, NotFound, Refused, TokenRefused
from agents.matrix.room_state import room_state
from agents.models import Room
from agents.services.backends import Homeserver
from agents.sync.look import is_ours, made_for

ACTIVITY_EVENTS = 30


@dataclass(frozen=True, slots=True)
class Seen:
    """``joined``: the rooms that the account is in, ``None`` when the homeserver does not know it; ``alias_room``: where the
    agent's address leads, "" for nowhere."""

    joined: frozenset[str] | None
    alias_room: str


@dataclass(frozen=True, slots=True)
class OwnRoom:
    """A room of the agent's own. ``active_at`` is when a person last spoke there (ms, 0 for never), ``people`` who is in it."""

    room_id: str
    active_at: int
    messages: int
    people: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON shape: ``{room_id, last_words_ms, messages, people}`` (messages: of the newest events)."""
        return {
            "room_id": self.room_id,
            "last_words_ms": self.active_at,
            "messages": self.messages,
            "people": len(self.people),
        }


def look(client: AppserviceClient, row: Row) -> Seen:
    """Two requests. Raises ``MatrixError`` when the homeserver does not answer or refuses our token."""
    try:
        joined = frozenset(client.joined_rooms(row.user_id))
    except Refused as error:
        if isinstance(error, TokenRefused) or not isinstance(error, (Forbidden, NotFound)):
            raise
        return Seen(None, "")
    return Seen(joined, (client.resolve_alias(row.alias) or "") if row.alias else "")


def drift(row: Row, seen: Seen) -> str:
    """What does not agree, as a word; "" when stored room, address and membership are one."""
    if seen.joined is None:
        return ""
    if row.room_id not in seen.joined:
        return "not_in_room"
    if row.alias and not seen.alias_room:
        return "address_gone"
    if row.alias and seen.alias_room != row.room_id:
        return "address_elsewhere"
    return ""


def other_rooms(joined: Collection[str], stored: str) -> list[str]:
    """Joined rooms that none of our rows names: not the stored one, no chat that a person opened, no other agent's, no space."""
    left = sorted(set(joined) - {stored})
    known = set(Room.objects.filter(room_id__in=left, mapping__isnull=False).values_list("room_id", flat=True))
    known |= set(Room.objects.filter(room_id__in=left).exclude(kind="agent").values_list("room_id", flat=True))
    return [room_id for room_id in left if room_id not in known]


def own_rooms(homeserver: Homeserver, user_id: str, name: str, room_ids: Collection[str]) -> list[OwnRoom]:
    """Those of these rooms that were made for the agent and are still in use, the one with the latest words first.

    Made for it: its creator is an account of ours, or it bears the agent's name. A room with a tombstone has a successor and
    is none.
    """
    found = []
    for room_id in room_ids:
        state = homeserver.client.full_state(room_id, user_id)
        if made_for(homeserver, room_state(state), name):
            found.append(_describe(homeserver, user_id, room_id, state))
    return sorted(found, key=lambda room: (-room.active_at, -len(room.people), room.room_id))


def describe_room(homeserver: Homeserver, user_id: str, room_id: str) -> OwnRoom:
    """One room that the account is in, with who is there and when somebody last spoke."""
    return _describe(homeserver, user_id, room_id, homeserver.client.full_state(room_id, user_id))


def _describe(homeserver: Homeserver, user_id: str, room_id: str, state: list[dict[str, Any]]) -> OwnRoom:
    people = tuple(
        sorted(
            str(event["state_key"])
            for event in state
            if event.get("type") == "m.room.member"
            and isinstance(event.get("content"), dict)
            and event["content"].get("membership") in ("join", "invite")
            and not is_ours(homeserver, str(event.get("state_key") or ""))
        )
    )
    page = homeserver.client.messages(room_id, user_id=user_id, direction="b", limit=ACTIVITY_EVENTS)
    spoken = [
        event
        for event in page.chunk
        if event.get("type") in ("m.room.message", "m.room.encrypted")
        and not is_ours(homeserver, str(event.get("sender") or ""))
    ]
    times = [ts for event in spoken if isinstance(ts := event.get("origin_server_ts"), int)]
    return OwnRoom(room_id, max(times, default=0), len(spoken), people)
