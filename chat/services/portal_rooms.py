"""A conversation of the portal in its Matrix room, and a room's conversation in the portal."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from django.conf import settings

from chat.models import Conversation, Link


def place_of(conversation: Conversation) -> dict[str, Any] | None:
    """The room that shows a conversation as ``{room_id, alias, url}``; ``None`` when no room does."""
    link = Link.objects.filter(conversation=conversation, room__room_id__isnull=False).select_related("room").first()
    if link is None or link.room is None:
        return None
    where = link.room.alias or link.room.room_id or ""
    return {"room_id": link.room.room_id, "alias": link.room.alias, "url": room_url(where)}


def room_url(where: str) -> str:
    """Opens a room (alias or id) in a Matrix client."""
    return settings.MATRIX_CLIENT_URL.rstrip("/") + "/" + quote(where, safe="#!:@.")
