"""What is read from Portagent, row by row, before anybody judges it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

SYSTEM = "portagent"
# Portagent's ids are random in all their kinds, so rows of several installations never meet: all count as one source, and a
# database that has grown, lost its first rows or was copied is the same one.
SOURCE = "portagent"

Kind = str
USER, INVITE, IMAGE, MESSAGE, FILE, STORED = "user", "invite", "image", "message", "file", "kv"
# Kept besides, so that a conversation that comes later finds its person.
CONTAINER = "container"
KINDS = (USER, INVITE, IMAGE, MESSAGE, FILE)


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One row. ``raw`` is JSON, as it goes into the file of rejects; ``problem`` says why it could not even be read (code, sentence).

    ``kv``: a row of ``kv_storage`` that is no JSON of its kind. ``file``: an attachment that could not be kept, ``raw`` names its message.
    """

    kind: Kind
    key: str
    raw: dict[str, Any]
    problem: tuple[str, str] | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of the content."""
        text = json.dumps(self.raw, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class Source(Protocol):
    """Portagent's data, from its databases or from a file of rejects. Everything is read as it is asked for."""

    def users(self) -> Iterator[SourceRow]: ...

    def invites(self) -> Iterator[SourceRow]: ...

    def images(self) -> Iterator[SourceRow]:
        """Conversations. ``raw`` is the image with ``sessionId``; one that has several sessions comes once for each."""

    def messages(self, image: SourceRow) -> Iterator[SourceRow]:
        """The messages of a conversation in their order; ``raw`` is ``{"imageId", "sessionId", "message"}``."""

    def stored_messages(self, image: SourceRow) -> SourceRow | None:
        """The same as one row, for rejects."""

    def leftovers(self) -> Iterator[SourceRow]:
        """What belongs to nothing else: messages without a conversation, files of a file of rejects. Asked last."""

    def close(self) -> None: ...


def time_of(value: Any) -> datetime | None:
    """A time as Portagent wrote it: milliseconds (1.9), seconds, or SQLite's ``datetime('now')`` in UTC (2.x). ``None`` for nonsense."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, str):
        text = value.strip()
        try:
            value = float(text)
        except ValueError:
            try:
                found = datetime.fromisoformat(text.replace(" ", "T", 1))
            except ValueError:
                return None
            return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    if not isinstance(value, int | float) or value != value or value <= 0:
        return None
    try:
        return datetime.fromtimestamp(value / 1000 if value > 1e11 else value, UTC)
    except (OverflowError, OSError, ValueError):
        return None


def storable(value: Any) -> Any:
    """A copy that every database can keep: without NUL and without halves of characters."""
    if isinstance(value, str):
        if "\x00" in value:
            value = value.replace("\x00", "")
        if any("\ud800" <= char <= "\udfff" for char in value):
            value = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return value
    if isinstance(value, dict):
        return {storable(str(name)): storable(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [storable(inner) for inner in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    return value
