"""Live progress of turns through the channel layer. Rows are the truth: a reader that misses a frame asks for the text.

The in-memory layer belongs to one event loop (the web server's); layers across processes get a loop of their own here.
Publishing never waits and never fails a turn.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from channels.layers import get_channel_layer

from ops.logs import get_logger

log = get_logger(__name__)

_loop: asyncio.AbstractEventLoop | None = None
_lock = threading.Lock()
# Frames under way at once; beyond that the layer is too slow, and readers catch up from the row.
_MAX_PENDING = 1000
_pending = 0


def group_of(turn_id: int) -> str:
    """The group on which a turn's frames are published."""
    return f"turn.{turn_id}"


def use_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Name the event loop that the in-memory layer belongs to (embedded mode: the web server's)."""
    global _loop
    _loop = loop


def _publisher_loop() -> asyncio.AbstractEventLoop:
    global _loop
    with _lock:
        if _loop is None or _loop.is_closed():
            loop = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="live-publisher", daemon=True).start()
            _loop = loop
        return _loop


def publish(turn_id: int, frame: dict[str, Any]) -> None:
    """Send one frame (``delta``, ``part`` or ``turn``) to whoever follows the turn. Callable from any thread."""
    layer = get_channel_layer()
    if layer is None or not _count(1):
        return
    sending = _send(layer, group_of(turn_id), frame)
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
        await layer.group_send(group, {"type": "turn.frame", "frame": frame})
    except Exception as error:
        log.debug("live.frame_lost", error=f"{type(error).__name__}: {error}"[:200])
    finally:
        _count(-1)
