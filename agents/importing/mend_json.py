"""Puts right what hands do to a small JSON file: a quote, a comma or a bracket that is missing or too many.

Only for files so small that every way to mend them can be tried, and only where the result can be examined (``accept``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from agents.importing.loose_json import Places

MOST_BYTES = 20_000
MOST_EDITS = 4
_NEAR = 400


@dataclass(frozen=True, slots=True)
class Mended:
    """The value, and one sentence for each change, with line and column of the original text."""

    value: Any
    changes: tuple[str, ...]


def mend(text: str, accept: Callable[[Any], bool]) -> Mended | None:
    """The text's value with as few changes as possible, if ``accept`` agrees with it; ``None`` when there is no such."""
    if len(text) > MOST_BYTES:
        return None
    front: list[tuple[str, tuple[str, ...]]] = [(text, ())]
    seen = {text}
    for _ in range(MOST_EDITS + 1):
        following: list[tuple[int, str, tuple[str, ...]]] = []
        for candidate, changes in front:
            value, at = _try(candidate)
            if at is None:
                if accept(value):
                    return Mended(value, changes)
                continue
            for changed, sentence in _edits(candidate, at):
                if changed not in seen:
                    seen.add(changed)
                    _, reached = _try(changed)
                    if reached is None or reached > at:
                        following.append((len(changed) if reached is None else reached, changed, (*changes, sentence)))
        following.sort(key=lambda one: -one[0])
        front = [(changed, changes) for _, changed, changes in following[:24]]
        if not front:
            return None
    return None


def _try(text: str) -> tuple[Any, int | None]:
    try:
        return json.loads(text, strict=False), None
    except json.JSONDecodeError as error:
        # A missing quote is noticed only behind the text that it should have ended.
        return None, error.pos
    except RecursionError:
        return None, 0


_QUOTE_BEFORE = re.compile(r"[,}\]\n:]")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\s*\"?\s*:")


def _edits(text: str, at: int) -> Iterator[tuple[str, str]]:
    """Texts that differ by one change near ``at``, each with what was done in words."""

    def put(char: str, where: int, name: str) -> tuple[str, str]:
        line, column = Places(text).of(where)
        return text[:where] + char + text[where:], f"Added {name} at line {line}, column {column}."

    begin = max(0, at - _NEAR)
    for match in _QUOTE_BEFORE.finditer(text, begin, min(len(text), at + _NEAR)):
        yield put('"', match.start(), "the missing quote")
    for match in _WORD.finditer(text, begin, min(len(text), at + _NEAR)):
        yield put('"', match.start(), "the missing quote")
    for where in (at, at + 1):
        if where <= len(text):
            yield put('"', where, "the missing quote")
    yield put(",", at, "the missing comma")
    yield put(":", at, "the missing colon")
    comma = text.rfind(",", begin, at + 1)
    if comma >= 0:
        line, column = Places(text).of(comma)
        yield text[:comma] + text[comma + 1 :], f"Left out the comma at line {line}, column {column}."
    if at >= len(text.rstrip()) or not text.rstrip().endswith("}"):
        yield put("}", len(text.rstrip()), "the missing bracket")
    if '"' not in text and "'" in text:
        yield text.replace("'", '"'), "Took single quotes for double ones."
