"""How long what people and agents said is kept: for ever, until an operator sets days."""

from __future__ import annotations

from datetime import datetime

from django.db.models import Exists, OuterRef, QuerySet

from chat.models import AccessAttempt, Delivery, DeliveryState, Message, Turn
from chat.models.turn import OPEN_TURN_STATES
from ops.retention import register_retention

# A dead letter waits for an operator.
_UNSETTLED = (DeliveryState.STREAMING, DeliveryState.QUEUED, DeliveryState.RUNNING, DeliveryState.DEAD)


def old_messages(before: datetime) -> QuerySet[Message]:
    """Messages from before a time that are settled, except each conversation's newest: from there a room's history is walked on."""
    newer = Message.objects.filter(conversation=OuterRef("conversation"), seq__gt=OuterRef("seq"))
    open_turn = Turn.objects.filter(message=OuterRef("pk"), state__in=OPEN_TURN_STATES)
    open_delivery = Delivery.objects.filter(message=OuterRef("pk"), state__in=_UNSETTLED)
    # Its answer's delivery goes with the turn, and so with the question.
    open_answer = Delivery.objects.filter(turn__message=OuterRef("pk"), state__in=_UNSETTLED)
    settled = Message.objects.filter(stored_at__lt=before)
    return (
        settled.filter(Exists(newer))
        .exclude(Exists(open_turn))
        .exclude(Exists(open_delivery))
        .exclude(Exists(open_answer))
    )


register_retention("messages", label="messages", rows=old_messages, time_field="stored_at")


def old_attempts(before: datetime) -> QuerySet[AccessAttempt]:
    """Attempts to get in from before a time."""
    return AccessAttempt.objects.filter(at__lt=before)


register_retention(
    "attempts", label="attempts to get in", rows=old_attempts, time_field="at", default_days=90, automatic=True
)
