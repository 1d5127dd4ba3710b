"""A room's state as one value: who is in it, what it is called, who may do what. Pure: made from ``GET /rooms/{id}/state``.

Rules of power are those of the client-server API ("Permissions"): ``users_default`` 0, ``state_default`` 50 (0 without any power levels),
``invite`` 0; from room version 12 on the creators may do everything and stand in no list.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

CREATOR_LEVEL = 2**53
_CREATORS_SINCE = 12


@dataclass(frozen=True, slots=True)
class Member:
    """``membership`` is ``join``, ``invite``, ``leave``, ``ban`` or ``knock``; ``sender`` is who made it so."""

    membership: str
    sender: str
    display_name: str = ""

    @property
    def present(self) -> bool:
        return self.membership in ("join", "invite")


@dataclass(frozen=True, slots=True)
class RoomState:
    """What matters of a room. ``parents`` are the spaces that it names, ``children`` the rooms that it lists (``via`` only).

    ``replaced_by`` is the successor that a tombstone names, ``replaced_ts`` when (ms, 0: unknown). ``single`` is the content of every
    kind of state of which a room has one.
    """

    members: Mapping[str, Member] = field(default_factory=dict)
    name: str = ""
    topic: str = ""
    alias: str = ""
    creators: tuple[str, ...] = ()
    creators_rule: bool = False
    is_space: bool = False
    replaced_by: str = ""
    replaced_ts: int = 0
    predecessor: str = ""
    join_rule: str = "invite"
    power: Mapping[str, Any] | None = None
    parents: frozenset[str] = frozenset()
    children: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    single: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def encrypted(self) -> bool:
        return "m.room.encryption" in self.single

    @property
    def memberships(self) -> dict[str, str]:
        """``{user id: join, invite, leave, ban or knock}``."""
        return {user_id: member.membership for user_id, member in self.members.items()}

    def membership(self, user_id: str) -> str:
        """What the user is to the room, "" when it never heard of them."""
        member = self.members.get(user_id)
        return member.membership if member is not None else ""

    def level_of(self, user_id: str) -> int:
        """The user's power."""
        if self.creators_rule and user_id in self.creators:
            return CREATOR_LEVEL
        if self.power is None:
            return 100 if user_id in self.creators else 0
        users = self.power.get("users")
        own = users.get(user_id) if isinstance(users, Mapping) else None
        return _number(own, _number(self.power.get("users_default"), 0))

    def needed_for(self, event_type: str) -> int:
        """The power that setting this kind of state takes."""
        if self.power is None:
            return 0
        events = self.power.get("events")
        own = events.get(event_type) if isinstance(events, Mapping) else None
        return _number(own, _number(self.power.get("state_default"), 50))

    def needed_to(self, action: str) -> int:
        """The power that ``invite``, ``kick`` or ``ban`` takes."""
        return _number((self.power or {}).get(action), 0 if action == "invite" else 50)

    def strongest(self) -> list[tuple[str, int]]:
        """Who is in the room and has more power than everybody has, the most first."""
        levels = [(user, self.level_of(user)) for user, member in self.members.items() if member.membership == "join"]
        floor = _number((self.power or {}).get("users_default"), 0)
        return sorted(((user, level) for user, level in levels if level > floor), key=lambda one: (-one[1], one[0]))


def room_state(events: Iterable[Mapping[str, Any]]) -> RoomState:
    """Read state events; whatever has another shape than the specification's is passed over."""
    members: dict[str, Member] = {}
    single: dict[str, Mapping[str, Any]] = {}
    senders: dict[str, str] = {}
    times: dict[str, int] = {}
    parents, children = set(), {}
    for event in events:
        kind, key, content = event.get("type"), event.get("state_key"), event.get("content")
        if not isinstance(kind, str) or not isinstance(key, str) or not isinstance(content, dict):
            continue
        sender = _text(event.get("sender"))
        if kind == "m.room.member":
            members[key] = Member(_text(content.get("membership")), sender, _text(content.get("displayname")))
        elif kind == "m.space.child" and content.get("via"):
            children[key] = content
        elif kind == "m.space.parent" and content.get("via"):
            parents.add(key)
        elif key == "":
            single[kind], senders[kind] = content, sender
            times[kind] = _number(event.get("origin_server_ts"), 0)
    create = single.get("m.room.create", {})
    version = _text(create.get("room_version")) or "1"
    more = create.get("additional_creators")
    creator = senders.get("m.room.create") or _text(create.get("creator"))
    predecessor = create.get("predecessor")
    return RoomState(
        members=members,
        name=_text(single.get("m.room.name", {}).get("name")),
        topic=_text(single.get("m.room.topic", {}).get("topic")),
        alias=_text(single.get("m.room.canonical_alias", {}).get("alias")),
        creators=tuple(
            one for one in (creator, *(more if isinstance(more, list) else ())) if isinstance(one, str) and one
        ),
        creators_rule=int(version) >= _CREATORS_SINCE
        if version.isdecimal()
        else version.startswith("org.matrix.hydra"),
        is_space=create.get("type") == "m.space",
        replaced_by=_text(single.get("m.room.tombstone", {}).get("replacement_room")),
        replaced_ts=times.get("m.room.tombstone", 0),
        predecessor=_text(predecessor.get("room_id")) if isinstance(predecessor, dict) else "",
        join_rule=_text(single.get("m.room.join_rules", {}).get("join_rule")) or "invite",
        power=single.get("m.room.power_levels"),
        parents=frozenset(parents),
        children=children,
        single=single,
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _number(value: Any, otherwise: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else otherwise
