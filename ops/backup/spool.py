"""The folder in which backups are made: ``DATA_DIR/backups``. What lies there under its name is whole.

A file is written as ``.<name>.partial``, brought to the disk and renamed. A run that was killed leaves a hidden file at most; the next one
removes it.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, cast

from django.conf import settings
from django.db import connection

from ops.backup.destinations.base import SUFFIX
from ops.backup.destinations.folder import private, sync_folder
from ops.backup.errors import BackupError, NoRoom
from ops.disk_guard import may

FOLDER = "backups"
_FETCHED = ".fetched"
_FETCHED_KEPT = 86400.0


def folder() -> Path:
    """The folder, made when it is not there."""
    path = Path(settings.DATA_DIR) / FOLDER
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    return path


def path_of(name: str) -> Path:
    """Where the backup of that name lies when it lies here."""
    return folder() / f"{name}{SUFFIX}"


def fetched_path(name: str) -> Path:
    """Where a copy is put that was fetched from elsewhere; it goes after a day."""
    place = folder() / _FETCHED
    place.mkdir(exist_ok=True, mode=0o700)
    return place / f"{name}{SUFFIX}"


def new_name(id: uuid.UUID, at: datetime) -> str:
    """``switchboard-20261128T031500Z-1a2b3c4d``."""
    return f"switchboard-{at.astimezone(UTC):%Y%m%dT%H%M%SZ}-{id.hex[:8]}"


def installation() -> str:
    """Which installation this is, without saying anything about it. A restore on another machine brings it along with the keys."""
    return hmac.new(settings.SECRET_KEY.encode(), b"switchboard.installation", hashlib.sha256).hexdigest()[:16]


class Writing:
    """The file while it is written: remembers what the disk said against it. Behaves like a binary file that can only be written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        """All of it; what the disk says against it is kept in ``error``, whatever those between make of the exception."""
        try:
            self._file.write(data)
        except OSError as error:
            self.error = error
            raise
        return len(data)

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        """Whoever opened it closes it."""


@contextmanager
def writing(name: str) -> Iterator[BinaryIO]:
    """A new backup's file. It has its name only when the block ended well; otherwise nothing of it is left. Raises ``NoRoom``."""
    final = path_of(name)
    partial = final.with_name(f".{name}.partial")
    file: Writing | None = None
    try:
        with open(partial, "wb", opener=private) as raw:
            file = Writing(raw)
            yield cast(BinaryIO, file)
            raw.flush()
            os.fsync(raw.fileno())
        os.replace(partial, final)
        sync_folder(final.parent)
    except BaseException as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        told = file.error if file is not None and file.error is not None else error
        if isinstance(told, OSError) and not isinstance(error, BackupError):
            if told.errno in (errno.ENOSPC, errno.EDQUOT):
                raise NoRoom(
                    f"The disk with {final.parent} became full while the backup was written; nothing of it is left. Make room, then try again."
                ) from error
            raise BackupError(f"The backup cannot be written to {final.parent}: {told.strerror or told}.") from error
        raise


def sweep() -> list[str]:
    """Remove what killed runs left behind, and fetched copies that had their time. Only for who holds the lock for making backups."""
    gone = []
    for path in folder().glob(".*.partial"):
        with suppress(OSError):
            path.unlink()
            gone.append(path.name)
    for path in Path(settings.DATA_DIR).glob(".backup-*"):
        # Copies of stores that were being made for it.
        shutil.rmtree(path, ignore_errors=True)
        gone.append(path.name)
    for path in (folder() / _FETCHED).glob("*"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _FETCHED_KEPT:
                path.unlink()
                gone.append(path.name)
    return gone


def check_room(needed: int, *, asked_for: str = "") -> None:
    """Raises ``NoRoom`` when so many bytes do not fit where backups are made, or when backups wait for room as it is. ``asked_for``: what there is
    no room for, when it does not begin by itself later."""
    if sentence := may("backup", needs=needed, folder=folder(), asked_for=asked_for):
        raise NoRoom(sentence)


def guess(last_size: int) -> int:
    """About how large the next one becomes: a little more than the last, or as much as database and files have."""
    if last_size:
        return int(last_size * 1.3)
    return (
        database_size() // 2
        + _size(Path(settings.DATA_DIR) / "attachments")
        + _size(Path(settings.DATA_DIR) / "crypto")
    )


def database_size() -> int:
    """Bytes that the database has on its disk; 0 where it does not say."""
    if connection.vendor == "sqlite":
        with suppress(OSError):
            return Path(str(connection.settings_dict["NAME"])).stat().st_size
        return 0
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_database_size(current_database())")
        return int(cursor.fetchone()[0])


def _size(place: Path) -> int:
    total = 0
    for root, _, files in os.walk(place):
        for name in files:
            with suppress(OSError):
                total += os.lstat(os.path.join(root, name)).st_size
    return total
