"""Legal holds: while one is on a conversation, nothing of it is removed, neither for its age nor with its people."""

from __future__ import annotations

from django.core.exceptions import ValidationError
from django.db import transaction

from chat.models import Conversation
from ops.services.audit import record


def conversation_hold(*, conversation: Conversation, reason: str, actor: str) -> Conversation:
    """Keep a conversation whatever happens, and say why. Raises ``ValidationError`` without a reason."""
    reason = " ".join(reason.split())[:500]
    if not reason:
        raise ValidationError({"reason": ["Say why it is held."]})
    with transaction.atomic():
        row = Conversation.objects.select_for_update().get(pk=conversation.pk)
        if row.hold != reason:
            Conversation.objects.filter(pk=row.pk).update(hold=reason)
            record(
                actor=actor,
                action="conversation.held",
                target=row,
                message=reason,
                before={"hold": row.hold},
                after={"hold": reason},
            )
    conversation.hold = reason
    return conversation


def conversation_release(*, conversation: Conversation, actor: str) -> Conversation:
    """Let the rules of retention apply to it again."""
    with transaction.atomic():
        row = Conversation.objects.select_for_update().get(pk=conversation.pk)
        if row.hold:
            Conversation.objects.filter(pk=row.pk).update(hold="")
            record(
                actor=actor, action="conversation.released", target=row, before={"hold": row.hold}, after={"hold": ""}
            )
    conversation.hold = ""
    return conversation
