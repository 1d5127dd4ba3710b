"""Portagent's messages become ours. What an agent said between two questions (texts, thinking, tool calls and their results, each a
message of its own there) is one answer here, with its parts in the order in which they happened."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from chat.portagent.rows import SourceRow, storable, time_of

Role = Literal["user", "assistant", "notice"]
_MOST_MERGED = 400


class MessageBroken(Exception):
    """The message cannot be understood; the sentence says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class FilePart:
    """A picture or file in a message. ``data`` is base64 as it was stored; ``key`` is its place: message and number."""

    key: str
    name: str
    media_type: str
    data: str

    def content(self) -> bytes:
        """Raises ``ValueError``."""
        text = self.data
        if text.startswith("data:"):
            text = text.partition(",")[2]
        try:
            return base64.b64decode("".join(text.split()), validate=True)
        except binascii.Error as error:
            raise ValueError(f"its content is not base64 ({error})") from None


@dataclass(slots=True)
class Draft:
    """A message to be stored. ``sources`` are the rows that it is made of."""

    role: Role
    text: str = ""
    parts: list[dict[str, Any]] = field(default_factory=list)
    files: list[FilePart] = field(default_factory=list)
    said_at: datetime | None = None
    sources: list[tuple[SourceRow, str]] = field(default_factory=list)

    @property
    def external_id(self) -> str:
        return self.sources[0][0].key


@dataclass(slots=True)
class _Piece:
    """One of Portagent's messages, understood. ``items``: ("text", str), ("part", dict), ("file", FilePart), in order."""

    role: Role
    items: list[tuple[str, Any]]
    said_at: datetime | None
    extra: list[dict[str, Any]]


class Grouper:
    """Takes messages in order and gives back drafts that are complete."""

    def __init__(self) -> None:
        self._open: Draft | None = None

    def take(self, row: SourceRow) -> list[Draft]:
        """Drafts that this row completes. Raises ``MessageBroken``."""
        piece = _understood(row)
        ready: list[Draft] = []
        if self._open is not None and (
            piece.role != "assistant" or self._open.role != "assistant" or len(self._open.sources) >= _MOST_MERGED
        ):
            ready += self.rest()
        if self._open is None:
            self._open = Draft(piece.role, said_at=piece.said_at)
        _add(self._open, piece, row)
        if piece.role != "assistant":
            ready += self.rest()
        return ready

    def rest(self) -> list[Draft]:
        """What was not complete yet."""
        done, self._open = self._open, None
        return [done] if done is not None else []


def _add(draft: Draft, piece: _Piece, row: SourceRow) -> None:
    for kind, value in piece.items:
        if kind == "text":
            text = value.strip()
            if not text:
                continue
            if draft.text:
                draft.text += "\n\n"
            start = len(draft.text)
            draft.text += text
            draft.parts.append({"type": "text", "start": start, "end": len(draft.text)})
        elif kind == "file":
            draft.files.append(value)
        else:
            draft.parts.append(_placed(value, draft))
    draft.parts += [_placed(part, draft) for part in piece.extra]
    draft.sources.append((row, row.digest))


def _placed(part: dict[str, Any], draft: Draft) -> dict[str, Any]:
    """As in every answer: a part stands at a place in the text, and is as long there as nothing."""
    return {**part, "start": len(draft.text), "end": len(draft.text)}


def finished_parts(draft: Draft) -> list[dict[str, Any]]:
    """The parts to store: those of text are of use only between others."""
    return draft.parts if any(part["type"] != "text" for part in draft.parts) else []


def _understood(row: SourceRow) -> _Piece:
    message = row.raw.get("message")
    if not isinstance(message, dict):
        raise MessageBroken("it is not an object")
    role, subtype = message.get("role"), message.get("subtype")
    said_at = time_of(message.get("timestamp"))
    if role == "user":
        return _Piece("user", _items(message.get("content"), row), said_at, [])
    if role == "assistant" and subtype == "tool-call":
        return _Piece("assistant", [("part", _call(message.get("toolCall")))], said_at, [])
    if role == "assistant":
        usage = message.get("usage")
        extra = [{"type": "usage", **storable(usage)}] if isinstance(usage, dict) and usage else []
        return _Piece("assistant", _items(message.get("content"), row), said_at, extra)
    if role == "tool":
        result, files = _result(message.get("toolResult"), message.get("toolCallId"), row)
        return _Piece("assistant", [("part", result), *(("file", file) for file in files)], said_at, [])
    if role == "error":
        text = _text(message.get("content")) or "An error, without a word about it."
        code = message.get("errorCode")
        return _Piece("notice", [("text", text), ("part", {"type": "error", "code": storable(code)})], said_at, [])
    raise MessageBroken(f"its role {role!r} is not known")


