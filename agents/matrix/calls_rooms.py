"""Rooms: creation and adoption, aliases, membership, state, and the space that lists them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal
from urllib.parse import quote

from agents.matrix.calls import V3, dicts, dumps, room_path, strings
from agents.matrix.calls_accounts import AccountCalls
from agents.matrix.errors import Forbidden, NotFound, Taken
from agents.matrix.nio_api import Api
from agents.matrix.transport import quote_part

Preset = Literal["private_chat", "trusted_private_chat", "public_chat"]
_CREATORS_SINCE = 12


class RoomCalls(AccountCalls):
    """The part of :class:`~agents.matrix.client.AppserviceClient` that deals with rooms and spaces."""

    _default_room_version = ""

    def create_room(
        self,
        *,
        user_id: str | None,
        name: str,
        alias_localpart: str | None = None,
        topic: str = "",
        invite: Iterable[str] = (),
        preset: Preset = "trusted_private_chat",
        is_space: bool = False,
        initial_state: Iterable[Mapping[str, Any]] = (),
        power_levels: Mapping[str, Any] | None = None,
        room_version: str | None = None,
        is_direct: bool = False,
        creation_content: Mapping[str, Any] | None = None,
    ) -> str:
        """Create a room or a space and return its id (opaque: room version 12 has no server part).

        ``power_levels`` overrides what the preset sets. Its ``users`` are made to fit the room version: up to version 11 the
        creator is added with 100 (or would lock himself out), from version 12 on creators must not be listed and are removed.
        Raises :class:`~agents.matrix.errors.Taken` when the alias exists; see :meth:`create_or_adopt_room`.
        """
        invitees = [one for one in invite if one != (user_id or self.sender)]
        body: dict[str, Any] = {"visibility": "private", "preset": preset, "name": name, "is_direct": is_direct}
        creation = dict(creation_content or {})
        if is_space:
            creation["type"] = "m.space"
        for key, value in (
            ("topic", topic),
            ("room_alias_name", alias_localpart),
            ("invite", invitees),
            ("initial_state", [dict(state) for state in initial_state]),
            ("creation_content", creation),
            ("room_version", room_version),
        ):
            if value:
                body[key] = value
        if power_levels is not None:
            privileged = invitees if preset == "trusted_private_chat" else []
            body["power_level_content_override"] = self._fitting_levels(
                power_levels,
                user_id or self.sender,
                [*privileged, *strings(creation.get("additional_creators"))],
                room_version,
            )
        action = f"create the {'space' if is_space else 'room'} “{name}”"
        data = self.call(
            "POST", f"{V3}/createRoom", dumps(body), speaker=self._as(user_id), action=action, timeout=self.timeout * 2
        )
        return self._text(data, "room_id", action)

    def create_or_adopt_room(self, *, alias_localpart: str, user_id: str | None, **options: Any) -> tuple[str, bool]:
        """Create the room, or find the one that has the alias already. Returns the room id and whether it was created.

        ``options`` are those of :meth:`create_room`. An adopted room is joined (which does nothing when we are in it).
        """
        try:
            return self.create_room(alias_localpart=alias_localpart, user_id=user_id, **options), True
        except Taken:
            found = self.resolve_alias(f"#{alias_localpart}:{self.server_name}")
            if found is None:
                raise
        self.join(found, user_id)
        return found, False

    def _fitting_levels(
        self, levels: Mapping[str, Any], creator: str, creators: Sequence[str], version: str | None
    ) -> dict[str, Any]:
        fitting = dict(levels)
        users = fitting.get("users")
        if not isinstance(users, Mapping):
            return fitting
        if self._creators_are_implied(version or self.default_room_version()):
            fitting["users"] = {one: level for one, level in users.items() if one != creator and one not in creators}
        else:
            fitting["users"] = {creator: 100, **users}
        return fitting

    @staticmethod
    def _creators_are_implied(version: str) -> bool:
        return int(version) >= _CREATORS_SINCE if version.isdecimal() else version.startswith("org.matrix.hydra")

    def default_room_version(self) -> str:
        """The version that the homeserver gives to new rooms; asked once."""
        if not self._default_room_version:
            versions = self.capabilities().get("m.room_versions")
            default = versions.get("default") if isinstance(versions, dict) else None
            # The specification's meaning of a missing capability is version 1.
            self._default_room_version = default if isinstance(default, str) and default else "1"
        return self._default_room_version

    # Aliases

    def resolve_alias(self, alias: str) -> str | None:
        """The room id of ``#alias:server``, or ``None``."""
        action = f"look up {alias}"
        try:
            return self._text(
                self.call(*Api.room_resolve_alias(alias), speaker=self._as(None), action=action), "room_id", action
            )
        except NotFound:
            return None

    def put_alias(self, alias: str, room_id: str, user_id: str | None = None) -> None:
        """Point an alias at a room. Does nothing when it points there; raises ``Taken`` when it points elsewhere."""
        method, path, body = Api.room_put_alias("", alias, room_id)
        try:
            self.call(method, path, body, speaker=self._as(user_id), action=f"set the alias {alias}")
        except Taken:
            if self.resolve_alias(alias) != room_id:
                raise

    def delete_alias(self, alias: str, user_id: str | None = None) -> None:
        """Remove an alias; does nothing when there is none."""
        method, path = Api.room_delete_alias("", alias)
        try:
            self.call(method, path, speaker=self._as(user_id), action=f"delete the alias {alias}")
        except NotFound:
            return

    def set_canonical_alias(self, room_id: str, alias: str, user_id: str | None = None) -> None:
        """Show ``alias`` as the room's main address (it must point there already)."""
        self.put_state(room_id, "m.room.canonical_alias", "", {"alias": alias}, user_id)

    # Membership

    def join(self, room: str, user_id: str | None, *, via: Sequence[str] = ()) -> str:
        """Join a room by id or alias and return its id. Joining twice does nothing."""
        action = f"join {room}"
        data = self.call(
            "POST",
            f"{V3}/join/{quote_part(room)}",
            "{}",
            query="&".join(f"via={quote(server, safe='')}" for server in via),
            speaker=self._as(user_id),
            action=action,
            timeout=self.timeout * 2,
        )
        return self._text(data, "room_id", action)

    def invite(self, room_id: str, target: str, user_id: str | None) -> bool:
        """Invite ``target``; inviting twice does nothing. ``False``: they are in the room already."""
        method, path, body = Api.room_invite("", room_id, target)
        try:
            self.call(method, path, body, speaker=self._as(user_id), action=f"invite {target}")
        except Forbidden:
            # Servers say "already in the room" in words only, so the state is asked.
            member = self.get_state(room_id, "m.room.member", target, user_id)
            if member is None or member.get("membership") not in {"join", "invite"}:
                raise
            return False
        return True

    def leave(self, room_id: str, user_id: str | None, reason: str = "") -> None:
        """Leave a room, or reject its invitation."""
        body = dumps({"reason": reason} if reason else {})
        self.call("POST", room_path(room_id, "leave"), body, speaker=self._as(user_id), action="leave the room")

    def kick(self, room_id: str, target: str, user_id: str | None, reason: str = "") -> None:
        """Remove ``target`` from the room, or withdraw the invitation."""
        method, path, body = Api.room_kick("", room_id, target, reason or None)
        self.call(method, path, body, speaker=self._as(user_id), action=f"remove {target} from the room")

    def ban(self, room_id: str, target: str, user_id: str | None, reason: str = "") -> None:
        """Keep ``target`` out of the room until somebody lifts that."""
        method, path, body = Api.room_ban("", room_id, target, reason or None)
        self.call(method, path, body, speaker=self._as(user_id), action=f"ban {target} from the room")

    def unban(self, room_id: str, target: str, user_id: str | None) -> None:
        """Lift a ban; the user may be invited again."""
        method, path, body = Api.room_unban("", room_id, target)
        self.call(method, path, body, speaker=self._as(user_id), action=f"lift the ban of {target}")

    def joined_members(self, room_id: str, user_id: str | None) -> set[str]:
        """The user ids that are in the room now."""
        method, path = Api.joined_members("", room_id)
        joined = self.call(method, path, speaker=self._as(user_id), action="list the room's members").get("joined")
        return set(joined) if isinstance(joined, dict) else set()

    def members(self, room_id: str, user_id: str | None) -> dict[str, str]:
        """Every user id the room knows, with ``join``, ``invite``, ``leave``, ``ban`` or ``knock``."""
        data = self.call(
            "GET", room_path(room_id, "members"), speaker=self._as(user_id), action="list the room's members"
        )
        found: dict[str, str] = {}
        for event in dicts(data.get("chunk")):
            who, content = event.get("state_key"), event.get("content")
            if isinstance(who, str) and isinstance(content, dict) and isinstance(content.get("membership"), str):
                found[who] = content["membership"]
        return found

    def joined_rooms(self, user_id: str | None) -> list[str]:
        """The ids of all rooms that the account is in."""
        method, path = Api.joined_rooms("")
        return strings(self.call(method, path, speaker=self._as(user_id), action="list its rooms").get("joined_rooms"))

    # State

    def get_state(
        self, room_id: str, event_type: str, key: str = "", user_id: str | None = None
    ) -> dict[str, Any] | None:
        """The content of one piece of state, or ``None`` when it was never set."""
        method, path = Api.room_get_state_event("", room_id, event_type, key)
        try:
            return self.call(method, path, speaker=self._as(user_id), action=f"read {event_type}")
        except NotFound:
            return None

    def full_state(self, room_id: str, user_id: str | None) -> list[dict[str, Any]]:
        """Every state event of the room."""
        method, path = Api.room_get_state("", room_id)
        action = "read the room's state"
        data = self.call_any(method, path, speaker=self._as(user_id), action=action)
        if not isinstance(data, list):
            raise self.not_matrix(action)
        return dicts(data)

    def put_state(
        self,
        room_id: str,
        event_type: str,
        key: str,
        content: Mapping[str, Any],
        user_id: str | None,
        *,
        ts: int | None = None,
    ) -> str:
        """Set one piece of state and return the event id. The same content again makes no new event."""
        action = f"set {event_type}"
        method, path, body = Api.room_put_state("", room_id, event_type, dict(content), key)
        return self._text(
            self.call(method, path, body, speaker=self._as(user_id, ts=ts), action=action), "event_id", action
        )


