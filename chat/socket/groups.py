"""The groups of the channel layer that a process hears, all through one channel."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from channels.layers import get_channel_layer

from ops.logs import get_logger

log = get_logger(__name__)


class Groups:
    """On one loop. ``take(group, frame)`` gets what is heard; frames may be lost, so nothing rests on it."""

    def __init__(self, take: Callable[[str, dict[str, Any]], None]) -> None:
        self._take = take
        self._layer: Any = get_channel_layer()
        self._channel = ""
        self._groups: set[str] = set()

    async def enter(self, group: str) -> None:
        """Hear a group, from the moment when this returns."""
        if group in self._groups:
            return
        self._groups.add(group)
        if self._layer is None or not self._channel:
            return  # joined when there is a channel
        try:
            await self._layer.group_add(group, self._channel)
        except Exception as error:
            # The look of every second tells what is not heard meanwhile.
            log.warning("socket.group_not_joined", error=f"{type(error).__name__}: {error}"[:200])

    def exit(self, group: str) -> None:
        """Hear it no longer, in a moment."""
        self._groups.discard(group)
        if self._layer is not None and self._channel:
            asyncio.get_running_loop().create_task(self._discard(group))

    async def _discard(self, group: str) -> None:
        with contextlib.suppress(Exception):
            if group not in self._groups:
                await self._layer.group_discard(group, self._channel)
                if group in self._groups:
                    # Somebody came back while it was being left.
                    await self._layer.group_add(group, self._channel)

    async def join_again(self) -> None:
        """The in-memory layer forgets groups after a day."""
        if self._layer is not None and self._channel:
            for group in list(self._groups):
                await self._layer.group_add(group, self._channel)

    async def hear(self) -> None:
        """Listen without end, or until the layer fails; then it is called again."""
        if self._layer is None:
            await asyncio.sleep(3600)
            return
        self._channel = await self._layer.new_channel()
        for group in list(self._groups):
            await self._layer.group_add(group, self._channel)
        while True:
            message = await self._layer.receive(self._channel)
            try:
                self._take(message["group"], message["frame"])
            except Exception as error:
                log.warning("socket.frame_not_understood", error=f"{type(error).__name__}: {error}"[:200])
