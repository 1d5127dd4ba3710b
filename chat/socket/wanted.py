"""What of the rows a hub has to read next: gathered from frames and from looks, and taken in one go."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

# After a gap a turn's row is read at once, but not more often than this.
LEAST_BETWEEN_READS = 0.1


@dataclass(frozen=True, slots=True)
class Batch:
    """Conversations and turns by their keys; lines of lists as (person, conversation)."""

    conversations: set[int] = field(default_factory=set)
    turns: set[int] = field(default_factory=set)
    lines: set[tuple[int, int]] = field(default_factory=set)


class Wanted:
    """On one loop."""

    def __init__(self) -> None:
        self._waiting = Batch()
        self._something = asyncio.Event()
        self._read_at: dict[int, float] = {}

    def conversation(self, conversation_id: int) -> None:
        """What is new in a conversation."""
        self._waiting.conversations.add(conversation_id)
        self._something.set()

    def turn(self, conversation_id: int, turn_id: int) -> None:
        """A turn's row, and its conversation's new messages with it: at once, or in a moment if it was read just now."""
        wait = self._read_at.get(turn_id, 0.0) + LEAST_BETWEEN_READS - time.monotonic()
        if wait > 0:
            asyncio.get_running_loop().call_later(wait, self._add_turn, conversation_id, turn_id)
            return
        self._add_turn(conversation_id, turn_id)

    def _add_turn(self, conversation_id: int, turn_id: int) -> None:
        self._waiting.turns.add(turn_id)
        # Its message, if it left one, is told before its last state.
        self.conversation(conversation_id)

    def line(self, person_id: int, conversation_id: int) -> None:
        """A line of a person's list."""
        self._waiting.lines.add((person_id, conversation_id))
        self._something.set()

    async def next(self) -> Batch:
        """All that is wanted, as soon as there is something."""
        await self._something.wait()
        self._something.clear()
        taken, self._waiting = self._waiting, Batch()
        return taken

    def reads(self, turns: set[int]) -> None:
        """These turns are being read now."""
        if len(self._read_at) > 10_000:
            self._read_at.clear()
        self._read_at.update(dict.fromkeys(turns, time.monotonic()))

    def again(self, batch: Batch) -> None:
        """It could not be read: nothing of it is forgotten."""
        self._waiting.conversations.update(batch.conversations)
        self._waiting.turns.update(batch.turns)
        self._waiting.lines.update(batch.lines)
        self._something.set()
