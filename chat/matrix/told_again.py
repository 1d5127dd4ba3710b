"""What was said last, told in a room that was made again: a copy that everybody can see is one, and that nobody answers."""

from __future__ import annotations

import hashlib

from agents.matrix.content import HISTORICAL, notice_content, text_content
from agents.matrix.keys import MARKER
from agents.matrix.markdown import Rendered, render
from agents.matrix.split import split_for_events
from agents.models import Mapping, Room
from agents.services.backends import Homeserver
from agents.sync.rooms import register_sender
from chat.matrix.sync_loop import cursor_forget
from chat.models import Delivery, DeliveryState, Link, Message, MessageState, Role, SyncCursor
from ops.models import Service

# So many messages are told; all of them are kept, and readable elsewhere.
TOLD = 20
PIECES = 2
_MARKS = {MARKER: {"hop": 0, "historical": True}, HISTORICAL: True}


def tell(homeserver: Homeserver, mapping: Mapping) -> None:
    """The last messages of the room's conversation, oldest first: the agent's from its own account, people's words from Switchboard's.

    Each event bears the time at which the words were said, where the homeserver lets us set it. Transaction ids derive from the
    messages: told twice, it is the same events. Raises ``MatrixError``.
    """
    room = mapping.room
    assert room is not None
    link = Link.objects.filter(room=room).first()
    messages = _last(link.conversation_id) if link is not None else []
    if not room.room_id or not messages:
        return
    agent = mapping.account.user_id
    told = f"{_why(homeserver, room)} What was said last follows; everything is kept in Switchboard."
    content = notice_content(told, extra=_MARKS)
    homeserver.client.send(room.room_id, content, txn_id=_txn(room, "notice"), user_id=agent)
    _bring_switchboard(homeserver, room, agent)
    for message in messages:
        as_agent = message.role == Role.ASSISTANT
        text = message.text if as_agent else f"**{_plain(message.sender.name or 'Somebody')}:** {message.text}"
        at = message.said_at or message.received_at
        for number, piece in enumerate(split_for_events(text)[:PIECES]):
            homeserver.client.send(
                room.room_id,
                text_content(render(piece) if piece else Rendered(" "), extra=_MARKS),
                txn_id=_txn(room, f"{message.pk}.{number}"),
                user_id=agent if as_agent else homeserver.sender_id,
                ts=int(at.timestamp() * 1000),
            )


def _why(homeserver: Homeserver, room: Room) -> str:
    # Ids of rooms tell their server up to room version 11.
    former = room.predecessors[0].partition(":")[2]
    if former and former != homeserver.server_name:
        return f"I live on {homeserver.server_name} now; my room on {former} is no longer answered."
    return "The homeserver has lost the room that was here before, so this one was made."


def _last(conversation_id: int) -> list[Message]:
    rows = (
        Message.objects.filter(conversation_id=conversation_id)
        .exclude(role=Role.NOTICE)
        .exclude(state=MessageState.REDACTED)
        .exclude(text="")
        .select_related("sender")
        .order_by("-seq")[:TOLD]
    )
    return list(rows)[::-1]


def _bring_switchboard(homeserver: Homeserver, room: Room, agent: str) -> None:
    assert room.room_id
    register_sender(homeserver)
    homeserver.client.invite(room.room_id, homeserver.sender_id, agent)
    homeserver.client.join(room.room_id, homeserver.sender_id)
    Room.objects.filter(pk=room.pk).update(switchboard_joined=True)
    room.switchboard_joined = True


def _txn(room: Room, piece: str) -> str:
    place = hashlib.blake2b((room.room_id or "").encode(), digest_size=8).hexdigest()
    return f"sb.again.{place}.{piece}"


def _plain(name: str) -> str:
    return "".join(char for char in name if char not in "*_`[]<>\n")[:100]


def forget_homeserver(homeserver: Service, chats: list[int]) -> None:
    """The homeserver has lost its rooms. Chats that people had opened are over there; their conversations stay readable.

    People open a chat anew, and whoever has the conversation in the portal opens it in a new room from there.
    """
    for start in range(0, len(chats), 500):
        part = chats[start : start + 500]
        Delivery.objects.filter(room__in=part, state__in=[DeliveryState.QUEUED, DeliveryState.STREAMING]).update(
            state=DeliveryState.DISCARDED, error_reason="The homeserver has lost the room."
        )
        Link.objects.filter(room__in=part).delete()
    for cursor in SyncCursor.objects.filter(homeserver=homeserver):
        cursor_forget(homeserver=homeserver, user_id=cursor.user_id, reason="the homeserver was filled again")
