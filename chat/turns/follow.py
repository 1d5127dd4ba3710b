"""Puts an answer together from its row and from live frames, whatever of those is lost, late or repeated.

``Answer`` is what a process knows of one turn, however many follow it; ``Reader`` is what one client holds, and says what it needs
next; ``Follower`` is one of each, for a client that is alone. Offsets of live frames count in the raw text as the backend wrote it;
the answer is shown without white space around it. So what is passed on is always a prefix of the final answer: white space at the end
waits until something follows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from chat.models import OPEN_TURN_STATES, Turn

# Frames that came before the text in front of them.
_MOST_WAITING = 1000
_BESIDE = frozenset({"reasoning", "tool_call", "tool_result"})
AGAIN = "The answer was begun again."


@dataclass(frozen=True, slots=True)
class Event:
    """``id`` says what the client holds once it has this event: attempt and length."""

    name: str
    data: dict[str, Any]
    id: str


@dataclass(frozen=True, slots=True)
class Row:
    """What a turn's row says. ``raw`` is the partial text, ``reply_text`` the answer once it is there; ``fence`` counts attempts.

    ``parts`` is what came beside the text, each with its ``index`` among all parts.
    """

    state: str
    fence: int
    raw: str
    reply_id: int | None
    reply_text: str
    error_code: str
    error_public: str
    finish_reason: str
    parts: Sequence[dict[str, Any]] = ()

    @property
    def final(self) -> bool:
        return self.state not in OPEN_TURN_STATES

    @property
    def shown(self) -> str:
        """The text as it is shown."""
        return self.reply_text if self.reply_id is not None else self.raw.strip()


_FIELDS = (
    *("pk", "state", "fence", "partial", "reply_id", "reply__text"),
    *("error_code", "error_public", "finish_reason", "partial_parts", "reply__parts"),
)


def row_of(
    state: str,
    fence: int,
    raw: str,
    reply_id: int | None,
    reply_text: str | None,
    error_code: str,
    error_public: str,
    finish_reason: str,
    partial_parts: list[dict[str, Any]] | None,
    reply_parts: list[dict[str, Any]] | None,
) -> Row:
    """A row from the turn's columns and those of its reply."""
    beside = partial_parts or []
    if reply_id is not None:
        beside = [{"index": index, **part} for index, part in enumerate(reply_parts or []) if part["type"] in _BESIDE]
    return Row(state, fence, raw, reply_id, reply_text or "", error_code, error_public, finish_reason, beside)


def read_rows(turn_ids: Iterable[int]) -> dict[int, Row]:
    """The turns' rows, in one query."""
    rows = Turn.objects.filter(pk__in=list(turn_ids)).values_list(*_FIELDS)
    return {pk: row_of(*rest) for pk, *rest in rows}


def read_row(turn_id: int) -> Row | None:
    """The turn's row, in one query."""
    return read_rows([turn_id]).get(turn_id)


