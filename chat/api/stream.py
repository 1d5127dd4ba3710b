"""Server-sent events of a turn: live frames where they come, the row at least once a second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from channels.layers import get_channel_layer
from django.db import close_old_connections

from chat import live
from chat.turns.follow import Event, Follower, Row, read_row
from ops.api.answers import to_json
from ops.api.problems import AUTH_REVOKED
from ops.logs import get_logger

log = get_logger(__name__)

POLL_SECONDS = 0.9
# After a gap the row is read at once, but not more often than this.
LEAST_BETWEEN_READS = 0.1
HEARTBEAT_SECONDS = 15.0

# All streams share a few threads, and with them a few database connections.
_pool = ThreadPoolExecutor(max_workers=4, thread_name_prefix="streams")


class TurnStream:
    """One client that follows one turn."""

    def __init__(
        self,
        turn_id: int,
        conversation_id: int,
        *,
        start: int = 0,
        fence: int | None = None,
        still_allowed: Callable[[], bool] = lambda: True,
    ) -> None:
        self.turn_id = turn_id
        self._group = live.group_of(conversation_id)
        self._still_allowed = still_allowed
        self._follower = Follower(turn_id, sent=start, fence=fence)
        self._frames: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def events(self) -> AsyncIterator[bytes]:
        """The body of the answer. Subscribes before it reads the row, so that nothing falls between the two."""
        layer = get_channel_layer()
        channel, pump = "", None
        try:
            if layer is not None:
                channel = await layer.new_channel()
                await layer.group_add(self._group, channel)
                pump = asyncio.create_task(self._pump(layer, channel))
            async for event in self._follow():
                yield event
        finally:
            if pump is not None:
                pump.cancel()
                with suppress(Exception):
                    await layer.group_discard(self._group, channel)

    async def _pump(self, layer: Any, channel: str) -> None:
        # A layer may end the subscription when waiting for it is cancelled, so nobody waits for it with a time limit.
        while True:
            try:
                message = await layer.receive(channel)
            except asyncio.CancelledError:
                raise
            except Exception as error:
                log.debug("stream.layer_failed", error=f"{type(error).__name__}: {error}"[:200])
                await asyncio.sleep(POLL_SECONDS)
                continue
            frame = message.get("frame") or {}
            # The group is the conversation's; others of its turns are none of this stream's business.
            if frame.get("turn") == self.turn_id:
                self._frames.put_nowait(frame)

    async def _follow(self) -> AsyncIterator[bytes]:
        read_at, want_row = 0.0, True
        beat_at = time.monotonic() + HEARTBEAT_SECONDS
        while True:
            now = time.monotonic()
            due = read_at + (LEAST_BETWEEN_READS if want_row else POLL_SECONDS)
            if now >= due:
                row, allowed = await asyncio.get_running_loop().run_in_executor(_pool, self._read)
                read_at, want_row = time.monotonic(), False
                if row is None or not allowed:
                    yield self._gone(allowed)
                    return
                for event in self._follower.take_row(row):
                    yield self._sse(event)
                if row.final:
                    return
                due = read_at + POLL_SECONDS
            try:
                frame = await asyncio.wait_for(self._frames.get(), max(0.0, min(due, beat_at) - time.monotonic()))
            except TimeoutError:
                if time.monotonic() >= beat_at:
                    beat_at = time.monotonic() + HEARTBEAT_SECONDS
                    yield b": still here\n\n"
                continue
            events, more = self._follower.take_frame(frame)
            want_row = want_row or more
            for event in events:
                yield self._sse(event)

    def _read(self) -> tuple[Row | None, bool]:
        close_old_connections()
        try:
            return read_row(self.turn_id), self._still_allowed()
        finally:
            close_old_connections()

    def _sse(self, event: Event) -> bytes:
        return b"event: %s\nid: %s\ndata: %s\n\n" % (event.name.encode(), event.id.encode(), to_json(event.data))

    def _gone(self, allowed: bool) -> bytes:
        code, detail = "resource.not_found", "The turn was deleted."
        if not allowed:
            code, detail = AUTH_REVOKED.code, "The token or session has ended."
        return b"event: error\ndata: %s\n\n" % to_json({"turn": self.turn_id, "code": code, "detail": detail})
