"""Stores a run of messages that were said elsewhere: as one chain, below a message of a portal conversation, without answers."""

from __future__ import annotations

from collections.abc import Sequence

from chat.models import Conversation, Message, Role


def chain_store(conversation: Conversation, messages: Sequence[Message], *, parent_id: int | None) -> int | None:
    """Number, link and insert the messages; the last one is the tip of the branch that is shown. Returns the tip's id.

    The caller holds the lock of the conversation's row, and ``conversation`` is as it is there. Notices hang beside the chain.
    """
    for number, message in enumerate(messages):
        message.conversation_id, message.seq = conversation.pk, conversation.next_seq + number
    Message.objects.bulk_create(messages)
    tip, asked = parent_id, None
    if tip is not None and messages and messages[0].role == Role.ASSISTANT:
        asked = Message.objects.filter(pk=tip, role=Role.USER).values_list("pk", flat=True).first()
    for message in messages:
        message.parent_id = tip
        if message.role == Role.ASSISTANT:
            message.in_reply_to_id = asked
        if message.role != Role.NOTICE:
            tip = message.pk
        if message.role == Role.USER:
            asked = message.pk
    Message.objects.bulk_update(messages, ["parent", "in_reply_to"], batch_size=100)
    conversation.next_seq += len(messages)
    conversation.head_id = tip
    conversation.save(update_fields=["next_seq", "head"])
    return tip
