"""What a homeserver shows of accounts of ours and of the rooms that they are in. Needs no database."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from agents.matrix.errors import Forbidden, MatrixError, NotFound, Refused
from agents.matrix.room_state import room_state
from agents.services.backends import Homeserver
from agents.sync.takeover import MARK

# Rooms that one account is in; an agent in more of them is looked at as far as this.
MOST_ROOMS = 200


@dataclass(frozen=True, slots=True)
class SeenRoom:
    """A room's state, as far as it matters. ``mark`` is ``{service, agent, account}`` or empty, ``members`` all memberships."""

    room_id: str
    creator: str
    kind: str
    name: str
    topic: str
    alias: str
    encrypted: bool
    replaced_by: str
    predecessor: str
    mark: Mapping[str, str]
    members: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SeenAccount:
    """An account with its rooms. ``by_alias`` is where the address of the account's name leads, "" for nowhere."""

    user_id: str
    display_name: str
    avatar_mxc: str
    by_alias: str
    rooms: tuple[SeenRoom, ...]


def mark_of(content: Any) -> dict[str, str]:
    if not isinstance(content, dict):
        return {}
    mark = {key: content[key] for key in ("service", "agent", "account") if isinstance(content.get(key), str)}
    return mark if mark.get("service") and mark.get("agent") else {}


def look_at(homeserver: Homeserver, account: str) -> SeenAccount | None:
    """An account and the rooms that it is in; ``None`` when the homeserver does not have it. Needs no database."""
    client = homeserver.client
    try:
        joined = client.joined_rooms(account)
    except Refused as error:
        if error.general:
            raise
        return None
    rooms = []
    for room_id in sorted(joined)[:MOST_ROOMS]:
        try:
            rooms.append(read_room(room_id, client.full_state(room_id, account)))
        except (Forbidden, NotFound):
            continue
    profile = client.get_profile(account)
    try:
        by_alias = client.resolve_alias("#" + account[1:]) or ""
    except MatrixError as error:
        if error.general:
            raise
        by_alias = ""
    return SeenAccount(account, profile.display_name, profile.avatar_url, by_alias, tuple(rooms))


def look_through(
    homeserver: Homeserver,
    accounts: Iterable[str],
    progress: Callable[[int, int, str], None] = lambda done, total, text: None,
) -> dict[str, SeenAccount]:
    """As ``look_at`` for accounts whose sessions are lost: what Switchboard's own account sees of them in the rooms that it is in."""
    client, wanted = homeserver.client, set(accounts)
    joined = client.joined_rooms(homeserver.sender_id)
    rooms: dict[str, list[SeenRoom]] = defaultdict(list)
    for number, room_id in enumerate(joined, start=1):
        room = read_room(room_id, client.full_state(room_id, homeserver.sender_id))
        for member, membership in room.members.items():
            if membership == "join" and member in wanted:
                rooms[member].append(room)
        progress(number, len(joined), room.name or room_id)
    seen = {}
    for account, own in rooms.items():
        profile = client.get_profile(account)
        by_alias = client.resolve_alias("#" + account[1:]) or ""
        seen[account] = SeenAccount(account, profile.display_name, profile.avatar_url, by_alias, tuple(own))
    return seen


def read_room(room_id: str, events: Iterable[Mapping[str, Any]]) -> SeenRoom:
    """What matters of a room's state events."""
    state = room_state(events)
    return SeenRoom(
        room_id,
        state.creators[0] if state.creators else "",
        "m.space" if state.is_space else "",
        state.name,
        state.topic,
        state.alias,
        state.encrypted,
        state.replaced_by,
        state.predecessor,
        mark_of(state.single.get(MARK)),
        state.memberships,
    )
