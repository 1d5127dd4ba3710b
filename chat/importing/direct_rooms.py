"""``dm_rooms.json`` and the table ``dm_rooms``: rooms of two. Those with an agent in them go on as its direct chats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import transaction
from django.utils import timezone

from agents.importing.formats.values import text, unknown_fields, valid_room_id
from agents.importing.reach import bring_switchboard, enter
from agents.importing.records import Planned, Raw, Record, rejected
from agents.importing.work import Done, Task, Work, failed
from agents.importing.world import World, chunks
from agents.matrix.errors import MatrixError
from agents.matrix.names import valid_user_id
from agents.models import Account, AccountWay, ImportAction, ImportChoice, Room, RoomKind
from agents.sync.takeover import TAKEOVER_FIELDS, newest_event, take_over_from
from chat.models import Participant, ParticipantKind
from chat.services.conversations import conversation_of
from ops.services.audit import record

KIND = "direct_room"
TABLE = "dm_rooms"
_KNOWN = frozenset(
    {
        *("key", "roomId", "participants", "createdAt", "lastActivityAt"),
        *("id", "room_id", "participant_1", "participant_2", "created_at", "last_activity_at"),
    }
)


def read(raw: Raw) -> Record | None:
    """A room of two; ``None`` for anything else."""
    value = raw.value
    if not isinstance(value, dict) or not ("participants" in value or {"participant_1", "participant_2"} <= set(value)):
        return None
    room_id = text(value.get("roomId")) or text(value.get("room_id"))
    people = value.get("participants")
    if not isinstance(people, list):
        people = [value.get("participant_1"), value.get("participant_2")]
    if len([one for one in people if one]) < 2 and "<->" in raw.key:
        people = raw.key.split("<->")
    people = [text(one) for one in people]
    one = Record(
        KIND,
        (room_id or raw.key)[:255],
        raw,
        {"room_id": room_id, "participants": people},
        label=" and ".join(people)[:255],
        notes=unknown_fields(value, _KNOWN),
    )
    if not valid_room_id(room_id):
        return one.refused("direct_room.id_invalid", f"{room_id[:80]!r} is no room id. Correct its roomId.")
    if len(people) != 2 or not all(valid_user_id(person) for person in people):
        return one.refused("direct_room.people_invalid", "A direct room has two participants with Matrix user ids.")
    return one


def plan(records: Sequence[Record], world: World) -> list[Planned]:
    """A room with one of our agents in it is taken up; one of two people is theirs."""
    good = [one for one in records if one.problem is None]
    ours = dict.fromkeys(world.account_agents(), "")
    for some in chunks(person for one in good for person in one.fields["participants"]):
        rows = Account.objects.filter(user_id__in=some, mapping__isnull=False)
        ours.update(dict.fromkeys(rows.values_list("user_id", flat=True), ""))
    rooms = world.rooms_of(one.fields["room_id"] for one in good)
    own = {str(record.fields["room_id"]) for record in world.records.get("mapping", ()) if record.problem is None} - {
        ""
    }
    wanted = {
        next(person for person in one.fields["participants"] if person in ours): one.fields["room_id"]
        for one in good
        if any(person in ours for person in one.fields["participants"])
    }
    found = world.look(wanted)
    return [rejected(one) if one.problem is not None else _plan(one, ours, rooms, own, found) for one in records]


def _plan(
    one: Record, ours: dict[str, str], rooms: dict[str, tuple[int, str]], own: set[str], found: dict[str, Any]
) -> Planned:
    room_id, people = one.fields["room_id"], one.fields["participants"]
    side = {"room_id": room_id, "participants": ", ".join(people), "state": ""}
    row = Planned(one, ImportAction.CREATE, file=side, stored=dict.fromkeys(side, ""))
    agents = [person for person in people if person in ours]
    known = rooms.get(room_id)
    if known is not None and (known[1] == RoomKind.DIRECT or known[0]):
        row.action, row.stored = ImportAction.UNCHANGED, {**side, "state": known[1]}
        row.sentence = "The room is known here." if known[1] == RoomKind.DIRECT else "It is the agent's own room."
    elif not agents:
        row.action, row.code = ImportAction.UNCHANGED, "direct_room.of_people"
        row.sentence = "No agent is in it. It goes on as before, without Switchboard."
    elif room_id in own:
        row.action, row.code, row.sentence = ImportAction.UNCHANGED, "direct_room.own", "It is the agent's own room."
    else:
        row.data = {"agent": agents[0]}
        there = found.get(agents[0])
        inside = there is not None and room_id in there.joined
        if there is not None and there.state == "ours":
            row.homeserver = {**side, "state": "member" if inside else "not in the room"}
        row.sentence = "The agent goes on in it." if inside else "The agent enters it, where it is invited."
        if len(agents) == 2:
            row.sentence = "Two agents are in it; the first one answers."
    row.sentence = " ".join([row.sentence, *one.notes])[:1000]
    return row


def apply(work: Work, task: Task) -> Done:
    """The room is the agent's direct chat from now on; what was said in it before is not answered."""
    if task.row.choice == ImportChoice.STORED:
        return Done("kept", "What is here was kept.")
    room_id = str(task.fields["room_id"])
    account = (
        Account.objects.select_related("mapping__agent")
        .filter(user_id=str(task.data.get("agent") or ""), mapping__isnull=False)
        .first()
    )
    if account is None:
        return failed("The agent that is in it was not taken over. Its mapping comes first.")
    try:
        why = enter(work.homeserver, room_id, account.user_id)
        if why:
            return failed(why)
        joined = account.way == AccountWay.SESSION and bring_switchboard(work.homeserver, room_id, account.user_id)
        agent = account.mapping.agent
        newest = newest_event(work.homeserver, room_id, account.user_id)
        with transaction.atomic():
            room, created = Room.objects.get_or_create(
                room_id=room_id,
                defaults={
                    "homeserver": work.homeserver.service,
                    "kind": RoomKind.DIRECT,
                    "name": agent.name[:255],
                    "switchboard_joined": joined,
                    "look_wanted_at": timezone.now(),
                },
            )
            if room.kind != RoomKind.DIRECT:
                return failed(f"{room_id} is in use here already ({room}).")
            if room.taken_over_at is None:
                # With the row, not after it: intake finds the room as soon as it stands there.
                take_over_from(room, newest)
                room.save(update_fields=TAKEOVER_FIELDS)
            Participant.objects.get_or_create(
                conversation=conversation_of(room, agent),
                kind=ParticipantKind.AGENT,
                external_id=str(agent.pk),
                defaults={"agent": agent, "name": agent.name[:255]},
            )
            if created:
                record(
                    actor=work.actor, action="room.adopted", target=room, message=f"{agent.name}: {room_id}, imported"
                )
    except MatrixError as error:
        return failed(error)
    return Done("done", "The agent goes on in it.", f"room:{room.pk}")
