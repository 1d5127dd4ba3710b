"""Rooms of known accounts that were made after the cut: chats that people opened, rooms of conversations, rooms that replaced an agent's own."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import transaction

from agents.matrix.errors import MatrixError, Refused
from agents.models import Invitation, Mapping, Room
from agents.services import rebuild_rows
from agents.services.backends import Homeserver, NoHomeserver, open_homeserver
from agents.services.mappings import remember_predecessor
from agents.sync.look import is_ours
from agents.sync.seen import SeenRoom, read_room
from agents.sync.takeover import TAKEOVER_FIELDS, History, take_over_from
from ops.backup.hooks import Reconcile
from ops.services.audit import record
from ops.side_by_side import side_by_side
from ops.words import counted, verb

_AT_ONCE = 200
_TOLERANCE = timedelta(minutes=5)


def adopt_chats(work: Reconcile, history: History) -> dict[str, Any] | None:
    """Returns ``{"sentence", "chats", "replaced"}``. Raises ``MatrixError`` when the homeserver is gone or refuses our token."""
    try:
        homeserver = open_homeserver()
    except NoHomeserver:
        return None
    chats = replaced = 0
    for mapping, room_id in _unknown(homeserver, work):
        if Room.objects.filter(room_id=room_id).exists():
            continue  # another agent of ours is in it as well
        reader = homeserver.sender_id if homeserver.client_mode else mapping.account.user_id
        try:
            state = homeserver.client.full_state(room_id, reader)
        except Refused as error:
            if error.general:
                raise
            continue
        seen = read_room(room_id, state)
        if seen.kind == "m.space" or seen.replaced_by:
            continue
        if _replaces(mapping, seen):
            _replace(homeserver, mapping, seen, history, work.actor)
            replaced += 1
        elif not is_ours(homeserver, seen.creator) or (
            _made_at(state) >= history.since - _TOLERANCE and _people(homeserver, seen)
        ):
            chats += rebuild_rows.write_direct(homeserver, mapping.agent, seen, (history.until, ""), history)
    if not chats and not replaced:
        return {"sentence": "No chats had been opened since.", "chats": 0, "replaced": 0}
    parts = []
    if chats:
        parts.append(
            f"{counted(chats, 'chat')} that {verb(chats, 'was', 'were')} opened since {verb(chats, 'goes', 'go')} on"
        )
    if replaced:
        parts.append(f"{counted(replaced, 'agent')} {verb(replaced, 'has', 'have')} the newer room again")
    return {"sentence": f"{'; '.join(parts)}.", "chats": chats, "replaced": replaced}


def _unknown(homeserver: Homeserver, work: Reconcile) -> Iterator[tuple[Mapping, str]]:
    """Rooms that an account of ours is in, and that have no row."""
    known = set(Room.objects.filter(room_id__isnull=False).values_list("room_id", flat=True))
    former = {
        one for rooms in Room.objects.exclude(predecessors=[]).values_list("predecessors", flat=True) for one in rooms
    }
    rows = Mapping.objects.filter(account__homeserver=homeserver.service, account__registered_at__isnull=False)
    rows = rows.select_related("agent__service", "account", "room").order_by("pk")
    if homeserver.client_mode:
        # Agents' sessions may not be open yet; Switchboard's own account is in every room in which it hears.
        of = {row.account.user_id: row for row in rows}
        for room_id in homeserver.client.joined_rooms(homeserver.sender_id):
            if room_id in known or room_id in former:
                continue
            for member in sorted(homeserver.client.joined_members(room_id, homeserver.sender_id)):
                if member in of:
                    yield of[member], room_id
                    break
        return
    total = rows.count()
    for start in range(0, total, _AT_ONCE):
        some = list(rows[start : start + _AT_ONCE])
        work.progress(f"Looking for chats of {counted(total, 'agent')} ({start:,})")
        for row, joined in zip(some, side_by_side(lambda one: _joined(homeserver, one), some), strict=True):
            for room_id in joined:
                if room_id not in known and room_id not in former:
                    yield row, room_id


def _joined(homeserver: Homeserver, mapping: Mapping) -> list[str]:
    try:
        return sorted(homeserver.client.joined_rooms(mapping.account.user_id))
    except Refused as error:
        if error.general:
            raise
        return []
    except MatrixError:
        raise


def _replaces(mapping: Mapping, seen: SeenRoom) -> bool:
    """Whether this is the agent's own room by now: it replaced the one of the row, or bears its address."""
    room = mapping.room
    if room is None or not room.room_id:
        return False
    return seen.predecessor == room.room_id or bool(seen.alias and seen.alias == room.alias)


def _replace(homeserver: Homeserver, mapping: Mapping, seen: SeenRoom, history: History, actor: str) -> None:
    room = mapping.room
    assert room is not None
    former = room.room_id
    with transaction.atomic():
        Invitation.objects.filter(room=room).delete()
        room.room_id, room.name, room.topic, room.encrypted = (
            seen.room_id,
            seen.name[:255],
            seen.topic[:1000],
            seen.encrypted,
        )
        room.switchboard_joined = seen.members.get(homeserver.sender_id) == "join"
        room.in_space, room.child_order = False, ""
        take_over_from(room, (history.until, ""), history)
        fields = ["room_id", "name", "topic", "encrypted", "switchboard_joined", "in_space", "child_order"]
        room.save(update_fields=[*fields, *TAKEOVER_FIELDS, "history_until"])
        remember_predecessor(room, former)
        rebuild_rows.write_invitations(room, seen.members)
        record(
            actor=actor,
            action="mapping.rebuilt",
            target=mapping,
            message="The room that had replaced the one of the backup was found.",
            before={"room_id": former},
            after={"room_id": seen.room_id},
        )


def _made_at(state: Any) -> datetime:
    for event in state:
        stamp = event.get("origin_server_ts")
        if event.get("type") == "m.room.create" and isinstance(stamp, int) and 0 < stamp < 4e12:
            return datetime.fromtimestamp(stamp / 1000, tz=UTC)
    return datetime.fromtimestamp(0, tz=UTC)


def _people(homeserver: Homeserver, seen: SeenRoom) -> bool:
    return any(how == "join" and not is_ours(homeserver, user) for user, how in seen.members.items())
