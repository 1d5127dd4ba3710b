"""Registers these parts of an import with the app below. Imported when the app is ready."""

from __future__ import annotations

from agents.importing.registry import register_part
from chat.importing import direct_rooms, requests, room_conversations

register_part(
    direct_rooms.KIND,
    direct_rooms.read,
    direct_rooms.plan,
    direct_rooms.apply,
    label="Direct rooms",
    order=40,
    tables=[direct_rooms.TABLE],
)
register_part(
    room_conversations.KIND,
    room_conversations.read,
    room_conversations.plan,
    room_conversations.apply,
    label="Conversations of rooms",
    order=50,
    tables=[room_conversations.TABLE],
)
register_part(requests.KIND, requests.read, requests.plan, requests.apply, label="Requests between agents", order=60)
