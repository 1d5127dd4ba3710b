"""What an operator decides about rooms: keep one quiet, and put an agent's account and room back on the homeserver."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.utils import timezone

from agents.matrix.errors import MatrixError, Refused
from agents.models import Invitation, Mapping, Room, RoomKind
from agents.services.backends import Homeserver, homeserver_of
from agents.services.mappings import remember_predecessor
from agents.sync import rooms as steps
from agents.sync.again import tell_history
from agents.sync.observe import invitees
from agents.sync.rows import reserve_mapping
from ops.locks import named_lock
from ops.logs import get_logger
from ops.services.audit import record

log = get_logger(__name__)


def room_set_quiet(*, room: Room, quiet: bool, actor: str) -> Room:
    """In a quiet room messages are kept, and answered only when the agent is mentioned. Does nothing when it is so already."""
    with transaction.atomic():
        if Room.objects.filter(pk=room.pk, quiet=not quiet).update(quiet=quiet):
            record(
                actor=actor,
                action="room.quieted" if quiet else "room.unquieted",
                target=room,
                before={"quiet": not quiet},
                after={"quiet": quiet},
            )
    room.quiet = quiet
    return room


def room_wanted(*, mapping: Mapping, actor: str) -> Room:
    """The agent's room, made now when it does not exist yet: somebody looks for it.

    Account, name and room are made or adopted; the space lists the room when there is a space. May be called side by side by any
    number of callers: one makes it, the others wait for it. Raises ``MatrixError`` or ``ops.locks.LockHeld``.
    """
    if mapping.room is not None and mapping.room.room_id:
        return mapping.room
    with named_lock(f"mapping.room:{mapping.pk}", wait=20.0):
        mapping = Mapping.objects.select_related("agent__service", "account__homeserver", "room").get(pk=mapping.pk)
        if mapping.room is not None and mapping.room.room_id:
            return mapping.room
        return _make_wanted(homeserver_of(mapping.account.homeserver), mapping, actor)


def _make_wanted(homeserver: Homeserver, mapping: Mapping, actor: str) -> Room:
    agent = mapping.agent
    if mapping.room is None:
        mapping = reserve_mapping(homeserver, agent)
        mapping.agent = agent
    room, account = mapping.room, mapping.account
    assert room is not None
    if account.registered_at is None:
        steps.register_account(homeserver, account)
    # First: who is invited sees by whom.
    steps.set_profile(homeserver, account, agent)
    space = Room.objects.filter(homeserver=homeserver.service, kind=RoomKind.SPACE, room_id__isnull=False).first()
    space_id = (space.room_id or "") if space is not None else ""
    created = steps.ensure_room(homeserver, mapping, invitees(), space_id)
    with transaction.atomic():
        Mapping.objects.filter(pk=mapping.pk).exclude(problem="").update(problem="", problem_since=None)
        record(
            actor=actor,
            action="room.created" if created else "room.adopted",
            target=room,
            message=f"{agent.name}: {room.room_id}, when somebody looked for it",
        )
    if space_id:
        try:
            steps.add_to_space(homeserver, room, space_id, agent.name)
        except MatrixError as error:
            # Whoever waits for the room shall have it; sync lists it.
            log.info("room.not_listed_yet", room=room.room_id, error=error.sentence[:200])
    if created:
        tell_history(homeserver, mapping)
    return room


@dataclass(frozen=True, slots=True)
class Recreated:
    """What was found and done. ``account``: registered or adopted; ``room``: kept, rejoined, adopted or created."""

    account: str
    room: str
    room_id: str
    former_room_id: str

    @property
    def sentence(self) -> str:
        account = "The account was made again." if self.account == "registered" else "The account was there."
        return f"{account} {_ROOM_WORDS[self.room]}"

    def to_dict(self) -> dict[str, str]:
        return {
            "account": self.account,
            "room": self.room,
            "room_id": self.room_id,
            "former_room_id": self.former_room_id,
            "sentence": self.sentence,
        }


_ROOM_WORDS = {
    "kept": "The room was there and is kept.",
    "rejoined": "The account had left the room and is back in it.",
    "adopted": "The room that has the agent's address was taken over.",
    "created": "The room was gone; a new one was made, and everybody is invited to it.",
}


def mapping_recreate(*, mapping: Mapping, actor: str) -> Recreated:
    """Put an agent's account and room back: the homeserver is asked what is there, and only what is missing is made.

    A room that the account can get into is kept; else the room with the agent's alias is taken over; else a new one is made and
    takes the alias. The conversation stays. May be repeated at any time. Raises ``MatrixError`` (the mapping then says why it
    failed) or ``ops.locks.LockHeld`` while somebody else does the same.
    """
    with named_lock(f"mapping.recreate:{mapping.pk}", wait=10.0):
        mapping = Mapping.objects.select_related("agent__service", "account__homeserver", "room").get(pk=mapping.pk)
        try:
            done = _recreate(homeserver_of(mapping.account.homeserver), mapping)
        except MatrixError as error:
            Mapping.objects.filter(pk=mapping.pk).update(problem=error.sentence[:500], problem_since=timezone.now())
            raise
        with transaction.atomic():
            Mapping.objects.filter(pk=mapping.pk).update(problem="", problem_since=None)
            record(
                actor=actor,
                action="mapping.recreated",
                target=mapping,
                message=done.sentence,
                before={"room_id": done.former_room_id},
                after={"room_id": done.room_id, "account": done.account, "room": done.room},
            )
    return done


def _recreate(homeserver: Homeserver, mapping: Mapping) -> Recreated:
    account, agent = mapping.account, mapping.agent
    if mapping.room is None:
        mapping = reserve_mapping(homeserver, agent)
        mapping.agent, account = agent, mapping.account
    assert mapping.room is not None
    registered = homeserver.client.register(account.localpart)
    account.registered_at = timezone.now()
    profile = homeserver.client.get_profile(account.user_id)
    account.display_name = profile.display_name
    if profile.avatar_url != account.avatar_mxc:
        account.avatar_source = ""
    account.save(update_fields=["registered_at", "display_name", "avatar_source"])
    steps.set_profile(homeserver, account, agent)
    space_room_id = _space(homeserver)
    former = mapping.room.room_id or ""
    outcome = _room(homeserver, mapping, former, space_room_id)
    if former and former != mapping.room.room_id:
        remember_predecessor(mapping.room, former)
        # The space lists a room that nobody can enter any more; a child without content is none.
        homeserver.client.remove_from_space(space_room_id, former, user_id=homeserver.sender_id)
    steps.add_to_space(homeserver, mapping.room, space_room_id, agent.name)
    return Recreated("registered" if registered else "adopted", outcome, mapping.room.room_id or "", former)


def _space(homeserver: Homeserver) -> str:
    """The space's room id; a space that the homeserver has lost is made again."""
    from django.conf import settings

    steps.register_sender(homeserver)
    space = Room.objects.filter(homeserver=homeserver.service, kind=RoomKind.SPACE).first()
    if (
        space is not None
        and space.room_id
        and space.room_id not in homeserver.client.joined_rooms(homeserver.sender_id)
    ):
        _forget_place(space)
        # Somebody else may look for it meanwhile: they find it by its alias, or make it, and the others adopt that one.
        space.save(update_fields=["room_id"])
        Room.objects.filter(homeserver=homeserver.service, in_space=True).exclude(pk=space.pk).update(
            in_space=False, child_order=""
        )
    name = homeserver.service.options.get("space_name") or settings.MATRIX_SPACE_NAME
    return steps.ensure_space(homeserver, name, invitees()).room_id or ""


