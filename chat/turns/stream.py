"""An answer while it comes in: collected, published at most 20 times a second, kept in the row at most twice a second.

``parts`` holds what came, in order. Each has ``start`` and ``end``, offsets in the text: a text part is ``text[start:end]``, everything
else stands at ``start`` (and is as long there as nothing). The text begins with its first character that is no white space, so that
offsets are those of the answer as it will be stored. Reasoning is published by offset as well: ``offset`` counts in all reasoning of
the turn put together, ``index`` says to which part the piece belongs and ``start`` where that part stands in the text.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from django.utils import timezone

from agents.backends.chunks import (
    Chunk,
    Finished,
    ReasoningDelta,
    RunStarted,
    TextDelta,
    ToolCall,
    ToolResult,
    Unrecognised,
)
from chat import live
from chat.models import Turn
from chat.turns.troubles import count_unrecognised
from chat.turns.waiting import stood
from ops.leases import fenced_update_and_look, lease_end

PUBLISH_EVERY = 1 / 20
PERSIST_EVERY = 0.5
RENEW_EVERY = 10.0
CHECK_STOP_EVERY = 0.5
MAX_TEXT = 2_000_000
# What models of many makers come near to in European languages.
CHARACTERS_A_TOKEN = 4


class LeaseLost(Exception):
    """Another worker has the turn; this one must not write any more."""


def _storable(text: str) -> str:
    """Without NUL, which PostgreSQL cannot keep, and with halves of characters joined (or replaced)."""
    if "\x00" in text:
        text = text.replace("\x00", "")
    if any("\ud800" <= char <= "\udfff" for char in text):
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


class Collector:
    """Takes chunks, keeps lease and row up to date. Used by one thread.

    ``preview`` is called with the text so far whenever there is more (the room's streamed edits).
    """

    def __init__(self, turn: Turn, preview: Callable[[str], None] | None = None) -> None:
        self.turn = turn
        self.parts: list[dict[str, Any]] = []
        self.finished: Finished | None = None
        self.stop_requested = False
        self._preview = preview
        self._pieces: list[str] = []
        self._length = 0
        self._half = ""
        self._joint = ""
        self._calls: dict[str, float] = {}
        self._published = 0
        self._reasoned = self._reasoning_published = 0
        self._parts_changed = False
        now = time.monotonic()
        self._published_at = 0.0
        self._persisted_at = self._renewed_at = self._stop_checked_at = now
        self._persisted_length = 0
        self._fields: dict[str, Any] = {}
        # Calls that wait for somebody's word, until their results come.
        self.characters_sent = 0
        self._said_before = self._reasoned_before = 0
        self.asked: dict[str, ToolCall] = {}
        self._refused: set[str] = set()
        if turn.approvals:
            self._go_on()

    def _go_on(self) -> None:
        """The answer stopped for approval before: what stood there stays, and more comes behind it."""
        text, self.parts = stood(self.turn)
        self._pieces = [text] if text else []
        self._length = self._published = self._persisted_length = len(text)
        self._reasoned = sum(len(part["text"]) for part in self.parts if part["type"] == "reasoning")
        self._reasoning_published = self._reasoned_before = self._reasoned
        self._said_before = self._length
        self._joint = "\n\n" if text.strip() and not text.endswith("\n") else ""

    @property
    def text(self) -> str:
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0] if self._pieces else ""

    def take(self, chunk: Chunk) -> None:
        """One chunk of the reply. Raises ``LeaseLost`` when the row belongs to somebody else by now."""
        if isinstance(chunk, TextDelta):
            self._take_text(chunk.text)
        elif isinstance(chunk, Finished):
            self.finished = chunk
        elif isinstance(chunk, RunStarted):
            self.turn.upstream_ref = _storable(chunk.ref)[:255]
            self._fields["upstream_ref"] = self.turn.upstream_ref
            self._write(time.monotonic())
        elif isinstance(chunk, Unrecognised):
            count_unrecognised(self.turn, chunk)
        else:
            self._take_part(chunk)
        self._tick()

    def _take_text(self, text: str) -> None:
        if self._length >= MAX_TEXT:
            return
        text = self._whole_characters(text)
        if not self._length:
            text = text.lstrip()
        if not text:
            return
        if self._joint:
            text, self._joint = self._joint + text.lstrip(), ""
        if self._reasoned > self._reasoning_published:
            self._publish_reasoning()
        if self.turn.first_token_at is None:
            self.turn.first_token_at = timezone.now()
        self._pieces.append(text)
        self._length += len(text)
        if self.parts and self.parts[-1]["type"] == "text":
            self.parts[-1]["end"] = self._length
        else:
            self.parts.append({"type": "text", "start": self._length - len(text), "end": self._length})

    def _whole_characters(self, text: str) -> str:
        """Text that can be stored. Servers cut an emoji's two JSON escapes apart: the first half waits for the second."""
        text = self._half + text
        self._half = ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        return _storable(text)

    def _take_part(self, chunk: ReasoningDelta | ToolCall | ToolResult) -> None:
        if isinstance(chunk, ReasoningDelta):
            self._take_reasoning(_storable(chunk.text))
            return
        if isinstance(chunk, ToolCall):
            self._calls[chunk.id] = time.monotonic()
            if chunk.needs_approval:
                self.asked[chunk.id] = chunk
            part: dict[str, Any] = {
                "type": "tool_call",
                "id": _storable(chunk.id),
                "name": _storable(chunk.name),
                "arguments": _storable(chunk.arguments),
            }
        elif chunk.id in self._refused:
            return  # the server repeats what stands there already
        else:
            self.asked.pop(chunk.id, None)
            part = {
                "type": "tool_result",
                "id": _storable(chunk.id),
                "name": _storable(chunk.name),
                "output": _storable(chunk.output[:100_000]),
                "ok": chunk.ok,
                "ms": round((time.monotonic() - self._calls.pop(chunk.id, time.monotonic())) * 1000),
            }
        # Whoever follows sees things in the order in which they happened.
        self.flush()
        self._add_part(part)
        self._tell("part", index=len(self.parts) - 1, part=self.parts[-1])

    def _add_part(self, part: dict[str, Any]) -> None:
        self.parts.append({**part, "start": self._length, "end": self._length})
        self._parts_changed = True

    def _take_reasoning(self, text: str) -> None:
        if not text or self._reasoned >= MAX_TEXT:
            return
        if not self.parts or self.parts[-1]["type"] != "reasoning":
            self.flush()
            self._add_part({"type": "reasoning", "text": ""})
        self.parts[-1]["text"] += text
        self._reasoned += len(text)
        self._parts_changed = True

    def stored_parts(self, length: int) -> list[dict[str, Any]]:
        """The parts as they are kept with a text of this length; nothing when the text is all there is."""
        if all(part["type"] == "text" for part in self.parts):
            return []
        return [{**part, "start": min(part["start"], length), "end": min(part["end"], length)} for part in self.parts]

    def beside_text(self) -> list[dict[str, Any]]:
        """What came beside the text, each part with its place among all."""
        return [{"index": index, **part} for index, part in enumerate(self.parts) if part["type"] != "text"]

    def used(self) -> Finished:
        """How the answer ended, with what it used: where the server does not say (many do not for an answer that was stopped), it is
        estimated from what was sent and said since this attempt began."""
        finished = self.finished or Finished("approval")
        if (
            finished.output_tokens is not None
            or self._said_before + self._reasoned_before == self._length + self._reasoned
        ):
            return finished
        said = self._length + self._reasoned - self._said_before - self._reasoned_before
        input_tokens = finished.input_tokens
        if input_tokens is None:
            input_tokens = round(self.characters_sent / CHARACTERS_A_TOKEN)
        return Finished(finished.reason, input_tokens, max(1, round(said / CHARACTERS_A_TOKEN)))

    def refused(self, call_id: str, name: str, reason: str) -> None:
        """Somebody refused a call; not every server says so in its stream."""
        self._take_part(ToolResult(call_id, name, f"Denied: {reason}" if reason else "Denied.", ok=False))
        self._refused.add(call_id)

    def should_stop(self) -> bool:
        """Asked by backends between chunks and while nothing comes: also keeps the lease alive."""
        self._tick()
        return self.stop_requested

    def _tick(self) -> None:
        now = time.monotonic()
        if self._unpublished and now - self._published_at >= PUBLISH_EVERY:
            self.flush()
        if (
            (self._length > self._persisted_length or self._parts_changed) and now - self._persisted_at >= PERSIST_EVERY
        ) or now - self._renewed_at >= RENEW_EVERY:
            self._write(now)
        if now - self._stop_checked_at >= CHECK_STOP_EVERY:
            self._stop_checked_at = now
            asked = Turn.objects.filter(pk=self.turn.pk, fence=self.turn.fence).values_list(
                "stop_requested_by", flat=True
            )
            by = asked.first()
            if by is None:
                raise LeaseLost
            self.stop_requested = bool(by)
        if self._preview is not None and self._length:
            self._preview_text()

    def _preview_text(self) -> None:
        assert self._preview is not None
        self._preview(self.text)

    @property
    def _unpublished(self) -> bool:
        return self._length > self._published or self._reasoned > self._reasoning_published

    def _publish_text(self) -> None:
        self._tell("delta", offset=self._published, text=self.text[self._published :])
        self._published, self._published_at = self._length, time.monotonic()

    def _publish_reasoning(self) -> None:
        """What is not published yet belongs to the last part: it is published before another one begins."""
        part = self.parts[-1]
        text = part["text"][-(self._reasoned - self._reasoning_published) :]
        self._tell(
            "reasoning", index=len(self.parts) - 1, start=part["start"], offset=self._reasoning_published, text=text
        )
        self._reasoning_published, self._published_at = self._reasoned, time.monotonic()

    def _tell(self, kind: str, **fields: Any) -> None:
        turn = self.turn
        live.publish(turn.conversation_id, {"type": kind, "turn": turn.pk, "fence": turn.fence, **fields})

    def _write(self, now: float) -> None:
        fields = dict(self._fields)
        if self._length > self._persisted_length:
            fields |= {"partial": self.text, "first_token_at": self.turn.first_token_at}
        if self._parts_changed:
            fields["partial_parts"] = self.beside_text()
        # The same statement says whether somebody wants it to stop: with hundreds of answers at once, each statement counts.
        by = fenced_update_and_look(self.turn, "stop_requested_by", lease_until=lease_end(), **fields)
        if by is None:
            raise LeaseLost
        self.stop_requested, self._stop_checked_at = bool(by), now
        self._fields.clear()
        self._persisted_at = self._renewed_at = now
        self._persisted_length = self._length
        self._parts_changed = False

    def flush(self) -> None:
        """Publish what is left; the row is written by whoever finishes the turn."""
        if self._reasoned > self._reasoning_published:
            self._publish_reasoning()
        if self._length > self._published:
            self._publish_text()
