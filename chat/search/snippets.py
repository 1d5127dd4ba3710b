"""The place in a text where terms were found, as pieces of which some are marked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

SNIPPET_CHARS = 240
_BEFORE = 60
# Beyond this a long text is not looked through for marks; its beginning is shown.
_LOOKED_AT = 400_000


def pieces(text: str, terms: Sequence[str], *, most: int = SNIPPET_CHARS) -> list[dict[str, Any]]:
    """``[{"text", "mark"}]``: about ``most`` characters around the first place where a term stands, all terms marked.

    Line breaks become spaces. The pieces put together are a part of the text, with ``…`` where it was cut.
    """
    looked, folded = text[:_LOOKED_AT], _folded(text[:_LOOKED_AT])
    wanted = [term.casefold() for term in terms if term]
    places = [place for term in wanted if (place := folded.find(term)) >= 0]
    first = min(places, default=0)
    begin = _word_begin(looked, max(0, first - _BEFORE)) if first > _BEFORE else 0
    end = min(len(looked), begin + most)
    shown, marks = looked[begin:end], [False] * (end - begin)
    window = folded[begin:end]
    for term in wanted:
        at = window.find(term)
        while at >= 0:
            marks[at : at + len(term)] = [True] * len(term)
            at = window.find(term, at + len(term))
    found: list[dict[str, Any]] = []
    for char, mark in zip(shown, marks, strict=True):
        char = " " if char.isspace() else char
        if found and found[-1]["mark"] == mark:
            found[-1]["text"] += char
        else:
            found.append({"text": char, "mark": mark})
    if begin:
        _join(found, 0, "…", before=True)
    if end < len(text):
        _join(found, -1, "…", before=False)
    return found


def _folded(text: str) -> str:
    """As ``casefold``, and as long as the text: a letter whose small form is several stays as it is."""
    folded = text.casefold()
    if len(folded) == len(text):
        return folded
    return "".join(small if len(small := char.casefold()) == 1 else char for char in text)


def _word_begin(text: str, at: int) -> int:
    space = text.find(" ", at, at + 20)
    return space + 1 if space >= 0 else at


def _join(found: list[dict[str, Any]], where: int, text: str, *, before: bool) -> None:
    if not found or found[where]["mark"]:
        found.insert(0 if before else len(found), {"text": text, "mark": False})
    else:
        found[where]["text"] = text + found[where]["text"] if before else found[where]["text"] + text