def _room(homeserver: Homeserver, mapping: Mapping, former: str, space_room_id: str) -> str:
    room, account = mapping.room, mapping.account
    assert room is not None
    if former and former in homeserver.client.joined_rooms(account.user_id):
        _read_description(homeserver, room, account.user_id)
        steps.describe_agent_room(homeserver, mapping)
        return "kept"
    if former and _enter(homeserver, room, account.user_id):
        _read_description(homeserver, room, account.user_id)
        steps.describe_agent_room(homeserver, mapping)
        return "rejoined"
    if former:
        _forget_place(room)
    if not steps.ensure_room(homeserver, mapping, invitees(), space_room_id):
        return "adopted"
    tell_history(homeserver, mapping)
    return "created"


def _enter(homeserver: Homeserver, room: Room, user_id: str) -> bool:
    """Get the account back into its room, with the help of Switchboard's own account where that is in it."""
    assert room.room_id
    if room.switchboard_joined:
        try:
            homeserver.client.invite(room.room_id, user_id, homeserver.sender_id)
        except Refused as error:
            if error.general:
                raise
    try:
        homeserver.client.join(room.room_id, user_id)
    except Refused as error:
        # Servers say "no such room" in several ways; a failure that may pass is not one of them.
        if error.general:
            raise
        return False
    return True


def _read_description(homeserver: Homeserver, room: Room, user_id: str) -> None:
    """What the room is called there now, so that only what differs is written."""
    assert room.room_id
    found: dict[str, Any] = {}
    for field, event_type in (("name", "m.room.name"), ("topic", "m.room.topic")):
        content = homeserver.client.get_state(room.room_id, event_type, "", user_id) or {}
        found[field] = str(content.get(field) or "")
    room.name, room.topic = found["name"][:255], found["topic"][:1000]


def _forget_place(room: Room) -> None:
    """What we knew of the former room does not hold for the next one. The row keeps its id until there is another."""
    Invitation.objects.filter(room=room).delete()
    room.in_space, room.child_order, room.switchboard_joined, room.encrypted = (
        room.kind == RoomKind.SPACE,
        "",
        False,
        False,
    )
    room.caught_up_epoch, room.last_event_id, room.last_event_at = 0, "", None
    room.taken_over_at = None
    if room.room_id and room.room_id not in room.predecessors:
        room.predecessors = [room.room_id, *room.predecessors][:50]
    room.save(
        update_fields=[
            "in_space", "child_order", "switchboard_joined", "encrypted", "caught_up_epoch", "last_event_id", "last_event_at",
            "taken_over_at", "predecessors",
        ]
    )  # fmt: skip
    # In memory only: until the new room exists, a sync must not make one as well. Name and topic are written anew.
    room.room_id, room.name, room.topic = None, "", ""