def _items(content: Any, row: SourceRow) -> list[tuple[str, Any]]:
    if isinstance(content, str):
        return [("text", storable(content))]
    if content is None:
        return []
    if not isinstance(content, list):
        raise MessageBroken("its content is neither text nor a list of parts")
    items: list[tuple[str, Any]] = []
    for number, part in enumerate(content):
        if isinstance(part, str):
            items.append(("text", storable(part)))
            continue
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text":
            items.append(("text", _text(part.get("text"))))
        elif kind == "thinking":
            text = _text(part.get("reasoning", part.get("thinking")))
            tokens = part.get("tokenCount")
            counted = {"tokens": tokens} if isinstance(tokens, int) else {}
            items.append(("part", {"type": "reasoning", "text": text, **counted}))
        elif kind in ("image", "file"):
            items.append(("file", _file(part, row, number)))
        elif kind == "tool-call":
            items.append(("part", _call(part)))
        elif kind == "tool-result":
            result, files = _result(part, part.get("id"), row)
            items += [("part", result), *(("file", file) for file in files)]
        else:
            raise MessageBroken(f"part {number + 1} of its content is of the unknown kind {kind!r}")
    return items


def _file(part: dict[str, Any], row: SourceRow, number: int) -> FilePart:
    data = part.get("data")
    media_type = _text(part.get("mediaType")) or "application/octet-stream"
    kind = "picture" if part.get("type") == "image" else "file"
    name = _text(part.get("filename") or part.get("name")) or f"{kind}.{media_type.rpartition('/')[2][:10] or 'bin'}"
    return FilePart(f"{row.key}/{number}", name[:255], media_type[:100], data if isinstance(data, str) else "")


def _call(call: Any) -> dict[str, Any]:
    if not isinstance(call, dict):
        raise MessageBroken("its tool call is missing")
    given = call.get("input")
    arguments = given if isinstance(given, str) else json.dumps(storable(given if given is not None else {}))
    return {
        "type": "tool_call",
        "id": _text(call.get("id")),
        "name": _text(call.get("name")) or "tool",
        "arguments": storable(arguments),
    }


def _result(result: Any, call_id: Any, row: SourceRow) -> tuple[dict[str, Any], list[FilePart]]:
    if not isinstance(result, dict):
        raise MessageBroken("its tool result is missing")
    output, files = result.get("output"), []
    kind = output.get("type") if isinstance(output, dict) else None
    if isinstance(output, dict) and kind in ("text", "json", "error-text", "error-json"):
        value = output.get("value")
        text = value if isinstance(value, str) else json.dumps(storable(value), ensure_ascii=False)
    elif isinstance(output, dict) and kind == "execution-denied":
        text = _text(output.get("reason")) or "It was not allowed."
    elif isinstance(output, dict) and kind == "content" and isinstance(output.get("value"), list):
        texts = []
        for number, part in enumerate(output["value"]):
            if isinstance(part, dict) and part.get("type") == "text":
                texts.append(_text(part.get("text")))
            elif isinstance(part, dict) and isinstance(part.get("data"), str):
                files.append(_file(part, row, 1000 + number))
            else:
                texts.append(json.dumps(storable(part), ensure_ascii=False))
        text = "\n".join(texts)
    elif isinstance(output, str):
        kind, text = "text", output
    else:
        raise MessageBroken(f"the output of its tool result is of the unknown kind {kind!r}")
    return {
        "type": "tool_result",
        "id": _text(result.get("id") or call_id),
        "name": _text(result.get("name")) or "tool",
        "output": storable(text),
        "ok": kind not in ("error-text", "error-json", "execution-denied"),
    }, files


def _text(value: Any) -> str:
    if value is None:
        return ""
    return str(storable(value)) if isinstance(value, str) else json.dumps(storable(value), ensure_ascii=False)
