"""Conversations: which one a room shows, who takes part, the number of the next message."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from agents.models import Agent, Room
from chat.models import Conversation, Link, LinkKind, Participant, ParticipantKind, Person
from ops.prepared import PreparedRead


def conversation_of(room: Room, agent: Agent | None) -> Conversation:
    """The room's conversation, made when the room is first spoken in. A room belongs to one conversation."""
    link = getattr(room, "link", None) or Link.objects.select_related("conversation").filter(room=room).first()
    if link is not None:
        return link.conversation
    try:
        with transaction.atomic():
            conversation = Conversation.objects.create(title=(agent.name if agent else str(room))[:255])
            # By id: given the room itself, a link that loses the race would stay remembered in ``room.link``.
            Link.objects.create(conversation=conversation, kind=LinkKind.ROOM, room_id=room.pk)
            return conversation
    except IntegrityError:
        return Link.objects.select_related("conversation").get(room=room).conversation


@dataclass(frozen=True, slots=True)
class Number:
    """A message's number, and what the conversation's row said when it was taken (see ``chat.services.tree``)."""

    seq: int
    portal: bool
    head_id: int | None


def take_number(conversation_id: int) -> Number:
    """Take the conversation's next number. The row stays locked until the transaction ends: numbers follow commits."""
    table = connection.ops.quote_name(Conversation._meta.db_table)
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {table} SET next_seq = next_seq + 1, last_message_at = %s WHERE id = %s "  # noqa: S608
            "RETURNING next_seq - 1, portal, head_id",
            [timezone.now(), conversation_id],
        )
        row = cursor.fetchone()
    if row is None:
        raise Conversation.DoesNotExist(f"Conversation {conversation_id} was deleted.")
    return Number(int(row[0]), bool(row[1]), row[2])


def next_seq(conversation_id: int) -> int:
    """As ``take_number``, for conversations whose messages form no tree."""
    return take_number(conversation_id).seq


def participant(
    conversation_id: int,
    *,
    kind: ParticipantKind,
    external_id: str,
    name: str = "",
    person_id: int | None = None,
    agent_id: int | None = None,
) -> Participant:
    """The participant, made when it speaks for the first time. A new display name is taken over."""
    row = _participant.first(conversation_id, str(kind), external_id[:255])
    if row is None:
        row, _ = Participant.objects.get_or_create(
            conversation_id=conversation_id,
            kind=kind,
            external_id=external_id[:255],
            defaults={
                "name": name[:255],
                "person_id": person_id if person_id is not None else _person_of(kind, external_id),
                "agent_id": agent_id,
            },
        )
    elif name and row.name != name[:255]:
        row.name = name[:255]
        row.save(update_fields=["name"])
    return row


_participant = PreparedRead(
    lambda conversation_id, kind, external_id: Participant.objects.filter(
        conversation_id=conversation_id, kind=kind, external_id=external_id
    ),
    1,
    "kind",
    "id",
)


def _person_of(kind: ParticipantKind, external_id: str) -> int | None:
    """The person whose own Matrix account this is."""
    if kind != ParticipantKind.GUEST or not external_id.startswith("@"):
        return None
    return Person.objects.filter(matrix_user_id=external_id).values_list("pk", flat=True).first()
