"""What stands in a room from before a restore: events put together to what was said, in order, edits applied. Touches no rows.

A backup lacks what was said after its cut, and the homeserver has it: people's words, and the answers that our agents gave. Our own
events are known by their marker; pieces of one long answer, and the edits by which it grew, are one thing that was said.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from agents.matrix.content import HISTORICAL, Ignored, ParsedMessage, parse_message
from agents.matrix.markdown import clean_text

_MIRRORED = re.compile(r"\*\*(?P<name>[^*\n]{1,100}):\*\*(?: (?P<text>.*))?\Z", re.DOTALL)


@dataclass(slots=True)
class Said:
    """One thing that was said. ``ids`` are its events in order; ``own``: by an account of ours, with ``marker`` telling of which row it was made.

    ``pieces`` are the events as they read now; ``last_ts`` is when the newest of them, or of their edits, was sent (milliseconds).
    """

    ids: list[str]
    pieces: list[ParsedMessage]
    own: bool
    marker: dict[str, Any] = field(default_factory=dict)
    last_ts: int = 0

    @property
    def sender(self) -> str:
        return self.pieces[0].sender

    @property
    def at(self) -> datetime | None:
        """When it began to be said."""
        return _time(self.pieces[0].ts)

    @property
    def told_at(self) -> datetime | None:
        """When the room was told last: the row of a long answer is made long after the preview that began it."""
        return _time(self.last_ts)

    @property
    def is_notice(self) -> bool:
        return self.pieces[0].is_notice


@dataclass(slots=True)
class Past:
    """``edits`` and ``redactions`` are what became of messages, for those that are known by now: ``(event id, sender, text)``, and event ids.

    What is told of in ``said`` reads as it does in the end already.
    """

    said: list[Said] = field(default_factory=list)
    edits: list[tuple[str, str, str]] = field(default_factory=list)
    redactions: list[str] = field(default_factory=list)


def is_before(event: dict[str, Any], line: datetime) -> bool:
    """Whether the event was sent at that time, on the homeserver's clock, or earlier."""
    ts = event.get("origin_server_ts")
    if not isinstance(ts, int) or isinstance(ts, bool) or not 0 <= ts < 4e12:
        return False
    return datetime.fromtimestamp(ts / 1000, tz=UTC) <= line


def split_at(events: Sequence[dict[str, Any]], line: datetime) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A room's events in order: those up to the last one from before ``line``, and the rest.

    By place as well as by time: other servers write whatever time they like, and what stands before something old is old.
    """
    last = max((number for number, event in enumerate(events) if is_before(event, line)), default=-1)
    return list(events[: last + 1]), list(events[last + 1 :])


def put_together(events: Iterable[dict[str, Any]], is_ours: Callable[[str], bool]) -> Past:
    """What was said, of message events in their order (decrypted, where they were not in the open)."""
    past = Past()
    base: dict[str, ParsedMessage] = {}
    # By sender as well: whoever changes what somebody else said changes nothing, and hides no change of theirs.
    newest: dict[tuple[str, str], ParsedMessage] = {}
    gone: set[str] = set()
    for event in events:
        if event.get("type") == "m.room.redaction":
            content = event.get("content")
            target = event.get("redacts") or (content.get("redacts") if isinstance(content, dict) else None)
            if isinstance(target, str):
                gone.add(target)
            continue
        parsed = parse_message(event)
        if isinstance(parsed, Ignored) or parsed.historical or parsed.content.get(HISTORICAL) is True:
            continue
        if parsed.edits is None:
            base.setdefault(parsed.event_id, parsed)
        else:
            newest[parsed.edits, parsed.sender] = parsed
    for (target, sender), edit in newest.items():
        if target in base:
            if base[target].sender == sender:
                base[target] = _edited(base[target], edit)
                if base[target].marker is None:
                    past.edits.append((target, sender, edit.body))
        elif is_ours(sender) and edit.marker is not None:
            # The event itself stands further back than anybody looked: its text is known all the same.
            base[target] = _edited(edit, edit)
        else:
            past.edits.append((target, sender, edit.body))
    past.redactions = sorted(gone)
    groups: dict[tuple[str, str], Said] = {}
    for event_id, parsed in base.items():
        if event_id in gone:
            continue
        own = parsed.marker is not None and is_ours(parsed.sender)
        key = (parsed.sender, _row_of(parsed.marker) if own and parsed.marker else event_id)
        if key in groups:
            groups[key].ids.append(event_id)
            groups[key].pieces.append(parsed)
            groups[key].marker |= parsed.marker or {}
        else:
            groups[key] = Said([event_id], [parsed], own, dict(parsed.marker or {}) if own else {})
        edited = newest.get((event_id, parsed.sender), parsed)
        groups[key].last_ts = max(groups[key].last_ts, parsed.ts, edited.ts)
    past.said = list(groups.values())
    return past


def text_of(said: Said, text_of_piece: Callable[[ParsedMessage], str]) -> str:
    """All of it."""
    return clean_text("\n\n".join(filter(None, (text_of_piece(piece) for piece in said.pieces))))


def mirrored(text: str) -> tuple[str, str]:
    """Who is quoted by Switchboard's own account, and with what ("" and the text where it quotes nobody)."""
    found = _MIRRORED.match(text)
    return (found["name"], found["text"] or "") if found else ("", text)


def number(marker: dict[str, Any], name: str) -> int | None:
    """A row's number in a marker, which anybody may have written."""
    value = marker.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**62 else None


def _time(ts: int) -> datetime | None:
    return datetime.fromtimestamp(ts / 1000, tz=UTC) if 0 < ts < 4e12 else None


def _edited(base: ParsedMessage, edit: ParsedMessage) -> ParsedMessage:
    return ParsedMessage(
        event_id=base.event_id,
        sender=base.sender,
        body=edit.body,
        room_id=base.room_id,
        ts=base.ts,
        msgtype=edit.msgtype,
        html=edit.html,
        reply_to=base.reply_to,
        marker=edit.marker or base.marker,
        media=base.media,
        content=base.content,
    )


def _row_of(marker: dict[str, Any]) -> str:
    """Pieces that were made of one row belong together; what names none stands alone."""
    message, turn = number(marker, "message"), number(marker, "turn")
    return f"message:{message}" if message else f"turn:{turn}" if turn else f"alone:{id(marker)}"
