"""A homeserver that has lost everything is filled again: rows forget what it lost, and the plan makes it anew.

Conversations hang on the rows of rooms, which stay; so they go on in the new rooms, and everything said before is still readable.
"""

from __future__ import annotations

from collections.abc import Callable

from django.db import transaction

from agents.models import Account, Invitation, Room, RoomKind
from agents.services.backends import Homeserver
from agents.sync.gone import accounts_and_rooms
from agents.sync.observe import Loss
from ops.models import Service
from ops.services.audit import record
from ops.words import counted

PORTION = 500
Forgetter = Callable[[Service, list[int]], None]
_forgetters: list[Forgetter] = []

FORGOTTEN = [
    "room_id", "predecessors", "name", "topic", "in_space", "child_order", "switchboard_joined", "encrypted", "caught_up_epoch",
    "last_event_id", "last_event_at", "taken_over_at", "look_wanted_at", "looked_at",
]  # fmt: skip


def register_forgetter(forgetter: Forgetter) -> None:
    """Let the app above forget what it knows of a homeserver's rooms; it is given the rows of chats that people had opened."""
    if forgetter not in _forgetters:
        _forgetters.append(forgetter)


def forgetters() -> list[Forgetter]:
    """All that were registered."""
    return list(_forgetters)


def refill_reset(*, homeserver: Homeserver, loss: Loss, actor: str) -> int:
    """Let our rows forget what the homeserver has lost, before it is made again. Returns how many rooms that concerns.

    Nothing changes on the homeserver. In one transaction: cut off, it is begun anew.
    """
    with transaction.atomic():
        accounts, rooms = accounts_and_rooms(homeserver, loss.missing)
        for account in accounts:
            account.registered_at = None
            account.display_name = account.avatar_source = account.avatar_mxc = ""
        Account.objects.bulk_update(
            accounts, ["registered_at", "display_name", "avatar_source", "avatar_mxc"], batch_size=PORTION
        )
        direct: list[Room] = []
        if loss.space:
            rooms += Room.objects.filter(homeserver=homeserver.service, kind=RoomKind.SPACE, room_id__isnull=False)
            direct = list(
                Room.objects.filter(homeserver=homeserver.service, kind=RoomKind.DIRECT, room_id__isnull=False)
            )
            Room.objects.filter(homeserver=homeserver.service, in_space=True).exclude(kind=RoomKind.SPACE).update(
                in_space=False, child_order=""
            )
        for room in (*rooms, *direct):
            forget_place(room)
        Room.objects.bulk_update([*rooms, *direct], FORGOTTEN, batch_size=PORTION)
        keys = [room.pk for room in (*rooms, *direct)]
        for start in range(0, len(keys), PORTION):
            Invitation.objects.filter(room__in=keys[start : start + PORTION]).delete()
        for forgetter in _forgetters:
            forgetter(homeserver.service, [room.pk for room in direct])
        record(
            actor=actor,
            action="homeserver.refilled",
            target=homeserver.service,
            message=f"{counted(len(accounts), 'account')} and {counted(len(rooms), 'room')} that it had lost are made again.",
            after={"accounts": len(accounts), "rooms": len(rooms), "chats": len(direct)},
        )
    return len(rooms)


def forget_place(room: Room) -> None:
    """Let the row (in memory) be that of a room that is still to be made; ``FORGOTTEN`` are the fields. It remembers its former room."""
    if room.room_id:
        room.predecessors = [room.room_id, *room.predecessors][:50]
    room.room_id, room.name, room.topic = None, "" if room.kind != RoomKind.DIRECT else room.name, ""
    room.in_space, room.child_order = room.kind == RoomKind.SPACE, ""
    room.switchboard_joined = room.encrypted = False
    room.caught_up_epoch, room.last_event_id, room.last_event_at = 0, "", None
    room.taken_over_at = room.look_wanted_at = room.looked_at = None
