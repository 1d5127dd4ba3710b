"""Cutting a long answer into pieces that each fit into one event.

An event may take 65,536 bytes in all (client-server API, "Size limits"). What counts is the piece *as it is sent*: the text, its
HTML, and both twice in an edit. So a piece is measured by building that content, not by counting characters.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from agents.matrix.content import content_size, edit_content
from agents.matrix.markdown import clean_text, render

# 65,536 less the event around the content (signatures, hashes, up to 20 parents) and the keys we add to it.
EVENT_LIMIT = 56_000
_SMALLEST_LIMIT = 600
_LONGEST_EVENT_ID = "$" + "x" * 254
_FENCE = re.compile(r"([ \t>]*)(`{3,40}(?!`)|~{3,40}(?!~))([^\n]*)")
_SENTENCE = re.compile(r"[.!?…][\"')\]”’]?\s|[。！？]")
_SPACE = re.compile(r"\s")


def split_for_events(text: str, limit: int = EVENT_LIMIT) -> list[str]:
    """Cut ``text`` so that each piece, rendered and as an edit, stays within ``limit`` bytes of content.

    Cuts at a paragraph, else a line, a sentence, a word, else anywhere but inside a character that is written with several code
    points. A code block that is cut is closed and opened again. No text is lost; white space at a cut or at the end may be. Empty text gives
    no piece.
    """
    if limit < _SMALLEST_LIMIT:
        raise ValueError(f"An event's limit must be at least {_SMALLEST_LIMIT} bytes")
    rest = clean_text(text)
    pieces: list[str] = []
    while rest.strip():
        piece, rest = _take(rest, limit)
        if piece.strip():
            pieces.append(piece)
    return pieces


def event_size(text: str) -> int:
    """The bytes of content that ``text`` takes in the largest form we send it in, an edit."""
    return content_size(edit_content(_LONGEST_EVENT_ID, render(text)))


@dataclass(frozen=True, slots=True)
class _Fence:
    """An open code block: what stands before its marks, the marks, the language."""

    indent: str
    marks: str
    language: str

    @property
    def opening(self) -> str:
        quote = self.indent if ">" in self.indent else ""
        return f"{quote}{self.marks}{self.language}\n"

    @property
    def closing(self) -> str:
        return f"\n{self.indent}{self.marks}"


def _take(text: str, limit: int) -> tuple[str, str]:
    """The first piece and what remains."""
    # An edit holds the text twice, and every character takes a byte: nothing longer than half the limit can fit.
    size = min(len(text), limit // 2)
    if size == len(text) and event_size(text) <= limit:
        return text.rstrip(), ""
    while True:
        cut, fence = _cut(text, size)
        piece = text[:cut]
        piece = piece.rstrip("\n") + fence.closing if fence else piece.rstrip()
        used = event_size(piece)
        if used <= limit or size <= 1:
            break
        # Once too large, aim a little below the share that would fit; halve at least every few rounds.
        size = max(1, min(int(size * 0.9), int(cut * limit / used * 0.97)))
    return piece, _remainder(text[cut:], fence)


def _remainder(rest: str, fence: _Fence | None) -> str:
    if fence is None:
        return rest.lstrip("\n") if rest[:1] == "\n" else rest
    rest = rest.removeprefix("\n")
    if not rest.strip():
        return ""
    if fence.indent and ">" not in fence.indent:
        rest = _dedent_block(rest, fence)
    lines = rest.split("\n", 1)
    if _closes(lines[0], fence):
        return lines[1] if len(lines) > 1 else ""
    return fence.opening + rest


def _dedent_block(rest: str, fence: _Fence) -> str:
    """Move the rest of an indented block to the margin, where it can be opened again without the list it stood in."""
    lines = rest.split("\n")
    for number, line in enumerate(lines):
        lines[number] = line.removeprefix(fence.indent) if line.startswith(fence.indent) else line
        if _closes(line, fence):
            break
    return "\n".join(lines)


def _cut(text: str, size: int) -> tuple[int, _Fence | None]:
    """Where to cut within the first ``size`` characters, and the code block that is open there."""
    if size >= len(text):
        return len(text), None
    fences = _fences(text, size)
    lowest = size // 2
    end = size
    while (found := text.rfind("\n\n", lowest, end)) > 0:
        if _open_at(fences, found) is None:
            return found, None
        end = found
    found = text.rfind("\n", max(lowest, 1), size + 1)
    if found > 0 and not _starts_block(fences, found):
        return found, _open_at(fences, found)
    fence = _open_at(fences, size)
    window = text[lowest:size]
    sentence = None if fence else _last(_SENTENCE, window)
    offset = sentence if sentence is not None else _last(_SPACE, window)
    cut = lowest + offset if offset is not None else _whole_character(text, size)
    return max(cut, 1), _open_at(fences, cut)


def _last(pattern: re.Pattern[str], window: str) -> int | None:
    end = None
    for match in pattern.finditer(window):
        end = match.end()
    return end or None


def _fences(text: str, size: int) -> list[tuple[int, _Fence | None]]:
    """The places up to ``size`` at which a code block begins (after its first line) or ends, in order."""
    changes: list[tuple[int, _Fence | None]] = []
    current: _Fence | None = None
    start = 0
    while start < size:
        stop = text.find("\n", start)
        stop = len(text) if stop < 0 else stop
        line = text[start : min(stop, start + 400)]
        if current is not None:
            if _closes(line, current):
                current = None
                changes.append((stop, None))
        elif (match := _FENCE.fullmatch(line)) and (match[2][0] == "~" or "`" not in match[3]):
            words = match[3].split()
            current = _Fence(match[1], match[2], words[0][:30] if words else "")
            changes.append((stop, current))
        start = stop + 1
    return changes


def _open_at(fences: list[tuple[int, _Fence | None]], position: int) -> _Fence | None:
    current = None
    for place, fence in fences:
        # At a block's last line break the block is over only when the closing line lies before it.
        if place > position:
            break
        current = fence
    return current


def _starts_block(fences: list[tuple[int, _Fence | None]], position: int) -> bool:
    """Whether a cut here would leave an opening line alone at the end of a piece."""
    return any(place == position and fence is not None for place, fence in fences)


def _closes(line: str, fence: _Fence) -> bool:
    marks = line.strip(" \t>")
    return len(marks) >= len(fence.marks) and not marks.strip(fence.marks[0])


def _whole_character(text: str, cut: int) -> int:
    """The nearest place at or before ``cut`` that is not inside one visible character."""
    place = cut
    while place > 0 and _joined(text, place):
        place -= 1
    return place or cut


def _joined(text: str, place: int) -> bool:
    if place >= len(text):
        return False
    before, after = text[place - 1], text[place]
    if after < "\u0300":
        return False
    if before == "\u200d" or after == "\u200d" or unicodedata.category(after)[0] == "M":
        return True
    if "\U0001f3fb" <= after <= "\U0001f3ff" or "\ufe00" <= after <= "\ufe0f" or "\U000e0020" <= after <= "\U000e007f":
        return True
    if "\u1160" <= after <= "\u11ff":  # Hangul vowels and finals belong to the consonant before them
        return True
    if _is_flag(after) and _is_flag(before):
        run = place
        while run > 0 and _is_flag(text[run - 1]):
            run -= 1
        return (place - run) % 2 == 1
    return False


def _is_flag(char: str) -> bool:
    return "\U0001f1e6" <= char <= "\U0001f1ff"