@dataclass(slots=True)
class Answer:
    """What is known of a turn's answer. ``fence`` is the attempt that it is of; ``life`` counts how often it was begun anew.

    ``shown`` is the text, ``reasoning`` all reasoning put together, ``beside`` what stands beside the text, by index: tool calls and
    results as they are, for a part of reasoning ``{"start", "offset"}``: where it stands in the text, where it begins in ``reasoning``.
    """

    turn_id: int
    fence: int | None = None
    life: int = 0
    shown: str = ""
    reasoning: str = ""
    beside: dict[int, dict[str, Any]] = field(default_factory=dict)
    row: Row | None = None
    _raw: str = ""
    _waiting: dict[int, str] = field(default_factory=dict)
    _misfit: bool = False

    @property
    def final(self) -> bool:
        """Whether the row said that it is over."""
        return self.row is not None and self.row.final

    @property
    def length(self) -> int:
        """Of the raw text that is known."""
        return len(self._raw)

    def take_row(self, row: Row) -> None:
        """What the row says. An old row (of an attempt before this one) says nothing."""
        if self.fence is not None and row.fence < self.fence and not row.final:
            return
        if self.fence is not None and row.fence != self.fence:
            # Frames since one that did not fit came from the new attempt; others from the old one.
            waiting = self._waiting if self._misfit else {}
            # From 0 to 1 nothing is begun anew: what came before the row was read again is of the first attempt.
            if (self.fence, row.fence) == (0, 1):
                waiting = self._waiting
            else:
                self._begin_anew()
            self._waiting = waiting
        self.fence, self.row, self._misfit = row.fence, row, False
        if row.final:
            self._finish(row)
            return
        if row.raw.startswith(self._raw):
            self._raw = row.raw
        elif not self._raw.startswith(row.raw):
            waiting = self._waiting
            self._begin_anew()
            self._raw, self._waiting = row.raw, waiting
        for offset in sorted(self._waiting):
            if offset <= len(self._raw):
                self._append(offset, self._waiting.pop(offset))
        self.shown = self._raw.strip()
        self._take_beside(row.parts)

    def take_delta(self, offset: int, text: str, fence: int | None = None) -> bool:
        """A piece of the text. True: the row must be read, something is missing or does not fit."""
        if not self._is_current(fence):
            return False
        if self._misfit or offset > len(self._raw):
            if len(self._waiting) < _MOST_WAITING:
                self._waiting[offset] = text
            return True
        if not self._append(offset, text):
            self._misfit, self._waiting = True, {offset: text}
            return True
        if self._waiting and len(self._raw) in self._waiting:
            self._append(len(self._raw), self._waiting.pop(len(self._raw)))
        self.shown = self._raw.strip()
        return False

    def take_reasoning(self, index: int, start: int, offset: int, text: str, fence: int | None = None) -> bool:
        """A piece of the reasoning. True: the row must be read."""
        if not self._is_current(fence):
            return False
        if offset > len(self.reasoning):
            return True
        self.beside.setdefault(index, {"type": "reasoning", "start": start, "offset": offset})
        self.reasoning += text[len(self.reasoning) - offset :]
        return False

    def take_part(self, index: int, part: dict[str, Any], fence: int | None = None) -> None:
        """A tool call or its result, as it comes."""
        if self._is_current(fence):
            self.beside[index] = part

    def _is_current(self, fence: int | None) -> bool:
        """Whether a frame is of the attempt that this is about; one of a later attempt begins it anew."""
        if self.final:
            return False
        if fence is None or fence == self.fence:
            return True
        if self.fence is not None and fence < self.fence:
            return False
        if self._raw or self.reasoning or self.beside:
            self._begin_anew()
        self.fence = fence
        return True

    def _append(self, offset: int, text: str) -> bool:
        """Add what is new of it. False: it contradicts what is there."""
        overlap = self._raw[offset : offset + len(text)]
        if not text.startswith(overlap):
            return False
        self._raw += text[len(overlap) :]
        return True

    def _begin_anew(self) -> None:
        self.life += 1
        self._raw, self.shown, self.reasoning, self.beside = "", "", "", {}
        self._waiting, self._misfit = {}, False

    def _take_beside(self, parts: Sequence[dict[str, Any]]) -> None:
        reasoning = 0
        for part in parts:
            index = part["index"]
            if part["type"] != "reasoning":
                self.beside[index] = {key: value for key, value in part.items() if key != "index"}
                continue
            self.beside.setdefault(index, {"type": "reasoning", "start": part.get("start", 0), "offset": reasoning})
            held = len(self.reasoning) - reasoning
            if held < len(part["text"]):
                self.reasoning += part["text"][max(0, held) :]
            reasoning += len(part["text"])

    def _finish(self, row: Row) -> None:
        text = row.shown
        if not text.startswith(self.shown) and self.shown:
            self.life += 1
            self.reasoning, self.beside = "", {}
        self._raw = self.shown = text
        self._waiting.clear()
        self._take_beside(row.parts)


