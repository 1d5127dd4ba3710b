"""Puts the text of an answer together from its row and from live frames, whatever of those is lost, late or repeated.

Offsets of live frames count in the raw text as the backend wrote it; the answer is shown without white space around it. So
what is passed on is always a prefix of the final answer: white space at the end waits until something follows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from chat.models import OPEN_TURN_STATES, Turn

# Frames that came before the text in front of them.
_MOST_WAITING = 1000


@dataclass(frozen=True, slots=True)
class Event:
    """``id`` says what the client holds once it has this event: attempt and length."""

    name: str
    data: dict[str, Any]
    id: str


@dataclass(frozen=True, slots=True)
class Row:
    """What a turn's row says. ``raw`` is the partial text, ``reply_text`` the answer once it is there; ``fence`` counts attempts."""

    state: str
    fence: int
    raw: str
    reply_id: int | None
    reply_text: str
    error_code: str
    error_public: str
    finish_reason: str

    @property
    def final(self) -> bool:
        return self.state not in OPEN_TURN_STATES

    @property
    def shown(self) -> str:
        """The text as it is shown."""
        return self.reply_text if self.reply_id is not None else self.raw.strip()


def read_row(turn_id: int) -> Row | None:
    """The turn's row, in one query."""
    values = (
        Turn.objects.filter(pk=turn_id)
        .values_list(
            "state", "fence", "partial", "reply_id", "reply__text", "error_code", "error_public", "finish_reason"
        )
        .first()
    )
    if values is None:
        return None
    state, fence, raw, reply_id, reply_text, *rest = values
    return Row(state, fence, raw, reply_id, reply_text or "", *rest)


@dataclass(slots=True)
class Follower:
    """Turns rows and frames into events. ``sent``: how many characters the client holds; ``fence``: of which attempt (or None)."""

    turn_id: int
    sent: int = 0
    fence: int | None = None
    _raw: str = ""
    _waiting: dict[int, str] = field(default_factory=dict)
    _misfit: bool = False
    _state: str = ""

    def take_row(self, row: Row) -> list[Event]:
        """Everything that the row has and the client has not."""
        events: list[Event] = []
        # From 0 to 1 nothing is begun anew: what came before the row was read again is of the first attempt.
        if self.fence is not None and self.fence != row.fence and (self.fence, row.fence) != (0, 1):
            # Frames since one that did not fit came from the new attempt; others from the old one.
            if not self._misfit:
                self._waiting.clear()
            self.fence, self._raw = row.fence, ""
            events += self._reset("The answer was begun again.")
        self.fence, self._misfit = row.fence, False
        if row.state != self._state and not row.final:
            self._state = row.state
            events.append(self._event("turn", {"state": row.state, "attempt": row.fence, "final": False}))
        if row.final:
            return events + self._finish(row)
        if row.raw.startswith(self._raw):
            self._raw = row.raw
        elif not self._raw.startswith(row.raw):
            events += self._reset("The answer was begun again.")
            self._raw = row.raw
        for offset in sorted(self._waiting):
            if offset <= len(self._raw):
                self._append(offset, self._waiting.pop(offset))
        return events + self._more(self._raw.strip())

    def take_delta(self, offset: int, text: str) -> tuple[list[Event], bool]:
        """What a live frame adds, and whether the row must be read: something is missing, or does not fit."""
        if self._misfit or offset > len(self._raw):
            if len(self._waiting) < _MOST_WAITING:
                self._waiting[offset] = text
            return [], True
        if not self._append(offset, text):
            self._misfit, self._waiting = True, {offset: text}
            return [], True
        return self._more(self._raw.strip()), False

    def _append(self, offset: int, text: str) -> bool:
        """Add what is new of it. False: it contradicts what is there."""
        overlap = self._raw[offset : offset + len(text)]
        if not text.startswith(overlap):
            return False
        self._raw += text[len(overlap) :]
        return True

    def _more(self, shown: str) -> list[Event]:
        if len(shown) <= self.sent:
            return []
        offset, self.sent = self.sent, len(shown)
        return [self._event("delta", {"offset": offset, "text": shown[offset:]})]

    def _reset(self, why: str) -> list[Event]:
        had, self.sent = self.sent, 0
        return [self._event("reset", {"offset": 0, "reason": why})] if had else []

    def _event(self, name: str, data: dict[str, Any]) -> Event:
        return Event(name, {"turn": self.turn_id, **data}, f"{self.fence or 0}:{self.sent}")

    def _finish(self, row: Row) -> list[Event]:
        events: list[Event] = []
        text = row.shown
        known = self._raw.strip()[: self.sent]
        if self.sent > len(text) or not text.startswith(known):
            events += self._reset("The stored answer differs from what was shown.")
        events += self._more(text)
        events.append(
            self._event(
                "turn",
                {
                    "state": row.state,
                    "attempt": row.fence,
                    "final": True,
                    "reply": row.reply_id,
                    "length": len(text),
                    "finish_reason": row.finish_reason,
                    "error_code": row.error_code,
                    "error": row.error_public,
                },
            )
        )
        return events

    def take_part(self, part: Any) -> Event:
        """A tool call or its result, as it comes."""
        return self._event("part", {"part": part})
