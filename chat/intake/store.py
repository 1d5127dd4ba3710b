"""Writes what came in: messages in order, turns for those to be answered, deliveries for places that have not seen them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from django.db import IntegrityError, transaction
from django.utils import timezone

from agents.models import Agent, Room
from chat import live
from chat.deliveries import outbox
from chat.intake.guards import apply_guards
from chat.intake.incoming import Incoming
from chat.models import (
    Attachment,
    Conversation,
    Message,
    MessageState,
    Participant,
    ParticipantKind,
    Role,
    Turn,
)
from chat.services import approvals, tree
from chat.services.conversations import participant, take_number
from chat.services.notices import notice_store
from chat.services.usage import Use, count
from chat.turns.files import cannot_take, mark
from chat.turns.lanes import lane_of
from chat.wakeup import wake_deliveries, wake_turns
from ops.quick_sql import insert

FEW = 3


class AttachmentsGone(Exception):
    """Files of a message are not there any more, or were sent with another one. Nothing was stored."""


@dataclass(slots=True)
class Place:
    """Where messages came in: the conversation, the agent who is to answer (or none), and the room if it is one."""

    conversation: Conversation
    agent: Agent | None
    room: Room | None = None


@dataclass(slots=True)
class Stored:
    """What became of a batch. ``repeated`` counts messages that were here already."""

    messages: list[Message] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    repeated: int = 0


def store(batch: Sequence[tuple[Place, Incoming]]) -> Stored:
    """Store a batch in one transaction, in the order given. The same (transport, external id) twice is one message."""
    for attempt in range(3):
        try:
            with transaction.atomic():
                # Nearly always all of it is new: a few are not looked up first, but when the database says so.
                return _store(batch, _known(batch) if attempt or len(batch) > FEW else set())
        except IntegrityError:
            # Another process stored one of these at the same moment; the next look finds it.
            if attempt == 2:
                raise
    raise AssertionError("unreachable")


def _store(batch: Sequence[tuple[Place, Incoming]], known: set[tuple[str, str]]) -> Stored:
    result = Stored()
    now = timezone.now()
    wake: list[int] = []
    notices: list[int] = []
    uses: list[Use] = []
    for place, incoming in batch:
        key = (incoming.transport, incoming.external_id)
        if incoming.external_id and key in known:
            result.repeated += 1
            continue
        known.add(key)
        sender = participant(
            place.conversation.pk,
            kind=incoming.sender_kind,
            external_id=incoming.sender_id,
            name=incoming.sender_name,
            person_id=incoming.person_id,
            agent_id=incoming.sender_agent_id,
        )
        incoming.person_id = sender.person_id
        decision = _decision(place, incoming)
        if decision is not None:
            incoming.guard = "command"
        apply_guards(incoming, conversation=place.conversation, agent=place.agent, room=place.room)
        number = take_number(place.conversation.pk)
        message = insert(
            Message(
                conversation=place.conversation,
                seq=number.seq,
                sender=sender,
                role=Role.USER,
                state=MessageState.HELD if incoming.guard else MessageState.STORED,
                guard=incoming.guard,
                text=incoming.text,
                parts=[*incoming.parts, mark(len(incoming.attachments))] if incoming.attachments else incoming.parts,
                transport=incoming.transport,
                external_id=incoming.external_id,
                in_reply_to=_answered(place.conversation.pk, incoming),
                parent_id=(incoming.parent_id if incoming.branched else number.head_id) if number.portal else None,
                hop=incoming.hop,
                said_at=incoming.said_at,
                received_at=incoming.received_at,
                stored_at=now,
            )
        )
        if number.portal:
            tree.grown(message, number)
        if incoming.attachments:
            files = _attach(incoming.attachments, message)
            if not incoming.guard and place.agent is not None:
                incoming.notice = cannot_take(place.agent, files)
        result.messages.append(message)
        live.message_stored(message, listed=number.portal)
        if decision is not None:
            turn, (approve, reason) = decision
            approvals.decide_all(turn=turn, approve=approve, reason=reason, actor=_actor(sender))
        if not incoming.guard and place.agent is not None:
            turn = insert(
                Turn(
                    conversation=place.conversation,
                    agent=place.agent,
                    message=message,
                    seq=message.seq,
                    lane=lane_of(place.agent, place.conversation.pk),
                    not_before=now,
                    created_at=now,
                )
            )
            result.turns.append(turn)
            wake.append(turn.pk)
            uses.append(Use(sender.person_id, place.agent.pk, messages=1))
        if incoming.mirror and place.room is not None:
            notices.append(outbox.mirror(message, place.room).pk)
        if incoming.notice and place.room is not None:
            account = place.agent.account if place.agent is not None else None
            told = outbox.notice(place.conversation, place.room, incoming.notice, about=message, account=account)
            notices.append(told.pk)
        elif incoming.notice and number.portal:
            notice_store(place.conversation.pk, incoming.notice, about=message)
    count(uses)
    if wake:
        transaction.on_commit(lambda: wake_turns(wake))
    if notices:
        transaction.on_commit(lambda: wake_deliveries(notices))
    return result


def _decision(place: Place, incoming: Incoming) -> tuple[Turn, tuple[bool, str]] | None:
    """``!approve`` and ``!deny …`` of somebody in the room answer a turn that waits for it; anywhere else they are words as any other."""
    # "command": it was found to be one before, in a transaction that had to be repeated.
    if (
        not incoming.text.startswith("!")
        or incoming.guard not in {"", "command"}
        or incoming.sender_kind == ParticipantKind.AGENT
    ):
        return None
    word = approvals.word_in(incoming.text)
    turn = approvals.waiting_in(place.conversation.pk) if word is not None else None
    return (turn, word) if turn is not None and word is not None else None


def _actor(sender: Participant) -> str:
    """What the audit log shows of somebody who decided in a conversation."""
    return f"person:{sender.person.username}" if sender.person is not None else f"guest:{sender.external_id}"


def _attach(ids: Sequence[UUID], message: Message) -> list[Attachment]:
    """The files belong to the message from now on; returns them. Raises ``AttachmentsGone``."""
    unsent = Attachment.objects.filter(pk__in=ids, message=None)
    if unsent.update(message=message, conversation_id=message.conversation_id) != len(ids):
        raise AttachmentsGone
    return list(message.attachments.all())


def _known(batch: Sequence[tuple[Place, Incoming]]) -> set[tuple[str, str]]:
    ids = [incoming.external_id for _, incoming in batch if incoming.external_id]
    if not ids:
        return set()
    transports = {incoming.transport for _, incoming in batch}
    return set(
        Message.objects.filter(transport__in=transports, external_id__in=ids).values_list("transport", "external_id")
    )


def _answered(conversation_id: int, incoming: Incoming) -> Message | None:
    """The message that this one replies to, if it is known here."""
    if not incoming.in_reply_to:
        return None
    return Message.objects.filter(
        conversation_id=conversation_id, transport=incoming.transport, external_id=incoming.in_reply_to
    ).first()
