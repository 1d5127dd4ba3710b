"""Notices: honest sentences to the people in a conversation, kept as messages so that every surface can show them."""

from __future__ import annotations

from django.utils import timezone

from chat import live
from chat.models import Message, Participant, ParticipantKind, Role
from chat.services import tree
from chat.services.conversations import participant, take_number


def notice_store(
    conversation_id: int, sentence: str, *, about: Message | None = None, speaker: Participant | None = None
) -> Message:
    """Store a notice, from ``speaker`` (an agent; default: Switchboard itself). Call it in the transaction of what it is about."""
    now = timezone.now()
    if speaker is None:
        speaker = participant(
            conversation_id, kind=ParticipantKind.GUEST, external_id="switchboard", name="Switchboard"
        )
    number = take_number(conversation_id)
    notice = Message.objects.create(
        conversation_id=conversation_id, seq=number.seq, sender=speaker, role=Role.NOTICE, text=sentence,
        transport="notice", in_reply_to=about, received_at=now, stored_at=now,
        parent_id=tree.notice_parent(number, about.pk if about is not None else None),
    )  # fmt: skip
    live.message_stored(notice, listed=number.portal)
    return notice
