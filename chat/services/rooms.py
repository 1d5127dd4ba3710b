"""Which conversation a room shows, and which agent answers in it."""

from __future__ import annotations

from django.db import IntegrityError, transaction

from agents.models import Agent, Room
from chat.models import Conversation, Link, LinkKind


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
