"""Typing notices and read receipts: pleasant, never important. They run beside everything else and are dropped under load.

An answer that comes at once needs neither: clients take an agent's own message as having read what stands before it (the
implicit receipt of matrix-js-sdk and others), so both are sent only when the answer takes longer than a moment.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable

from django.db import connection

from agents.matrix.errors import MatrixError
from agents.models import Room
from agents.services.backends import NoHomeserver, homeserver_of
from chat.matrix.state_events import account_of_direct_room
from chat.models import Delivery, Link, Turn
from ops.logs import get_logger

log = get_logger(__name__)

TYPING_AFTER = 0.4
TYPING_LASTS_MS = 30_000
TYPING_AGAIN = 20.0
RECEIPT_AFTER = 0.25
MAX_WAITING = 500


class _Lane(threading.Thread):
    """One thread that does small things when their time has come; things that were called off in the meantime are skipped."""

    def __init__(self) -> None:
        super().__init__(name="courtesy", daemon=True)
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()

    def at(self, delay: float, action: Callable[[], None]) -> None:
        with self._changed:
            if len(self._heap) >= MAX_WAITING:
                return
            entry = (time.monotonic() + delay, next(self._numbers), action)
            heapq.heappush(self._heap, entry)
            if self._heap[0] is entry:
                # Else it is awake in time for what comes before.
                self._changed.notify()

    def run(self) -> None:
        while True:
            with self._changed:
                while not self._heap or self._heap[0][0] > time.monotonic():
                    self._changed.wait(max(0.0, self._heap[0][0] - time.monotonic()) if self._heap else None)
                action = heapq.heappop(self._heap)[2]
            try:
                action()
            except (MatrixError, NoHomeserver) as error:
                log.debug("courtesy.skipped", error=str(error)[:200])
            except Exception:
                log.exception("courtesy.failed")
            finally:
                connection.close_if_unusable_or_obsolete()


_lane: _Lane | None = None
_lock = threading.Lock()
_typing: dict[int, bool] = {}
_receipts: dict[int, tuple[str, int]] = {}


def _schedule(delay: float, action: Callable[[], None]) -> None:
    global _lane
    with _lock:
        if _lane is None or not _lane.is_alive():
            _lane = _Lane()
            _lane.start()
    _lane.at(delay, action)


def typing_soon(turn: Turn) -> None:
    """Show the agent as typing when the turn still runs after a moment, and for as long as it does."""
    _typing[turn.pk] = False
    _schedule(TYPING_AFTER, lambda: _type(turn))


def forget() -> None:
    """Nobody is told any more of what was read or written."""
    _typing.clear()
    _receipts.clear()


def typing_over(turn: Turn) -> None:
    """The turn has ended."""
    if _typing.pop(turn.pk, False):
        _schedule(0.0, lambda: _set_typing(turn, False))


def _type(turn: Turn) -> None:
    if turn.pk not in _typing:
        return
    _typing[turn.pk] = True
    _set_typing(turn, True)
    if turn.pk in _typing:
        _schedule(TYPING_AGAIN, lambda: _type(turn))
    else:
        _set_typing(turn, False)


def _set_typing(turn: Turn, typing: bool) -> None:
    link = (
        Link.objects.filter(conversation_id=turn.conversation_id, room__isnull=False)
        .select_related("room__homeserver")
        .first()
    )
    mapping = getattr(turn.agent, "mapping", None)
    if link is None or link.room is None or not link.room.room_id or mapping is None:
        return
    client = homeserver_of(link.room.homeserver).client
    client.typing(link.room.room_id, mapping.account.user_id, typing, TYPING_LASTS_MS)


def read_soon(room: Room, event_id: str, message_id: int) -> None:
    """Show that a message was read, unless the answer overtakes it. Only the newest of a room is sent."""
    new = room.pk not in _receipts
    _receipts[room.pk] = (event_id, message_id)
    if new:
        _schedule(RECEIPT_AFTER, lambda: _read(room))


def _read(room: Room) -> None:
    waiting = _receipts.pop(room.pk, None)
    mapping = getattr(room, "mapping", None)
    account = mapping.account if mapping is not None else account_of_direct_room(room)
    if waiting is None or account is None or not room.room_id:
        return
    event_id, message_id = waiting
    if Delivery.objects.filter(message__in_reply_to_id=message_id, state="sent").exists():
        return
    homeserver_of(room.homeserver).client.read_receipt(room.room_id, event_id, account.user_id)
