"""Server-sent events, read strictly (https://html.spec.whatwg.org/multipage/server-sent-events.html, section 9.2.6).

The specification lets a reader skip what it does not know. Here an unknown line is an error: between us and a model a proxy's
HTML page or a cut JSON line must become an honest failure, never a shorter answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

LONGEST_LINE = 8 * 1024 * 1024


class SseGarbage(ValueError):
    """Not an event stream. The message holds the beginning of the offending line."""


@dataclass(frozen=True, slots=True)
class SseEvent:
    """One event. ``data`` is empty for a ping without data."""

    data: str
    event: str = "message"


def parse_events(chunks: Iterable[bytes]) -> Iterator[SseEvent]:
    """Events from bytes as they arrive.

    An event counts once its empty line came; a rest without one is dropped, so a cut event is never taken for a whole one.
    Comments come out as ``SseEvent("", "comment")``, so that the caller sees that the server is alive. Raises ``SseGarbage``.
    """
    data: list[str] = []
    name = ""
    for line in _lines(chunks):
        if not line:
            if data or name:
                yield SseEvent("\n".join(data), name or "message")
            data, name = [], ""
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            data.append(value)
        elif field == "event":
            name = value
        elif field == "":
            yield SseEvent("", "comment")
        elif field not in ("id", "retry"):
            raise SseGarbage(line[:120])


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Lines ended by LF, CR or CRLF, decoded one by one, since a chunk may end inside a character."""
    rest = b""
    first = True
    skip_lf = False
    for chunk in chunks:
        if not chunk:
            continue
        if skip_lf:
            chunk = chunk.removeprefix(b"\n")
        # A CR at the very end may be half of a CRLF: end the line now and swallow an LF that follows.
        skip_lf = chunk.endswith(b"\r")
        rest += chunk
        if b"\n" not in chunk and b"\r" not in chunk:
            if len(rest) > LONGEST_LINE:
                raise SseGarbage("a line of more than 8 MiB")
            continue
        *whole, rest = rest.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        for raw in whole:
            try:
                line = raw.decode("utf-8")
            except UnicodeDecodeError as error:
                raise SseGarbage("bytes that are not UTF-8") from error
            yield line.removeprefix("\ufeff") if first else line
            first = False
