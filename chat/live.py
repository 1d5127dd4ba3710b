"""What happens just now, through the channel layer: progress of turns, new messages, changes in people's lists.

Rows are the truth: a reader that misses a frame finds what it told in the rows. So frames carry ids and pieces of text, never the only
copy of anything. Publishing never waits and never fails whoever publishes.

Frames of a conversation (``publish``):

    {"type": "delta", "turn", "fence", "offset", "text"}                  text of an answer, at its place in the raw text
    {"type": "reasoning", "turn", "fence", "index", "start", "offset", "text"}    see ``chat.turns.stream``
    {"type": "part", "turn", "fence", "index", "part"}                    a tool call or its result
    {"type": "turn", "turn", "state", "message"}                          a turn changed
    {"type": "message", "message", "seq"}                                 a message was stored or changed
    {"type": "changed"}                                                   title, head or revision

and those of a person (``publish_person``): ``{"type": "conversation", "conversation"}``, ``{"type": "access"}``.

The in-memory layer belongs to one event loop (the web server's); layers across processes get a loop of their own here.
"""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import Any

from channels.layers import get_channel_layer
from django.db import transaction

from chat.models import Membership, Message, Turn
from ops.logs import get_logger
from ops.prepared import PreparedRead

log = get_logger(__name__)

_loop: asyncio.AbstractEventLoop | None = None
_lock = threading.Lock()
# Frames under way at once; beyond that the layer is too slow, and readers catch up from the rows.
_MAX_PENDING = 1000
_pending = 0

# The handler's name that channels wants in every message of a layer.
HANDLER = "live.frame"


def group_of(conversation_id: int) -> str:
    """The group on which a conversation's frames are published."""
    return f"conversation.{conversation_id}"


def group_of_person(person_id: int) -> str:
    """The group on which a person's frames are published."""
    return f"person.{person_id}"


def use_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Name the event loop that the in-memory layer belongs to (embedded mode: the web server's)."""
    global _loop
    _loop = loop


def publish(conversation_id: int, frame: dict[str, Any]) -> None:
    """Send one frame to whoever follows the conversation. Callable from any thread."""
    _publish(group_of(conversation_id), frame)


def publish_person(person_id: int, frame: dict[str, Any]) -> None:
    """Send one frame to whatever a person has open. Callable from any thread."""
    _publish(group_of_person(person_id), frame)


def message_stored(message: Message, *, listed: bool = True) -> None:
    """Tell that a message was stored or changed, once the present transaction is committed (or at once without one).

    ``listed`` is false when the conversation is certainly in nobody's list: then it is not looked who that might be.
    """
    transaction.on_commit(partial(_tell_message, message.conversation_id, message.pk, message.seq, listed))


def turn_changed(turn: Turn, *, answered: bool = False) -> None:
    """Tell that a turn changed, once the present transaction is committed (or at once without one).

    ``answered``: it left a message in a conversation of the portal, which is told with it.
    """
    transaction.on_commit(
        partial(_tell_turn, turn.conversation_id, turn.pk, str(turn.state), turn.message_id, answered)
    )


def conversation_changed(conversation_id: int) -> None:
    """Tell that title, head or revision of a conversation changed, once the present transaction is committed."""
    transaction.on_commit(partial(_tell_conversation, conversation_id))


def _tell_message(conversation_id: int, message_id: int, seq: int, listed: bool) -> None:
    publish(conversation_id, {"type": "message", "message": message_id, "seq": seq})
    if listed:
        _tell_members(conversation_id)


def _tell_turn(conversation_id: int, turn_id: int, state: str, message_id: int, answered: bool) -> None:
    publish(conversation_id, {"type": "turn", "turn": turn_id, "state": state, "message": message_id})
    if answered:
        _tell_members(conversation_id)


def _tell_conversation(conversation_id: int) -> None:
    publish(conversation_id, {"type": "changed"})
    _tell_members(conversation_id)


def _tell_members(conversation_id: int) -> None:
    """The lists of those who have the conversation in the portal. One small read; nobody for one that is only in a room."""
    try:
        people = _members.all(conversation_id)
    except Exception as error:
        log.debug("live.members_unknown", error=f"{type(error).__name__}: {error}"[:200])
        return
    for person_id in people:
        publish_person(person_id, {"type": "conversation", "conversation": conversation_id})


_members = PreparedRead(
    lambda conversation_id: Membership.objects.filter(conversation_id=conversation_id, removed_at=None).values_list(
        "person_id", flat=True
    ),
    1,
)


def _publisher_loop() -> asyncio.AbstractEventLoop:
    global _loop
    with _lock:
        if _loop is None or _loop.is_closed():
            loop = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="live-publisher", daemon=True).start()
            _loop = loop
        return _loop


def _publish(group: str, frame: dict[str, Any]) -> None:
    layer = get_channel_layer()
    if layer is None or not _count(1):
        return
    sending = _send(layer, group, frame)
    try:
        asyncio.run_coroutine_threadsafe(sending, _publisher_loop())
    except RuntimeError:
        # The loop is closing: the process is going down.
        sending.close()
        _count(-1)


def _count(change: int) -> bool:
    """Note a frame more or less under way. False when there are too many. Threads and the loop count at once, hence the lock."""
    global _pending
    with _lock:
        if change > 0 and _pending >= _MAX_PENDING:
            return False
        _pending += change
    return True


async def _send(layer: Any, group: str, frame: dict[str, Any]) -> None:
    try:
        await layer.group_send(group, {"type": HANDLER, "group": group, "frame": frame})
    except Exception as error:
        log.debug("live.frame_lost", error=f"{type(error).__name__}: {error}"[:200])
    finally:
        _count(-1)
