"""Takes JSON apart entry by entry, with the place of each, so that a broken file loses only what is broken.

The predecessor drops a whole file for one wrong character, and then makes every account and room anew.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any

_SPACE = re.compile(r"[ \t\n\r\ufeff\x00]*")
# Where the next entry of the outermost object begins: behind a closed one, or at the beginning of a line.
_NEXT_IN_OBJECT = re.compile(r'\}\s*,\s*(?="(?:[^"\\\n]|\\.)*"\s*:\s*\{)')
_NEXT_IN_LIST = re.compile(r"\}\s*,\s*(?=\{)")
# Control characters in texts are let through: hand-edited files have tabs in them.
_DECODER = json.JSONDecoder(strict=False)
# After so many broken entries a file is something else.
_MOST_BROKEN = 200


@dataclass(frozen=True, slots=True)
class Entry:
    """One whole entry; ``key`` is "" in a list. ``start`` and ``end`` are offsets of the value."""

    key: str
    value: Any
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Broken:
    """What could not be read: its text from ``start`` on, and where exactly (``at``) it stops making sense."""

    text: str
    start: int
    at: int
    reason: str
    cut_off: bool = False


@dataclass(slots=True)
class Places:
    """Line and column of an offset, both from 1. Asking in ascending order costs one pass over the text."""

    text: str
    _at: int = 0
    _line: int = 1
    _begins: int = field(default=0)

    def of(self, offset: int) -> tuple[int, int]:
        if offset < self._at:
            self._at, self._line, self._begins = 0, 1, 0
        self._line += self.text.count("\n", self._at, offset)
        last = self.text.rfind("\n", self._at, offset)
        if last >= 0:
            self._begins = last + 1
        self._at = offset
        return self._line, offset - self._begins + 1


def outer(text: str) -> str:
    """What the text begins with: ``{``, ``[``, another character, or "" when there is nothing in it."""
    start = _after_space(text, 0)
    return text[start : start + 1]


def entries(text: str, start: int = 0) -> Iterator[Entry | Broken]:
    """The entries of the outermost object or list in order; what is broken in between or behind them as ``Broken``."""
    at = _after_space(text, start)
    if text[at : at + 1] not in ("{", "["):
        yield Broken(text[at:], at, at, "This is no JSON object or list")
        return
    in_object = text[at] == "{"
    closing = "}" if in_object else "]"
    at = _after_space(text, at + 1)
    broken = 0
    while True:
        if text[at : at + 1] == closing:
            rest = _after_space(text, at + 1)
            if rest < len(text):
                yield Broken(text[rest:], rest, rest, "There is more behind the end")
            return
        begin = at
        try:
            key, at = _key(text, at) if in_object else ("", at)
            value, end = _value(text, at)
            yield Entry(key, value, at, end)
            at = _after_space(text, end)
            if text[at : at + 1] == closing:
                continue
            if text[at : at + 1] != ",":
                begin = at
                if at >= len(text):
                    raise _Bad("The file ends in the middle", at, cut_off=True)
                raise _Bad("A comma or the closing bracket is missing", at)
            at = _after_space(text, at + 1)
        except _Bad as bad:
            broken += 1
            following = (_NEXT_IN_OBJECT if in_object else _NEXT_IN_LIST).search(text, max(begin, bad.at - 1))
            if following is None or broken > _MOST_BROKEN:
                cut_off = bad.cut_off or not text.rstrip().endswith(closing)
                reason = "The file ends in the middle" if cut_off else bad.reason
                if begin < len(text) or cut_off:
                    yield Broken(text[begin:], begin, bad.at, reason, cut_off)
                return
            yield Broken(text[begin : following.start() + 1], begin, bad.at, bad.reason)
            at = following.end()


class _Bad(Exception):
    def __init__(self, reason: str, at: int, *, cut_off: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.at, self.cut_off = reason, at, cut_off


def _after_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    assert match is not None
    return match.end()


def _key(text: str, at: int) -> tuple[str, int]:
    if at >= len(text):
        raise _Bad("The file ends in the middle", at, cut_off=True)
    if text[at] != '"':
        raise _Bad("The name of an entry is missing, or its quote", at)
    try:
        key, end = scanstring(text, at + 1, False)
    except json.JSONDecodeError as error:
        raise _Bad("The file ends in the middle", error.pos, cut_off=True) from None
    at = _after_space(text, end)
    if text[at : at + 1] != ":":
        raise _Bad(
            "The file ends in the middle" if at >= len(text) else "A colon is missing", at, cut_off=at >= len(text)
        )
    return key, _after_space(text, at + 1)


def _value(text: str, at: int) -> tuple[Any, int]:
    if at >= len(text):
        raise _Bad("The file ends in the middle", at, cut_off=True)
    try:
        return _DECODER.raw_decode(text, at)
    except json.JSONDecodeError as error:
        cut_off = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string")
        reason = "The file ends in the middle" if cut_off else _in_words(error.msg)
        raise _Bad(reason, min(error.pos, len(text)), cut_off=cut_off) from None
    except RecursionError:
        raise _Bad("It is nested too deeply", at) from None


_WORDS = {
    "Expecting ',' delimiter": "A comma or a quote is missing",
    "Expecting ':' delimiter": "A colon or a quote is missing",
    "Expecting value": "A value is missing",
    "Expecting property name enclosed in double quotes": "The name of a field is missing, or its quote",
    "Unterminated string starting at": "A quote is missing",
    "Illegal trailing comma before end of object": "There is a comma too many",
    "Illegal trailing comma before end of array": "There is a comma too many",
}


def _in_words(message: str) -> str:
    return _WORDS.get(message, message)
