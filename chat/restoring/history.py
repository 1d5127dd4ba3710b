"""Takes in as history what a room says was said before a restore: nothing of it is answered, shown again or counted.

Rows that went back in time lack it. The first walk through a room after the restore finds it, in order, before anything newer is taken
in. What the backup knows already is not stored twice: people's words by their event, ours by the rows that their marker names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from agents.models import Agent, Room
from agents.services.backends import Homeserver, homeserver_of
from chat import live
from chat.deliveries.outbox import MATRIX, room_lane
from chat.matrix import encrypted, one_event, state_events
from chat.matrix.report import refuse
from chat.matrix.whose import agent_id_of, is_ours
from chat.models import (
    Conversation,
    Delivery,
    DeliveryState,
    Message,
    MessageState,
    Participant,
    ParticipantKind,
    Person,
    Role,
    Turn,
    TurnState,
)
from chat.restoring.past import Past, Said, is_before, mirrored, number, put_together, split_at, text_of
from chat.services import messages as message_services
from chat.services import tree
from chat.services.conversations import conversation_of, participant, take_number
from ops.logs import get_logger
from ops.models import RestoreEpoch

log = get_logger(__name__)

# Why something was not answered (``Message.guard``), and how a turn or delivery ended.
RESTORED = "restored"
SENTENCE = "It is from before a backup was restored; nothing old is answered or sent again."
AT_ONCE = 100
# Our clock and the homeserver's, when a row is compared with the event that was made of it.
_TOLERANCE = timedelta(minutes=5)


def split(room: Room, found: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A room's events: what is history, and what is to be taken in as always."""
    if room.history_until is None:
        return [], list(found)
    return split_at(found, room.history_until + homeserver_of(room.homeserver).client.ahead)


def is_old(event: dict[str, Any], room: Room) -> bool:
    """Whether an event whose key came late is history: it was noted so when its room was read, or is from before the backup's cut.

    One that came while our own keys could not be used was not looked at: it counts as old up to the restore itself.
    """
    epoch = RestoreEpoch.objects.order_by("pk").first()
    if epoch is None or epoch.cut_at is None or epoch.at is None:
        return False
    reason = encrypted.reason_of(str(event.get("event_id") or ""))
    line = epoch.at if reason == encrypted.NO_KEYS else epoch.cut_at
    return reason == encrypted.PAST or is_before(event, line + homeserver_of(room.homeserver).client.ahead)


def is_over(room: Room) -> None:
    """The room has been walked through: what comes from now on is of this life."""
    if room.history_until is not None:
        Room.objects.filter(pk=room.pk, history_until=room.history_until).update(history_until=None)
        room.history_until = None


def take_in(room: Room, found: Sequence[dict[str, Any]], agent: Agent | None) -> int:
    """Store what was said. Returns how many messages are new. Safe to repeat. Raises ``MatrixError`` and ``DatabaseError``."""
    homeserver = homeserver_of(room.homeserver)
    opened = list(_opened(room, [event for event in found if not _is_somebody_elses(event, room)], homeserver))
    past = put_together(opened, lambda sender: is_ours(sender, room.homeserver))
    if past.said:
        writer = _Writer(room, homeserver, agent)
        for start in range(0, len(past.said), AT_ONCE):
            with transaction.atomic():
                for said in past.said[start : start + AT_ONCE]:
                    writer.write(said)
        new = writer.new
    else:
        new = 0
    _apply(past)
    if new:
        log.info("restored.history", room=room.room_id, messages=new)
    return new


def _is_somebody_elses(event: dict[str, Any], room: Room) -> bool:
    """What a room says from before it was taken over, or from before its words were removed, comes in with no walk: this one neither."""
    line = room.taken_over_at
    return line is not None and not isinstance(event.get("state_key"), str) and is_before(event, line)


def _opened(room: Room, found: Sequence[dict[str, Any]], homeserver: Homeserver) -> Iterator[dict[str, Any]]:
    """Message events in the open; state is noted on the way, and nobody is told anything about it once more."""
    for event in found:
        kind = event.get("type")
        if isinstance(event.get("state_key"), str):
            if kind == "m.room.encryption":
                _note_encryption(room)
            else:
                state_events.apply(event, room)
        elif kind == "m.room.encrypted":
            _note_encryption(room)
            clear, reason, sentence = encrypted.opened(event, room, room.homeserver)
            if clear is not None:
                yield clear
            elif not (homeserver.client_mode and is_ours(str(event.get("sender")), room.homeserver)):
                place, sender = str(event.get("room_id") or ""), str(event.get("sender") or "")
                event_id = str(event.get("event_id") or "")
                refuse(event_id, place, sender, reason, sentence)
                encrypted.is_of_the_past(event_id)
        else:
            yield event


