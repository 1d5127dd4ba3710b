"""What components need when they copy files away and put them back: safe names, private files, SQLite while it is in use."""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from ops.backup.errors import BackupDamaged

CHUNK = 256 * 1024
# Pages a step, while others may write between two of them; so often may a copy begin again before it makes them wait.
_PAGES, _MOST_RESTARTS = 4096, 20


class Stopped(Exception):
    """Whoever asked for the copy wants it no longer."""


def inside(root: Path, name: str) -> Path:
    """The place of a file of that name below ``root``. Raises ``BackupDamaged`` for a name that leads elsewhere."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or "\0" in name or "\\" in name or any(part in ("..", ".") for part in parts):
        raise BackupDamaged(f"The backup holds a file whose name leads out of its folder: {name[:200]!r}.")
    return root.joinpath(*parts)


def stamp() -> str:
    """A mark for names of files that are kept aside: to the second, in UTC, and never the same twice."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"


def private_folder(path: Path) -> Path:
    """The folder, made with all above it, for the owner only."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    return path


def write_private(path: Path, stream: BinaryIO) -> int:
    """Write the file for the owner only, at once or not at all. Returns its size."""
    private_folder(path.parent)
    fresh = path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}")
    size = 0
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as target:
            while chunk := stream.read(CHUNK):
                target.write(chunk)
                size += len(chunk)
            target.flush()
            os.fsync(target.fileno())
        os.replace(fresh, path)
    finally:
        with suppress(FileNotFoundError):
            fresh.unlink()
    return size


def read_small(stream: BinaryIO, name: str, most: int = 1024 * 1024) -> bytes:
    """All of a small file. Raises ``BackupDamaged`` when it is larger than anything of its kind can be."""
    data = stream.read(most + 1)
    if len(data) > most:
        raise BackupDamaged(f"{name} in the backup is larger than {most:,} bytes, which it cannot be.")
    return data


def opener(path: Path) -> Callable[[], BinaryIO]:
    """What opens the file for reading, for a ``FilePart``."""

    def open_it() -> BinaryIO:
        return path.open("rb")

    return open_it


def copy_sqlite(source: Path, target: Path, *, should_stop: Callable[[], bool] = lambda: False) -> Path:
    """One moment of a database that others may be writing to, in a file of its own. Raises ``sqlite3.Error``, ``Stopped``.

    Copied in steps, between which others write; a database of the old kind (no WAL) then makes it begin again, and after a while it is
    copied in one go.
    """
    private_folder(target.parent)
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
    restarts, before = 0, None

    class _Again(Exception):
        pass

    def progress(status: int, remaining: int, total: int) -> None:
        nonlocal restarts, before
        if should_stop():
            raise Stopped
        if before is not None and remaining >= before:
            restarts += 1
            if restarts > _MOST_RESTARTS:
                raise _Again
        before = remaining

    source_uri = f"file:{_quoted(source)}?mode=ro"
    with (
        closing(sqlite3.connect(source_uri, uri=True, timeout=30)) as database,
        closing(sqlite3.connect(target)) as copy,
    ):
        try:
            database.backup(copy, pages=_PAGES, progress=progress, sleep=0.01)
        except _Again:
            database.backup(copy)
        # A copy lies alone: what is beside a file in WAL mode would be lost with a move.
        copy.execute("PRAGMA journal_mode = DELETE")
    return target


def _quoted(path: Path) -> str:
    from urllib.parse import quote

    return quote(str(path.resolve()))
