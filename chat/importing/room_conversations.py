"""The table ``room_conversations``: which conversation on Letta belongs to a room, so that the agent goes on with what it knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import transaction

from agents.importing.formats.values import text, valid_room_id
from agents.importing.records import Planned, Raw, Record, rejected
from agents.importing.work import Done, Task, Work, failed
from agents.importing.world import World, chunks
from agents.models import Agent, ImportAction, ImportChoice, Room
from chat.models import Participant, ParticipantKind
from chat.services.conversations import conversation_of, participant
from ops.services.audit import record

KIND = "conversation"
TABLE = "room_conversations"


def read(raw: Raw) -> Record | None:
    """A room's conversation; ``None`` for anything else."""
    value = raw.value
    if not isinstance(value, dict) or not {"room_id", "agent_id", "conversation_id"} <= set(value):
        return None
    if "target_agent_id" in value:
        return None
    room_id, agent_id, ref = (text(value[name]) for name in ("room_id", "agent_id", "conversation_id"))
    one = Record(
        KIND,
        f"{room_id} {agent_id} {text(value.get('user_mxid'))}".strip()[:255],
        raw,
        {
            "room_id": room_id,
            "agent_id": agent_id,
            "ref": ref,
            "strategy": text(value.get("strategy")) or "per-room",
            "user_id": text(value.get("user_mxid")),
        },
        label=ref,
    )
    if not valid_room_id(room_id) or not agent_id or not ref or len(ref) > 255:
        return one.refused("conversation.invalid", "It does not name a room, an agent and a conversation.")
    return one


def plan(records: Sequence[Record], world: World) -> list[Planned]:
    """Conversations of whole rooms whose agent is here or comes with this import."""
    good = [one for one in records if one.problem is None]
    stored: dict[tuple[str, str], str] = {}
    for some in chunks(one.fields["room_id"] for one in good):
        rows = Participant.objects.filter(conversation__links__room__room_id__in=some, kind=ParticipantKind.AGENT)
        for room_id, agent_id, ref in rows.values_list(
            "conversation__links__room__room_id", "agent__external_id", "backend_ref"
        ):
            stored[str(room_id), str(agent_id)] = ref
    mapped = {
        str(one.fields["room_id"]): str(one.fields["agent_id"])
        for one in world.records.get("mapping", ())
        if one.problem is None and one.fields["room_id"]
    }
    for some in chunks(one.fields["room_id"] for one in good):
        rooms = Room.objects.filter(room_id__in=some, mapping__isnull=False)
        mapped.update({str(room): agent for room, agent in rooms.values_list("room_id", "mapping__agent__external_id")})
    direct = {str(one.fields["room_id"]) for one in world.records.get("direct_room", ()) if one.problem is None}
    return [rejected(one) if one.problem is not None else _plan(one, stored, mapped, direct) for one in records]


def _plan(one: Record, stored: dict[tuple[str, str], str], mapped: dict[str, str], direct: set[str]) -> Planned:
    fields = one.fields
    room_id, agent_id = fields["room_id"], fields["agent_id"]
    here = stored.get((room_id, agent_id))
    row = Planned(
        one,
        ImportAction.CREATE,
        file={"room_id": room_id, "agent_id": agent_id, "conversation": fields["ref"]},
        stored={"room_id": room_id if here is not None else "", "agent_id": agent_id, "conversation": here or ""},
    )
    if fields["user_id"] or fields["strategy"] != "per-room":
        row.action, row.code = ImportAction.UNCHANGED, "conversation.of_person"
        row.sentence = (
            "It is one person's own conversation in a room; here a room has one conversation. It stays on the server."
        )
    elif mapped.get(room_id) != agent_id and here is None and room_id not in direct:
        row.action, row.code = ImportAction.UNCHANGED, "conversation.other_room"
        row.sentence = "The room is not this agent's own. The conversation stays on the server."
    elif here == fields["ref"]:
        row.action = ImportAction.UNCHANGED
    elif here:
        row.action, row.code = ImportAction.CONFLICT, "conversation.differs"
        row.sentence = f"Here the room goes on with {here}, in the file with {fields['ref']}."
    else:
        row.sentence = "The agent goes on with this conversation in the room."
    return row


def apply(work: Work, task: Task) -> Done:
    """The next turn in the room is said in that conversation of the server."""
    if task.row.choice in {ImportChoice.STORED, ImportChoice.HOMESERVER}:
        return Done("kept", "What is here was kept.")
    fields: dict[str, Any] = task.fields
    room = Room.objects.filter(room_id=fields["room_id"]).select_related("mapping__agent").first()
    mapping = getattr(room, "mapping", None) if room is not None else None
    if room is None:
        return failed("The room was not taken over. Its mapping comes first.")
    agent = mapping.agent if mapping is not None else _agent_of(room, fields["agent_id"])
    if agent is None or agent.external_id != fields["agent_id"]:
        return failed("Another agent answers in this room.")
    with transaction.atomic():
        speaker = participant(
            conversation_of(room, agent).pk,
            kind=ParticipantKind.AGENT,
            external_id=str(agent.pk),
            name=agent.name,
            agent_id=agent.pk,
        )
        before = speaker.backend_ref
        Participant.objects.filter(pk=speaker.pk).update(backend_ref=fields["ref"])
        record(
            actor=work.actor,
            action="conversation.linked",
            target=room,
            before={"backend_ref": before},
            after={"backend_ref": fields["ref"]},
        )
    return Done("done", "The agent goes on with this conversation in the room.", f"room:{room.pk}")


def _agent_of(room: Room, external_id: str) -> Agent | None:
    return Agent.objects.filter(participations__conversation__links__room=room, external_id=external_id).first()
