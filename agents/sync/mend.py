"""Mends what differs, one difference after the other. Each may be repeated at any time; what is right already is left as it is.

Who helps an agent back: itself, Switchboard's own account where it is in the room, then an administrator of the homeserver where
there is one (``services.homeserver_admin``). Where none of them can, ``NoWay`` says exactly why, and who could.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from agents.matrix.errors import NotFound, Refused
from agents.matrix.room_state import RoomState
from agents.models import DriftKind, Mapping, Room
from agents.services.backends import Homeserver
from agents.services.homeserver_admin import CannotAdminister, room_join_user, room_make_admin
from agents.services.identities import accounts_provision
from agents.services.mappings import mapping_relink
from agents.services.relinking import follow_space, move_address
from agents.services.rooms import mapping_recreate
from agents.services.spaces import point_alias, space_alias, space_relink
from agents.sync import rooms as steps
from agents.sync.hearing import hear, hear_soon, note_heard
from agents.sync.look import read_state
from ops.logs import get_logger
from ops.services.audit import record

log = get_logger(__name__)

# An upgraded room may have been upgraded again.
LONGEST_CHAIN = 10


class NoWay(Exception):
    """Nobody here can mend it. ``sentence`` says why, and what somebody else can do."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


@dataclass(frozen=True, slots=True)
class Mender:
    """Mends differences of one homeserver. ``space_room_id`` is the space in use, "" without one."""

    homeserver: Homeserver
    actor: str
    invitees: Sequence[str]
    space_room_id: str = ""

    def mend(self, kind: str, mapping: Mapping, key: str, found: Any) -> None:
        """Mend one difference of a mapping. Raises ``NoWay`` or ``MatrixError``."""
        ways: dict[str, Callable[[Mapping, str, Any], None]] = {
            DriftKind.ACCOUNT_GONE: self._account_gone,
            DriftKind.ACCOUNT_NAME: self._account_name,
            DriftKind.ACCOUNT_AVATAR: self._account_avatar,
            DriftKind.ACCOUNT_OUT: self._back,
            DriftKind.ROOM_GONE: self._back,
            DriftKind.ROOM_UPGRADED: self._follow,
            DriftKind.ROOM_NAME: self._describe,
            DriftKind.ROOM_ALIAS: self._address,
            DriftKind.ROOM_POWER: self._power,
            DriftKind.ROOM_OPERATORS: self._invite,
            DriftKind.SPACE_CHILD: self._list,
        }
        ways[kind](mapping, key, found)
        record(
            actor=self.actor,
            action=f"drift.{kind}",
            target=mapping,
            message=f"{mapping.agent.name}: {DriftKind(kind).label} was mended.",
            before={"found": found, "key": key},
        )

    # The account

    def _account_gone(self, mapping: Mapping, key: str, found: Any) -> None:
        done = accounts_provision(homeserver=self.homeserver, accounts=[mapping.account], actor=self.actor)
        if done.failed:
            raise NoWay(f"It could not be made again. {next(iter(done.failed.values()))}")

    def _account_name(self, mapping: Mapping, key: str, found: Any) -> None:
        account = mapping.account
        account.display_name = str(found)
        steps.set_profile(self.homeserver, account, mapping.agent)

    def _account_avatar(self, mapping: Mapping, key: str, found: Any) -> None:
        self.homeserver.client.set_avatar(mapping.account.user_id, mapping.account.avatar_mxc)

    # The room

    def _back(self, mapping: Mapping, key: str, found: Any) -> None:
        room = _room_of(mapping)
        if kind_of_room(found):
            self._take(mapping, str(found))
        elif not self.enter(room.room_id or "", mapping.account.user_id):
            # Nobody can ever get into it again. What was said in it stays with the conversation.
            mapping_recreate(mapping=mapping, actor=self.actor)

    def _take(self, mapping: Mapping, target: str) -> None:
        """Another room of the agent's own becomes the one that its mapping names."""
        former = _room_of(mapping).room_id or ""
        try:
            mapping_relink(
                mapping=mapping,
                room_id=target,
                homeserver=self.homeserver,
                actor=self.actor,
                reason="The mapping names the room that the agent is in.",
            )
        except ValueError as error:
            raise NoWay(str(error)) from error
        self._arrive(mapping.pk, former, read_state(self.homeserver, target, mapping.account.user_id))

    def _follow(self, mapping: Mapping, key: str, found: Any) -> None:
        """The successor becomes the agent's room, however often it was upgraded; people find it where they found the old one."""
        room, user_id = _room_of(mapping), mapping.account.user_id
        former = room.room_id or ""
        old = read_state(self.homeserver, former, user_id)
        target, since = (old.replaced_by, old.replaced_ts) if old is not None else (str(found), 0)
        state: RoomState | None = None
        for _ in range(LONGEST_CHAIN):
            if not self.enter(target, user_id):
                raise NoWay(
                    f"The room was upgraded to {target}, and nobody is there (any more). Put account and room back."
                )
            state = read_state(self.homeserver, target, user_id)
            if state is None or not state.replaced_by:
                break
            target = state.replaced_by
        try:
            mapping = mapping_relink(
                mapping=mapping,
                room_id=target,
                homeserver=self.homeserver,
                actor=self.actor,
                reason=f"{former} was upgraded.",
                since=datetime.fromtimestamp(since / 1000, tz=UTC) if 0 < since < 4e12 else None,
            )
        except ValueError as error:
            raise NoWay(f"The room was upgraded to {target}. {error}") from error
        self._arrive(mapping.pk, former, state)

    def _arrive(self, mapping_pk: int, former: str, state: RoomState | None) -> None:
        """The mapping names another room from now on: address, space and people follow."""
        mapping = Mapping.objects.select_related("agent", "account", "room").get(pk=mapping_pk)
        room, user_id = _room_of(mapping), mapping.account.user_id
        target = room.room_id or ""
        if state is not None:
            room.name, room.topic = state.name[:255], state.topic[:1000]
        # The homeserver moves the address along; one that could not be moved is a difference of its own.
        self._quietly(lambda: move_address(self.homeserver, room.alias, target, user_id) if room.alias else None)
        self._quietly(lambda: steps.describe_agent_room(self.homeserver, mapping))
        Room.objects.filter(pk=room.pk).update(name=room.name, topic=room.topic)
        follow_space(self.homeserver, mapping.pk, former=former)
        if self.space_room_id:
            space = self.space_room_id
            self._quietly(lambda: self.homeserver.client.set_parent(target, space, user_id=user_id))
        steps.invite_missing(self.homeserver, room, self.invitees, user_id)
        hear_soon(self.homeserver, room, user_id)

    def _describe(self, mapping: Mapping, key: str, found: Any) -> None:
        room = _room_of(mapping)
        room.name, room.topic = (str(found[0])[:255], str(found[1])[:1000]) if isinstance(found, list) else ("", "")
        steps.describe_agent_room(self.homeserver, mapping)

    def _address(self, mapping: Mapping, key: str, found: Any) -> None:
        room, client = _room_of(mapping), self.homeserver.client
        room_id, users = room.room_id or "", (mapping.account.user_id, self.homeserver.sender_id)
        refusal: Refused | None = None
        for user_id in users:
            try:
                if key != "shown":
                    move_address(self.homeserver, room.alias, room_id, user_id)
                self._quietly(lambda: client.set_canonical_alias(room_id, room.alias, mapping.account.user_id))
                return
            except Refused as error:
                _raise_if_general(error)
                refusal = refusal or error
        raise NoWay(
            f"{room.alias} leads to {found or 'nowhere'} and could not be moved: {refusal.sentence if refusal else ''} "
            "Whoever has set the address there can remove it; the next sync sets it."
        )

    def _power(self, mapping: Mapping, key: str, found: Any) -> None:
        room = _room_of(mapping)
        self.empower(room.room_id or "", mapping.account.user_id)

    def _invite(self, mapping: Mapping, key: str, found: Any) -> None:
        room = _room_of(mapping)
        if key == self.homeserver.sender_id:
            self._hear(mapping)
        else:
            steps.invite(self.homeserver, room, key, mapping.account.user_id)

    def _hear(self, mapping: Mapping) -> None:
        """Client mode: Switchboard's own account has to be in the room."""
        room = _room_of(mapping)
        note_heard(room, False)
        if not hear(self.homeserver, room, mapping.account.user_id):
            raise NoWay(f"{mapping.account.user_id} may not invite it. Somebody who may has to.")

    def _list(self, mapping: Mapping, key: str, found: Any) -> None:
        room = _room_of(mapping)
        if not self.space_room_id:
            raise NoWay("There is no space in which the room could be listed.")
        if key == "parent":
            self.homeserver.client.set_parent(room.room_id or "", self.space_room_id, user_id=mapping.account.user_id)
        else:
            steps.add_to_space(self.homeserver, room, self.space_room_id, mapping.agent.name)

    # The space

    def mend_space(self, kind: str, room: Room, key: str, found: Any, *, target: str, name: str) -> Room:
        """Mend one difference of the space; returns its row. ``target`` is the space to link when this one is gone."""
        client, sender = self.homeserver.client, self.homeserver.sender_id
        room_id = room.room_id or ""
        if kind == DriftKind.SPACE_GONE:
            steps.register_sender(self.homeserver)
            # Another one that was found is taken; else this one, if our account gets back into it; else a new one is made.
            if target or found or not self.enter(room_id, sender):
                room = space_relink(homeserver=self.homeserver, room_id=target, actor=self.actor)
        elif kind == DriftKind.ROOM_NAME:
            room.name = str(found)[:255]
            steps.describe(self.homeserver, room, name, room.topic, sender)
        elif kind == DriftKind.ROOM_ALIAS:
            point_alias(self.homeserver, space_alias(self.homeserver), room_id)
            self._quietly(lambda: client.set_canonical_alias(room_id, space_alias(self.homeserver), sender))
        elif kind == DriftKind.ROOM_POWER:
            self.empower(room_id, sender)
        elif kind == DriftKind.ROOM_OPERATORS:
            steps.invite(self.homeserver, room, key, sender)
        record(
            actor=self.actor,
            action=f"drift.{kind}",
            target=room,
            message=f"The space: {DriftKind(kind).label} was mended.",
            before={"found": found, "key": key, "room_id": room_id},
        )
        return room

    # Ways in

    def enter(self, room_id: str, user_id: str) -> bool:
        """Get the account into the room. ``False``: the room is gone, or nobody is in it who could let anybody in.

        Raises ``NoWay`` for a room that is there and stays closed.
        """
        try:
            self.homeserver.client.join(room_id, user_id)
            return True
        except Refused as error:
            _raise_if_general(error)
            if room_is_dead(error):
                return False
            why = error
        reasons: list[str] = []
        for way in (self._by_own_account, self._by_administrator, self._by_power):
            if user_id == self.homeserver.sender_id and way is not self._by_administrator:
                continue
            try:
                way(room_id, user_id)
                self.homeserver.client.join(room_id, user_id)
                return True
            except Refused as error:
                _raise_if_general(error)
                reasons.append(error.sentence)
            except CannotAdminister as error:
                reasons.append(error.sentence)
        raise NoWay(self._closed(room_id, user_id, why, reasons))

    def _by_own_account(self, room_id: str, user_id: str) -> None:
        client, sender = self.homeserver.client, self.homeserver.sender_id
        state = read_state(self.homeserver, room_id, sender)
        if state is None or state.membership(sender) != "join":
            raise Refused("Switchboard's own account is not in the room", action=f"invite {user_id}")
        if state.membership(user_id) == "ban":
            client.unban(room_id, user_id, sender)
        client.invite(room_id, user_id, sender)

    def _by_administrator(self, room_id: str, user_id: str) -> None:
        room_join_user(homeserver=self.homeserver, room_id=room_id, user_id=user_id, actor=self.actor)

    def _by_power(self, room_id: str, user_id: str) -> None:
        """An administrator gives Switchboard's own account the room's power; it lifts the ban, invites, and leaves again."""
        client, sender = self.homeserver.client, self.homeserver.sender_id
        room_make_admin(homeserver=self.homeserver, room_id=room_id, user_id=sender, actor=self.actor)
        client.join(room_id, sender)
        try:
            self._by_own_account(room_id, user_id)
            client.join(room_id, user_id)
            self._quietly(lambda: self.empower(room_id, user_id))
        finally:
            if not self.homeserver.client_mode:
                self._quietly(lambda: client.leave(room_id, sender))

    def _closed(self, room_id: str, user_id: str, why: Refused, reasons: list[str]) -> str:
        state = read_state(self.homeserver, room_id, user_id)
        helpers = [name for name, _ in state.strongest() if name != user_id][:3] if state is not None else []
        who = f"{', '.join(helpers)} can invite it" if helpers else "Somebody who is in the room has to invite it"
        reason = reasons[1] if len(reasons) > 1 else (reasons[0] if reasons else why.sentence)
        return (
            f"{user_id} cannot get back into {room_id} ({why.message}). {who} (/invite {user_id}). "
            f"From here it is not possible: {reason}"
        )

    # Power

    def empower(self, room_id: str, user_id: str) -> None:
        """Give the account what it takes to look after the room. Raises ``NoWay``."""
        client, sender = self.homeserver.client, self.homeserver.sender_id
        state = read_state(self.homeserver, room_id, sender)
        if (
            state is not None
            and user_id != sender
            and state.membership(sender) == "join"
            and state.level_of(sender) >= max(state.needed_for("m.room.power_levels"), 50)
        ):
            users = {**((state.power or {}).get("users") or {}), user_id: min(100, state.level_of(sender))}
            client.put_state(room_id, "m.room.power_levels", "", {**(state.power or {}), "users": users}, sender)
            return
        try:
            room_make_admin(homeserver=self.homeserver, room_id=room_id, user_id=user_id, actor=self.actor)
        except (CannotAdminister, Refused) as error:
            if isinstance(error, Refused):
                _raise_if_general(error)
            seen = read_state(self.homeserver, room_id, user_id)
            strong = [f"{name} ({level})" for name, level in (seen.strongest() if seen else []) if name != user_id][:3]
            who = (
                f"{', '.join(strong)} can give it 100 in the room's settings. "
                if strong
                else "Nobody in the room can. "
            )
            raise NoWay(
                f"{user_id} may not look after its room. {who}From here it is not possible: {error.sentence}"
            ) from error

    @staticmethod
    def _quietly(action: Callable[[], Any]) -> None:
        """What is only good to have: a refusal is a difference that the next look finds."""
        try:
            action()
        except Refused as error:
            _raise_if_general(error)
            log.info("drift.left", error=error.sentence[:200])
        except NoWay as error:
            log.info("drift.left", error=error.sentence[:200])


def room_is_dead(error: Refused) -> bool:
    """Whether a refused join says that there is no such room, or that nobody of it is left: servers say it in several ways.

    Synapse: 404 ``M_UNKNOWN`` ("no servers that are in the room"), 400 for an id that none of its rooms ever had. A closed room is 403.
    """
    return isinstance(error, NotFound) or error.status in (400, 404)


def kind_of_room(found: Any) -> bool:
    """Whether what was found is a room's id."""
    return isinstance(found, str) and found.startswith("!")


def _raise_if_general(error: Refused) -> None:
    if error.general:
        raise error


def _room_of(mapping: Mapping) -> Room:
    if mapping.room is None or not mapping.room.room_id:
        raise NoWay("The mapping has no room yet; sync makes it.")
    return mapping.room