def _note_encryption(room: Room) -> None:
    if not room.encrypted:
        Room.objects.filter(pk=room.pk).update(encrypted=True)
        room.encrypted = True


def _apply(past: Past) -> None:
    """What changed messages that were known before; those that read so already are left alone."""
    known = Message.objects.filter(transport=MATRIX)
    for event_id, sender, text in past.edits:
        if known.filter(external_id=event_id).exclude(text=text).exists():
            message_services.message_edit(transport=MATRIX, external_id=event_id, sender_id=sender, text=text)
    for event_id in past.redactions:
        if known.filter(external_id=event_id).exclude(state=MessageState.REDACTED).exists():
            message_services.message_redact(transport=MATRIX, external_id=event_id)


class _Writer:
    """Writes into one room's conversation."""

    def __init__(self, room: Room, homeserver: Homeserver, agent: Agent | None) -> None:
        self.room, self.homeserver, self.agent = room, homeserver, agent
        self.conversation: Conversation = conversation_of(room, agent)
        self.new = 0
        self._asked: Message | None = None

    def write(self, said: Said) -> None:
        known = Message.objects.filter(transport=MATRIX, external_id__in=said.ids).first()
        if known is None and said.own:
            known = self._row(said)
        if known is not None:
            self._note_sent(known, said)
            if known.role == Role.USER:
                self._asked = known
            return
        if said.own:
            self._write_own(said)
        else:
            self._write_persons(said)

    def _row(self, said: Said) -> Message | None:
        """The message that the events were made of, where the backup has it."""
        asked_for = number(said.marker, "message")
        if not asked_for:
            return self._answer(said)
        row = Message.objects.filter(pk=asked_for, conversation=self.conversation).first()
        # The same number may stand for something else by now: a row cannot be younger than the event that names it.
        if row is None or (said.told_at is not None and row.stored_at > said.told_at + _TOLERANCE):
            return None
        return row

    def _answer(self, said: Said) -> Message | None:
        """The answer of which the room shows a preview only: its last edit never got there, and what there is names the turn."""
        asked_for = number(said.marker, "turn")
        turn = Turn.objects.filter(pk=asked_for, conversation=self.conversation).first() if asked_for else None
        if turn is None or (said.at is not None and turn.created_at > said.at + _TOLERANCE):
            return None
        return turn.reply

    def _note_sent(self, message: Message, said: Said) -> None:
        """It stands in the room: a delivery that the backup knows as waiting has been made since."""
        if not said.own:
            return
        rows = Delivery.objects.filter(message=message, room=self.room, error_code=RESTORED)
        rows.filter(state=DeliveryState.DISCARDED).update(
            state=DeliveryState.SENT,
            sent_at=said.at or timezone.now(),
            shown=[{"txn": "", "event_id": one} for one in said.ids],
            error_code="",
            error_reason="",
        )

    def _write_persons(self, said: Said) -> None:
        piece, server = said.pieces[0], self.room.homeserver
        agent_id = agent_id_of(piece.sender, server)
        ours = agent_id is None and is_ours(piece.sender, server)
        if ours or piece.is_notice or (agent_id is not None and agent_id == getattr(self.agent, "pk", None)):
            # Another program's words under one of our names, or about itself: never a message, now as then.
            return
        text = text_of(said, one_event.text_of)
        if not text.strip() and piece.media is None:
            return
        speaker = participant(
            self.conversation.pk,
            kind=ParticipantKind.AGENT if agent_id is not None else ParticipantKind.GUEST,
            external_id=str(agent_id) if agent_id is not None else piece.sender,
            agent_id=agent_id,
            name=one_event.name_of(self.room, piece.sender),
        )
        self._asked = self._insert(said, speaker, Role.USER, text, parts=one_event.parts_of(piece))

    def _write_own(self, said: Said) -> None:
        text = text_of(said, one_event.text_of)
        agent_id = agent_id_of(said.sender, self.room.homeserver)
        if said.is_notice or (agent_id is None and said.sender != self.homeserver.sender_id):
            self._insert(said, self._switchboard(), Role.NOTICE, text)
        elif agent_id is None:
            name, words = mirrored(text)
            speaker = self._quoted(name) if name else self._switchboard()
            role = Role.USER if name else Role.NOTICE
            message = self._insert(said, speaker, role, words or text, parts=one_event.parts_of(said.pieces[0]))
            self._asked = message if name else self._asked
        else:
            self._write_answer(said, agent_id, text)

    def _write_answer(self, said: Said, agent_id: int, text: str) -> None:
        turn = self._turn(said)
        asked = turn.message if turn is not None else self._asked
        speaker = participant(
            self.conversation.pk, kind=ParticipantKind.AGENT, external_id=str(agent_id), agent_id=agent_id
        )
        if not speaker.name:
            speaker = participant(
                self.conversation.pk,
                kind=ParticipantKind.AGENT,
                external_id=str(agent_id),
                name=one_event.name_of(self.room, said.sender),
            )
        answer = self._insert(said, speaker, Role.ASSISTANT, text, asked=asked)
        delivery = self._delivery_of(turn)
        if delivery is not None:
            delivery.message = answer
            delivery.save(update_fields=["message"])
            self._note_sent(answer, said)
        if turn is not None:
            # It was under way at the cut, and was answered before the restore.
            Turn.objects.filter(pk=turn.pk, reply=None).update(
                reply=answer, state=TurnState.DONE, partial="", partial_parts=[], error_code="", error_reason=""
            )

    def _turn(self, said: Said) -> Turn | None:
        """The turn that was answered, if the backup knows it as an open one."""
        asked_for = number(said.marker, "turn")
        if not asked_for:
            return None
        rows = Turn.objects.filter(pk=asked_for, conversation=self.conversation, reply=None)
        # One that had been given up may have been taken up again by an operator since.
        rows = rows.filter(
            Q(error_code=RESTORED) | Q(state__in=(TurnState.FAILED, TurnState.TIMED_OUT, TurnState.DEAD))
        )
        return rows.select_related("message").first()

    def _delivery_of(self, turn: Turn | None) -> Delivery | None:
        """What was shown of the answer when the cut was made."""
        if turn is None:
            return None
        return Delivery.objects.filter(
            turn=turn, lane=room_lane(self.room.pk), error_code=RESTORED, message=None
        ).first()

    def _insert(
        self,
        said: Said,
        speaker: Participant,
        role: Role,
        text: str,
        *,
        parts: list[dict[str, Any]] | None = None,
        asked: Message | None = None,
    ) -> Message:
        now = timezone.now()
        taken = take_number(self.conversation.pk)
        replied = said.pieces[0].reply_to
        if asked is None and replied:
            asked = Message.objects.filter(
                conversation=self.conversation, transport=MATRIX, external_id=replied
            ).first()
        parent = taken.head_id if taken.portal else None
        message = Message.objects.create(
            conversation=self.conversation,
            seq=taken.seq,
            sender=speaker,
            role=role,
            guard=RESTORED if role == Role.USER else "",
            text=text,
            parts=parts or [],
            transport=MATRIX,
            external_id=said.ids[0],
            in_reply_to=asked,
            parent_id=parent,
            said_at=said.at,
            received_at=said.at or now,
            stored_at=now,
        )
        if taken.portal and role != Role.NOTICE:
            tree.head_moved(self.conversation.pk, message.pk)
        live.message_stored(message, listed=taken.portal)
        self.new += 1
        return message

    def _switchboard(self) -> Participant:
        kind = ParticipantKind.GUEST
        return participant(self.conversation.pk, kind=kind, external_id="switchboard", name="Switchboard")

    def _quoted(self, name: str) -> Participant:
        """Somebody who spoke elsewhere and was quoted in the room: the person of that name where there is one, else just the name."""
        people = list(Person.objects.filter(display_name=name)[:2]) or list(Person.objects.filter(username=name)[:2])
        if len(people) == 1:
            person = people[0]
            return participant(
                self.conversation.pk,
                kind=ParticipantKind.PERSON,
                external_id=person.username,
                name=str(person),
                person_id=person.pk,
            )
        return participant(self.conversation.pk, kind=ParticipantKind.GUEST, external_id=f"quoted:{name}", name=name)
