"""What every place for copies can do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

SUFFIX = ".sbk"
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Entry:
    """A backup's file at a place. ``name`` is without its ending."""

    name: str
    size: int
    changed_at: datetime | None = None


class Place(Protocol):
    """A place for copies. Every method raises ``DestinationFailed`` with a sentence, and nothing else, for what goes wrong there.

    A file is there under its name only when it is there whole.
    """

    def put(self, source: Path, name: str, *, sha256: str = "", progress: Progress | None = None) -> int:
        """Store the file; returns its size there. ``sha256``: what the source must be; another content is refused."""

    def fetch(self, name: str, target: Path, *, progress: Progress | None = None) -> None:
        """Write the file to ``target``."""

    def head(self, name: str, length: int) -> bytes:
        """Its first bytes."""

    def entries(self) -> list[Entry]:
        """All backups that lie here, the newest name last."""

    def delete(self, name: str) -> None:
        """Remove it; one that is not there is well."""

    def local_path(self, name: str) -> Path | None:
        """Where it can be read in place on this machine, if it can."""

    def free(self) -> int | None:
        """Bytes of room, where that can be known."""

    def where(self) -> str:
        """The place in words, without secrets: ``/srv/backups``, ``s3://bucket/prefix``."""
