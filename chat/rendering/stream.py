"""A text that is still growing, as HTML block by block: what is finished is rendered once, only the end is rendered again.

A block is finished when a *complete* line begins another one: until its end a line may still become part of what stands before
("1. a", blank line, "2" is a paragraph until the "." comes). Lines that define references (``[label]: address``) can change what was
said before; then the blocks that could be meant are given out again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from agents.matrix.markdown import clean_text
from chat.rendering.markdown import Block, parse


class BlockUpdate(NamedTuple):
    """Block ``number`` looks like ``html`` now. ``done``: it will not change, except when a reference is defined later."""

    number: int
    html: str
    done: bool


@dataclass(slots=True)
class _Part:
    """Text between two cuts: no block reaches from one part into another.

    Of its ``text`` the first ``offset`` characters are done; they hold ``cells`` cells of tables and define ``references``. ``used``
    are the references that the blocks were last rendered with. ``first`` is the number of the first block that is not done.
    """

    references: dict[str, Any] = field(default_factory=dict)
    used: dict[str, Any] = field(default_factory=dict)
    text: str = ""
    offset: int = 0
    cells: int = 0
    first: int = 0


@dataclass(slots=True)
class _Shown:
    html: str
    done: bool
    source: str
    cells: int
    part: _Part


class Blocks:
    """Feed it the whole text so far, again and again; it says which blocks changed.

    The open block is rendered at most once in ``interval`` seconds, and less often when rendering it takes long. Used by one thread.
    """

    def __init__(self, *, interval: float = 0.25, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval = interval
        self._clock = clock
        self._not_before = float("-inf")
        self._text = ""
        self._cut = 0
        self._part = _Part()
        self._shown: list[_Shown] = []

    def __len__(self) -> int:
        """How many blocks there are so far."""
        return len(self._shown)

    def feed(self, text: str, *, final: bool = False) -> list[BlockUpdate]:
        """The updates that the text so far brings. ``final``: there will be no more, everything is finished.

        A text that does not continue the one before begins anew: all blocks are given out again (further ones, if there were more
        before, are given out as empty).
        """
        if not text.startswith(self._text):
            return self._again(text, final)
        grown = len(text) > len(self._text)
        self._text = text
        if not final and (not grown or self._clock() < self._not_before):
            return []
        return self._render(final)

    def cut(self) -> list[BlockUpdate]:
        """Something else (a tool call) stands at this place: finish what is there, and begin a new block after it."""
        updates = self._render(True)
        self._cut = len(self._text)
        self._part = _Part(first=len(self._shown))
        self._not_before = float("-inf")
        return updates

    def all(self) -> list[BlockUpdate]:
        """Every block as it was last given out, for somebody who comes in the middle."""
        return [BlockUpdate(index, one.html, one.done) for index, one in enumerate(self._shown)]

    def _again(self, text: str, final: bool) -> list[BlockUpdate]:
        before = len(self._shown)
        self._cut = 0
        self._part = _Part()
        self._shown = []
        self._text = text
        updates = self._render(final)
        return updates + [BlockUpdate(index, "", True) for index in range(len(self._shown), before)]

    def _render(self, final: bool) -> list[BlockUpdate]:
        begun = self._clock()
        part = self._part
        part.text = clean_text(self._text[self._cut :])
        tail = part.text[part.offset :]
        # A line that is not complete may define something else in a moment: what the tail defines is read anew each time.
        references = dict(part.references)
        blocks = parse(tail, references, part.cells)
        closed = self._closed(blocks, tail, final)
        updates: list[BlockUpdate] = []
        if references != part.used:
            part.used = references
            updates += self._refer(part)
        place = part.first
        # The blocks of the tail take the places after those that are done; an earlier guess may have had more of them.
        starts = _line_starts(tail)
        for number, block in enumerate(blocks):
            done = number < closed
            end = starts[min(block.end, len(starts) - 1)] if done else len(tail)
            self._put(place + number, block, done, tail[starts[min(block.begin, len(starts) - 1)] : end], updates)
        for index in range(place + len(blocks), len(self._shown)):
            if self._shown[index].html:
                updates.append(BlockUpdate(index, "", False))
        del self._shown[place + len(blocks) :]
        if closed:
            following = blocks[closed].begin if closed < len(blocks) else None
            part.offset += len(tail) if following is None else starts[following]
            part.first = place + closed
            part.cells += sum(block.cells for block in blocks[:closed])
            last = len(starts) if following is None else following
            for label, found in references.items():
                if label not in part.references and found["map"][1] <= last:
                    part.references[label] = found
        now = self._clock()
        self._not_before = now + max(self._interval, 8 * (now - begun))
        return updates

    @staticmethod
    def _closed(blocks: list[Block], tail: str, final: bool) -> int:
        """How many of the blocks cannot change any more."""
        if final:
            return len(blocks)
        complete = tail.count("\n")  # lines that have their end
        for number in range(len(blocks) - 1, 0, -1):
            if blocks[number].begin < complete:
                return number
        return 0

    def _put(self, index: int, block: Block, done: bool, source: str, updates: list[BlockUpdate]) -> None:
        html = block.html if done else block.rendered(is_open=True)
        if index == len(self._shown):
            self._shown.append(_Shown(html, done, source, block.cells, self._part))
        else:
            shown = self._shown[index]
            if shown.html == html and shown.done == done:
                return
            shown.html, shown.done, shown.source, shown.cells = html, done, source, block.cells
        updates.append(BlockUpdate(index, html, done))

    def _refer(self, part: _Part) -> list[BlockUpdate]:
        """Blocks that are done and may name a reference that has just been defined."""
        updates = []
        for index in range(part.first):
            shown = self._shown[index]
            if shown.part is not part or "[" not in shown.source:
                continue
            html = "".join(block.html for block in parse(shown.source, dict(part.used)))
            if html != shown.html:
                shown.html = html
                updates.append(BlockUpdate(index, html, True))
        return updates


def _line_starts(text: str) -> list[int]:
    """Where each line begins; one more for the end of the text."""
    starts = [0]
    for line in text.split("\n"):
        starts.append(starts[-1] + len(line) + 1)
    starts[-1] = len(text)
    return starts