@dataclass(slots=True)
class Reader:
    """What one client holds of an answer: ``sent`` characters of the text, ``reasoned`` of the reasoning, of attempt ``fence``."""

    sent: int = 0
    fence: int | None = None
    reasoned: int = 0
    deaf: bool = False
    _life: int = -1
    _parts: set[int] = field(default_factory=set)

    @property
    def position(self) -> str:
        """The same as text: attempt and length."""
        return f"{self.fence or 0}:{self.sent}"

    @classmethod
    def of_all(cls) -> Reader:
        """Somebody who needs nothing of an answer: it was over when they came."""
        return cls(deaf=True)

    def news(self, answer: Answer) -> list[Event]:
        """Everything that the answer has and the client has not: ``reset``, ``delta``, ``reasoning``, ``part``, in their order."""
        events: list[Event] = []
        if self._life < 0:
            self._life = answer.life
        if answer.fence is None or self.deaf:
            return events
        another = self.fence is not None and self.fence != answer.fence and (self.fence, answer.fence) != (0, 1)
        differs = answer.life != self._life
        too_much = answer.final and (self.sent > len(answer.shown) or self.reasoned > len(answer.reasoning))
        self.fence, self._life = answer.fence, answer.life
        if another or differs or too_much:
            self._reset(answer, AGAIN if another or not answer.final else "The stored answer differs.", events)
        if len(answer.beside) > len(self._parts) or self.reasoned < len(answer.reasoning):
            self._beside(answer, events)
        self._text(answer, len(answer.shown), events)
        return events

    def _beside(self, answer: Answer, events: list[Event]) -> None:
        order = sorted(answer.beside)
        spans = [index for index in order if answer.beside[index]["type"] == "reasoning"]
        # Each part of reasoning goes up to where the next begins.
        ends = dict(zip(spans, [answer.beside[index]["offset"] for index in spans[1:]], strict=False))
        for index in order:
            part = answer.beside[index]
            if part["type"] != "reasoning":
                if index not in self._parts:
                    self._text(answer, part.get("start", 0), events)
                    self._parts.add(index)
                    events.append(self._event("part", {"turn": answer.turn_id, "index": index, "part": part}))
                continue
            begin, end = max(self.reasoned, part["offset"]), ends.get(index, len(answer.reasoning))
            self._parts.add(index)
            if begin < end:
                self._text(answer, part["start"], events)
                self.reasoned = end
                events.append(
                    self._event(
                        "reasoning",
                        {
                            "turn": answer.turn_id,
                            "index": index,
                            "start": part["start"],
                            "offset": begin,
                            "text": answer.reasoning[begin:end],
                        },
                    )
                )

    def _text(self, answer: Answer, end: int, events: list[Event]) -> None:
        end = min(end, len(answer.shown))
        if end <= self.sent:
            return
        offset, self.sent = self.sent, end
        events.append(
            self._event("delta", {"turn": answer.turn_id, "offset": offset, "text": answer.shown[offset:end]})
        )

    def _reset(self, answer: Answer, why: str, events: list[Event]) -> None:
        had = self.sent or self.reasoned or self._parts
        self.sent = self.reasoned = 0
        self._parts = set()
        if had:
            events.append(self._event("reset", {"turn": answer.turn_id, "offset": 0, "reason": why}))

    def _event(self, name: str, data: dict[str, Any]) -> Event:
        return Event(name, data, self.position)


class Follower:
    """One client that follows one turn: rows and frames in, events out, the turn's own among them."""

    def __init__(self, turn_id: int, sent: int = 0, fence: int | None = None) -> None:
        self.answer = Answer(turn_id)
        self.reader = Reader(sent=sent, fence=fence)
        self._state = ""

    def take_row(self, row: Row) -> list[Event]:
        """Everything that the row has and the client has not."""
        self.answer.take_row(row)
        events = self.reader.news(self.answer)
        if row.final:
            return [*events, self._final(row)]
        if row.state != self._state:
            self._state = row.state
            data = {"turn": self.answer.turn_id, "state": row.state, "attempt": row.fence, "final": False}
            # Behind a reset, before what comes of the attempt.
            place = 1 if events and events[0].name == "reset" else 0
            held = events[0].id if place else f"{self.reader.fence or 0}:{self._before(events)}"
            events.insert(place, Event("turn", data, held))
        return events

    def _before(self, events: list[Event]) -> int:
        """What the client held before these events."""
        deltas = [event for event in events if event.name == "delta"]
        return int(deltas[0].data["offset"]) if deltas else self.reader.sent

    def take_delta(self, offset: int, text: str, fence: int | None = None) -> tuple[list[Event], bool]:
        """What a live frame adds, and whether the row must be read: something is missing, or does not fit."""
        missing = self.answer.take_delta(offset, text, fence)
        return self.reader.news(self.answer) if self._has_begun else [], missing

    def take_frame(self, frame: dict[str, Any]) -> tuple[list[Event], bool]:
        """Events of a live frame of the turn, and whether it is a reason to read the row."""
        missing = take_frame(self.answer, frame)
        return self.reader.news(self.answer) if self._has_begun else [], missing

    @property
    def _has_begun(self) -> bool:
        """Before the first row it is not known whether a frame of an unnamed attempt is of the client's."""
        return self.answer.fence is not None

    def _final(self, row: Row) -> Event:
        return Event(
            "turn",
            {
                "turn": self.answer.turn_id,
                "state": row.state,
                "attempt": row.fence,
                "final": True,
                "reply": row.reply_id,
                "length": len(row.shown),
                "finish_reason": row.finish_reason,
                "error_code": row.error_code,
                "error": row.error_public,
            },
            self.reader.position,
        )


def take_frame(answer: Answer, frame: dict[str, Any]) -> bool:
    """A live frame of the turn (see ``chat.live``). True: it is a reason to read the row."""
    kind, fence = frame.get("type"), frame.get("fence")
    if kind == "delta":
        return answer.take_delta(frame["offset"], frame["text"], fence)
    if kind == "reasoning":
        return answer.take_reasoning(frame["index"], frame["start"], frame["offset"], frame["text"], fence)
    if kind == "part":
        answer.take_part(frame["index"], frame["part"], fence)
        return False
    return kind == "turn"
