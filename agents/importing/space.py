"""Takes the space over that lists the agents' rooms: Switchboard enters it, may write in it, and lists rooms there from now on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import transaction

from agents.importing.records import Planned, Record, rejected
from agents.importing.work import Done, Task, Work, failed
from agents.importing.world import World
from agents.matrix.errors import MatrixError, Refused
from agents.models import ImportAction, ImportChoice, Room, RoomKind
from agents.services.backends import Homeserver
from agents.services.spaces import SpaceView, space_alias, space_relink, space_row, space_view
from ops.logs import get_logger
from ops.services.audit import record

log = get_logger(__name__)

NEEDED = ("m.space.child", "m.room.name", "m.room.canonical_alias")


def plan_spaces(records: Sequence[Record], world: World) -> list[Planned]:
    """The first good record counts; a second one that names another space is refused."""
    rows: list[Planned] = []
    taken = ""
    stored = _stored(world)
    for one in records:
        if one.problem is not None:
            rows.append(rejected(one))
            continue
        room_id = one.fields["room_id"]
        if taken and room_id != taken:
            row = Planned(
                one, ImportAction.REJECT, "space.twice", f"Another file names the space {taken}. There is one."
            )
        else:
            row = _plan(one, stored, _seen(world, room_id))
        row.sentence = " ".join([row.sentence, *one.notes])[:1000]
        row.file = row.file or {"room_id": room_id, "name": one.fields["name"], "state": ""}
        taken = taken or room_id
        rows.append(row)
    return rows


def _stored(world: World) -> dict[str, Any]:
    row = space_row(world.homeserver) if world.homeserver is not None else None
    if row is None or not row.room_id:
        return {}
    return {"room_id": row.room_id, "name": row.name, "state": ""}


def _seen(world: World, room_id: str) -> SpaceView | None:
    if world.homeserver is None or world.trouble:
        return None
    try:
        return space_view(world.homeserver, room_id)
    except MatrixError as error:
        world.trouble = error.sentence
        return None


def _plan(one: Record, stored: dict[str, Any], view: SpaceView | None) -> Planned:
    room_id = one.fields["room_id"]
    there = {"room_id": room_id, "name": view.name, "state": "member"} if view is not None else {}
    row = Planned(one, ImportAction.CREATE, stored=stored, homeserver=there)
    row.file = {"room_id": room_id, "name": one.fields["name"], "state": ""}
    if view is not None and not view.is_space:
        row.action, row.code, row.sentence = ImportAction.REJECT, "space.is_room", f"{room_id} is a room, not a space."
    elif not stored:
        row.sentence = "The space is taken over." if view else "Switchboard enters the space and lists rooms there."
    elif stored["room_id"] != room_id:
        row.action, row.code = ImportAction.CONFLICT, "space.differs"
        row.sentence = f"Here the space is {stored['room_id']}, in the file {room_id}."
    elif view is None:
        row.action, row.sentence = ImportAction.UPDATE, "Switchboard is not in the space yet."
    else:
        row.action = ImportAction.UNCHANGED
    return row


def apply_space(work: Work, task: Task) -> Done:
    """Enter it, get the power to list rooms, name it in our row. What cannot be entered is kept in the row all the same: sync must
    not make a second one.
    """
    if task.row.choice in {ImportChoice.STORED, ImportChoice.HOMESERVER} and not task.wish.get("room_id"):
        return Done("kept", "What is here was kept.")
    if task.row.choice == ImportChoice.STORED:
        return Done("kept", "What is here was kept.")
    room_id = str(task.wish.get("room_id") or task.fields["room_id"])
    homeserver = work.homeserver
    try:
        why = enter_space(homeserver, room_id, work.actor)
        if why:
            _reserve(homeserver, room_id, str(task.fields.get("name") or ""), work.actor)
            return failed(why)
        row = space_relink(homeserver=homeserver, room_id=room_id, actor=work.actor)
    except MatrixError as error:
        return failed(error)
    return Done("done", "The space was taken over, with the rooms that it lists.", f"room:{row.pk}")


def _reserve(homeserver: Homeserver, room_id: str, name: str, actor: str) -> None:
    row = space_row(homeserver)
    if row is not None and row.room_id:
        return
    with transaction.atomic():
        row = row or Room(homeserver=homeserver.service, kind=RoomKind.SPACE, in_space=True)
        row.room_id, row.alias, row.name = room_id, space_alias(homeserver), name[:255]
        row.save()
        record(actor=actor, action="space.reserved", target=row, after={"room_id": room_id})


def enter_space(homeserver: Homeserver, room_id: str, actor: str) -> str:
    """Switchboard's own account in the space, with the power to list rooms. Returns why not, "" when it has it.

    Raises ``MatrixError`` when the homeserver is gone.
    """
    client, sender = homeserver.client, homeserver.sender_id
    _quietly(lambda: client.register(homeserver.sender_localpart))
    if not _joins(homeserver, room_id):
        why = _administrator(homeserver, room_id, actor)
        if not _joins(homeserver, room_id):
            return (
                f"{sender} is not in the space {room_id}, and nobody here can let it in. {why} Invite it there, give it the power "
                "level 100, then apply this row again."
            ).replace("  ", " ")
    if missing_power(homeserver, room_id):
        why = _administrator(homeserver, room_id, actor)
        if missing_power(homeserver, room_id):
            return (
                f"{sender} may not list rooms in the space {room_id}. {why} Give it the power level 100 there, then apply this row again."
            ).replace("  ", " ")
    return ""


def _joins(homeserver: Homeserver, room_id: str) -> bool:
    return _quietly(lambda: homeserver.client.join(room_id, homeserver.sender_id))


def _quietly(action: Any) -> bool:
    """Whether the homeserver did it. Raises ``MatrixError`` when it is gone or refuses our token."""
    try:
        action()
    except Refused as error:
        if error.general:
            raise
        log.info("import.refused", error=error.sentence[:200])
        return False
    return True


def _administrator(homeserver: Homeserver, room_id: str, actor: str) -> str:
    """Let an administrator of the homeserver make us one of the room's. Returns why that cannot be done."""
    from agents.services.homeserver_admin import CannotAdminister, room_make_admin

    try:
        room_make_admin(homeserver=homeserver, room_id=room_id, user_id=homeserver.sender_id, actor=actor)
    except CannotAdminister as error:
        return str(error)
    except Refused as error:
        if error.general:
            raise
        return error.sentence
    return ""


def missing_power(homeserver: Homeserver, room_id: str) -> bool:
    """Whether Switchboard's own account may not write what the space needs (room version 12: creators may do everything)."""
    client, sender = homeserver.client, homeserver.sender_id
    levels = client.get_state(room_id, "m.room.power_levels", "", sender) or {}
    users, events = levels.get("users"), levels.get("events")
    users, events = users if isinstance(users, dict) else {}, events if isinstance(events, dict) else {}
    mine = _number(users.get(sender), _number(levels.get("users_default"), 0))
    default = _number(levels.get("state_default"), 50)
    if mine >= max(_number(events.get(kind), default) for kind in NEEDED):
        return False
    view = space_view(homeserver, room_id)
    return not (view is not None and view.creator == sender)


def _number(value: Any, default: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else default