class SpaceCalls(RoomCalls):
    """The space that lists the agents' rooms (``m.space.child`` and ``m.space.parent``)."""

    def add_to_space(
        self,
        space_id: str,
        room_id: str,
        *,
        user_id: str | None,
        order: str = "",
        suggested: bool = True,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        """List the room in the space. ``order`` sorts (cut to the 50 printable ASCII characters that the specification allows).

        ``extra`` adds keys of our own to the entry.
        """
        content: dict[str, Any] = {**(extra or {}), "via": [self.server_name], "suggested": suggested}
        order = "".join(char for char in order if " " <= char <= "~")[:50]
        if order:
            content["order"] = order
        self.put_state(space_id, "m.space.child", room_id, content, user_id)

    def remove_from_space(self, space_id: str, room_id: str, *, user_id: str | None) -> None:
        """Take the room off the space's list (a child without ``via`` is none)."""
        self.put_state(space_id, "m.space.child", room_id, {}, user_id)

    def set_parent(self, room_id: str, space_id: str, *, user_id: str | None) -> None:
        """Say in the room which space it belongs to."""
        self.put_state(room_id, "m.space.parent", space_id, {"via": [self.server_name], "canonical": True}, user_id)

    def space_children(self, space_id: str, user_id: str | None) -> dict[str, dict[str, Any]]:
        """The rooms listed in a space with the content of their ``m.space.child``."""
        children: dict[str, dict[str, Any]] = {}
        for event in self.full_state(space_id, user_id):
            content, key = event.get("content"), event.get("state_key")
            if (
                event.get("type") == "m.space.child"
                and isinstance(key, str)
                and isinstance(content, dict)
                and content.get("via")
            ):
                children[key] = content
        return children
