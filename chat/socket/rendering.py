"""Answers as HTML while they grow, for clients that asked for it: rendered once in a process, in one thread, for all who look."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from chat.rendering.stream import Blocks
from chat.socket.protocol import encode
from ops.logs import get_logger

if TYPE_CHECKING:
    from chat.socket.watched import Subscription, Watched

log = get_logger(__name__)

EVERY = 0.15


@dataclass(slots=True)
class _Rendering:
    """One answer. ``cuts`` are the places in the text at which something stands beside it, with the first block after each."""

    blocks: Blocks = field(default_factory=lambda: Blocks(interval=0.0))
    fed: int = 0
    life: tuple[int | None, int] = (None, 0)
    cuts: list[tuple[int, int]] = field(default_factory=list)
    task: asyncio.Task[None] | None = None
    again: bool = False

    def start_of(self, block: int) -> int:
        """Where in the text the stretch begins that a block belongs to."""
        return max((start for first, start in self.cuts if first <= block), default=0)


class Renderings:
    """By conversation and turn. ``want`` is cheap: it renders only where somebody asked for it."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], _Rendering] = {}
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="socket-rendering")

    def begin(self, watched: Watched, subscription: Subscription) -> None:
        """Somebody comes in the middle: what is there is given out whole."""
        for turn_id in watched.answers:
            known = self._known.get((watched.id, turn_id))
            if known is not None:
                for index, html, done in known.blocks.all():
                    subscription.connection.push(
                        _frame(turn_id, known.life[0] or 0, index, html, done, known.start_of(index))
                    )
            self.want(watched, turn_id)

    def want(self, watched: Watched, turn_id: int) -> None:
        """There is more of an answer, or it is over."""
        if not any(one.render for one in watched.subscriptions.values()):
            return
        key = (watched.id, turn_id)
        if turn_id not in watched.answers:
            self._known.pop(key, None)
            return
        known = self._known.setdefault(key, _Rendering())
        known.again = True
        if known.task is None:
            known.task = asyncio.get_running_loop().create_task(self._run(watched, turn_id, known))

    def forget(self, watched: Watched) -> None:
        """Nobody follows the conversation any more."""
        for key in [key for key in self._known if key[0] == watched.id]:
            del self._known[key]

    async def _run(self, watched: Watched, turn_id: int, known: _Rendering) -> None:
        try:
            while known.again and self._known.get((watched.id, turn_id)) is known:
                known.again = False
                answer = watched.answers.get(turn_id)
                if answer is None:
                    return
                life, text = (answer.fence, answer.life), answer.shown
                if known.life[0] is not None and known.life != life:
                    known.blocks, known.cuts, known.fed = Blocks(interval=0.0), [], 0
                known.life = life
                starts = sorted({part.get("start", 0) for part in answer.beside.values()} - {0})
                began = time.monotonic()
                updates = await asyncio.get_running_loop().run_in_executor(self._pool, _render, known, text, starts)
                took = time.monotonic() - began
                if watched.answers.get(turn_id) is answer and (answer.fence, answer.life) == life:
                    for subscription in list(watched.subscriptions.values()):
                        if subscription.render and subscription.begun:
                            for index, html, done, start in updates:
                                subscription.connection.push(_frame(turn_id, life[0] or 0, index, html, done, start))
                # A long answer takes long to render, and is rendered less often.
                await asyncio.sleep(max(EVERY, 8 * took + 0.02))
                if len(answer.shown) > len(text):
                    known.again = True
        except Exception as error:
            log.warning("socket.not_rendered", turn_id=turn_id, error=f"{type(error).__name__}: {error}"[:300])
        finally:
            known.task = None


def _render(known: _Rendering, text: str, starts: list[int]) -> list[tuple[int, str, bool, int]]:
    updates: list[Any] = []
    for start in starts:
        # What was rendered beyond it already stays in one stretch.
        if known.fed <= start <= len(text) and all(start != cut for _, cut in known.cuts):
            updates += known.blocks.feed(text[:start])
            updates += known.blocks.cut()
            known.cuts.append((len(known.blocks), start))
    updates += known.blocks.feed(text)
    known.fed = len(text)
    return [(index, html, done, known.start_of(index)) for index, html, done in updates]


def _frame(turn_id: int, fence: int, index: int, html: str, done: bool, start: int) -> str:
    data = {"turn": turn_id, "fence": fence, "block": index, "html": html, "done": done, "start": start}
    return encode({"type": "rendered", **data})
