"""Puts something into the outbox. Must be called inside the transaction that makes what it delivers."""

from __future__ import annotations

from django.utils import timezone

from agents.models import Account, Room
from chat.models import Conversation, Delivery, DeliveryState, Message, ParticipantKind, Turn
from chat.services.conversations import participant
from chat.services.notices import notice_store
from ops.quick_sql import insert

MATRIX = "matrix"


def room_lane(room_pk: int) -> str:
    """Deliveries to one room are sent one after the other."""
    return f"room:{room_pk}"


def reply(turn: Turn, message: Message, room: Room, account: Account | None, *, previewed: bool = True) -> Delivery:
    """An agent's answer to a room; completes the row of a preview that already stands there, if there may be one."""
    now = timezone.now()
    lane = room_lane(room.pk)
    preview = (
        Delivery.objects.filter(turn=turn, lane=lane, speak_as="agent", notice=False).first() if previewed else None
    )
    if preview is not None:
        return _complete(preview, message)
    fresh = Delivery(
        message=message, turn=turn, target=MATRIX, room=room, account=account, speak_as="agent",
        lane=lane, not_before=now, created_at=now,
    )  # fmt: skip
    return insert(fresh)


def _complete(preview: Delivery, message: Message) -> Delivery:
    preview.message, preview.state, preview.attempts = message, DeliveryState.QUEUED, 0
    preview.not_before, preview.sent_at = max(timezone.now(), preview.not_before), None
    preview.error_code = preview.error_reason = ""
    preview.save(update_fields=["message", "state", "attempts", "not_before", "sent_at", "error_code", "error_reason"])
    return preview


def mirror(message: Message, room: Room) -> Delivery:
    """A person's words from elsewhere (portal, API, command line), shown in the room by Switchboard's own account."""
    now = timezone.now()
    return Delivery.objects.create(
        message=message, target=MATRIX, room=room, speak_as="switchboard",
        lane=room_lane(room.pk), not_before=now, created_at=now,
    )  # fmt: skip


def notice(
    conversation: Conversation,
    room: Room,
    sentence: str,
    *,
    about: Message | None = None,
    turn: Turn | None = None,
    account: Account | None = None,
) -> Delivery:
    """One honest sentence to the people in the room. Kept as a message, so that every surface can show it."""
    now = timezone.now()
    speaker = (
        participant(
            conversation.pk,
            kind=ParticipantKind.AGENT,
            external_id=str(turn.agent_id),
            name=turn.agent.name,
            agent_id=turn.agent_id,
        )
        if turn is not None
        else None
    )
    message = notice_store(conversation.pk, sentence, about=about, speaker=speaker)
    preview = (
        Delivery.objects.filter(turn=turn, lane=room_lane(room.pk), speak_as="agent", notice=False).first()
        if turn is not None
        else None
    )
    if preview is not None:
        # Part of an answer stands in the room already: the sentence follows it in the same event.
        return _complete(preview, message)
    return Delivery.objects.create(
        message=message, turn=turn, target=MATRIX, room=room, account=account, notice=True,
        speak_as="agent" if account else "switchboard", lane=room_lane(room.pk), not_before=now, created_at=now,
    )  # fmt: skip
