"""How long what people and agents said is kept: for ever, until an operator sets days."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path

from django.conf import settings
from django.db.models import Exists, OuterRef, Q, QuerySet, Sum, TextField
from django.db.models.functions import Cast, Length

from chat.models import (
    AccessAttempt,
    Attachment,
    Conversation,
    Delivery,
    DeliveryState,
    Link,
    Membership,
    Message,
    Turn,
)
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
    # The tip of the branch that is shown stays as well: without it nothing would be. What goes stands above it in its branch.
    tip = Conversation.objects.filter(head=OuterRef("pk"))
    settled = Message.objects.filter(stored_at__lt=before, conversation__hold="").exclude(Exists(tip))
    return (
        settled.filter(Exists(newer))
        .exclude(Exists(open_turn))
        .exclude(Exists(open_delivery))
        .exclude(Exists(open_answer))
    )


def size_of_messages(rows: QuerySet[Message]) -> int:
    """About how many bytes go: texts, what came beside them, files."""
    found = rows.aggregate(text=Sum(Length("text")), parts=Sum(Length(Cast("parts", TextField()))))
    return (
        int(found["text"] or 0)
        + int(found["parts"] or 0)
        + _size_of_files(Attachment.objects.filter(message__in=rows.values("pk")))
    )


def files_of_messages(rows: Sequence[Message]) -> Iterable[Path]:
    """The files that were sent with them."""
    return _places(Attachment.objects.filter(message__in=rows))


def old_conversations(before: datetime) -> QuerySet[Conversation]:
    """Conversations of the portal in which nothing was said since a time, that no room shows, nobody pinned, and nothing holds."""
    said = Q(last_message_at__lt=before) | Q(last_message_at=None, created_at__lt=before)
    room = Link.objects.filter(conversation=OuterRef("pk"), room__isnull=False)
    pinned = Membership.objects.filter(conversation=OuterRef("pk"), pinned_at__isnull=False, removed_at=None)
    open_turn = Turn.objects.filter(conversation=OuterRef("pk"), state__in=OPEN_TURN_STATES)
    open_delivery = Delivery.objects.filter(message__conversation=OuterRef("pk"), state__in=_UNSETTLED)
    rows = Conversation.objects.filter(said, portal=True, hold="")
    return rows.exclude(Exists(room)).exclude(Exists(pinned)).exclude(Exists(open_turn)).exclude(Exists(open_delivery))


def size_of_conversations(rows: QuerySet[Conversation]) -> int:
    """About how many bytes go with them."""
    keys = rows.values("pk")
    return size_of_messages(Message.objects.filter(conversation__in=keys))


def files_of_conversations(rows: Sequence[Conversation]) -> Iterable[Path]:
    """The files that were sent in them."""
    return _places(Attachment.objects.filter(conversation__in=rows))


def _size_of_files(rows: QuerySet[Attachment]) -> int:
    return int(rows.aggregate(size=Sum("size"))["size"] or 0)


def _places(rows: QuerySet[Attachment]) -> Iterable[Path]:
    root = Path(settings.DATA_DIR) / "attachments"
    return [root / path for path in rows.values_list("path", flat=True).distinct()]


register_retention(
    "messages",
    label="messages",
    rows=old_messages,
    time_field="stored_at",
    size=size_of_messages,
    files=files_of_messages,
)
register_retention(
    "conversations",
    label="conversations of the portal",
    rows=old_conversations,
    time_field="created_at",
    size=size_of_conversations,
    files=files_of_conversations,
)


def old_attempts(before: datetime) -> QuerySet[AccessAttempt]:
    """Attempts to get in from before a time."""
    return AccessAttempt.objects.filter(at__lt=before)


register_retention(
    "attempts", label="attempts to get in", rows=old_attempts, time_field="at", default_days=90, automatic=True
)
