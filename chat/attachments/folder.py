"""Where contents lie: below ``ATTACHMENTS_DIR``, each once, named by its SHA-256. Never below the web root, readable for us alone.

A content is complete or not there: it is written beside and moved into place.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from django.conf import settings

CHUNK = 256 * 1024
# Parts of uploads that were cut off, and contents that nobody needs, go when they are older than this.
SPARE_SECONDS = 3600.0
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class NoSpace(Exception):
    """The disk is full, or our share of it."""


@dataclass(frozen=True, slots=True)
class Content:
    """What was written. ``path`` is relative to the folder."""

    sha256: str
    size: int
    path: str


def root() -> Path:
    """The folder; made when it is first needed."""
    folder: Path = settings.ATTACHMENTS_DIR
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def path_of(sha256: str) -> str:
    """Where a content lies, relative to the folder."""
    return f"{sha256[:2]}/{sha256}"


@contextmanager
def being_written() -> Iterator[BinaryIO]:
    """A file to write a content to; gone at the end unless ``keep`` was called. Raises ``NoSpace``."""
    folder = root() / "parts"
    try:
        folder.mkdir(exist_ok=True, mode=0o700)
        name = folder / f"{int(time.time())}-{secrets.token_hex(8)}"
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise _full(error) from error
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield file
    except OSError as error:
        raise _full(error) from error
    finally:
        with suppress(FileNotFoundError):
            name.unlink()


def _full(error: OSError) -> BaseException:
    return NoSpace(str(error)) if error.errno in _FULL else error


def keep(file: BinaryIO) -> Content:
    """Put what was written into its place. Raises ``NoSpace``. The file stays usable, so that ``ensure`` can put it there again."""
    digest, size = hashlib.sha256(), 0
    file.flush()
    file.seek(0)
    while chunk := file.read(CHUNK):
        digest.update(chunk)
        size += len(chunk)
    content = Content(digest.hexdigest(), size, path_of(digest.hexdigest()))
    ensure(file, content)
    return content


def ensure(file: BinaryIO, content: Content) -> None:
    """Make sure that the content lies in its place, and counts as new. Raises ``NoSpace``."""
    place = root() / content.path
    try:
        place.parent.mkdir(exist_ok=True, mode=0o700)
        if place.exists() and place.stat().st_size == content.size:
            os.utime(place)
            return
        fresh = place.with_name(f"{place.name}.{secrets.token_hex(4)}.part")
        try:
            file.seek(0)
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as target:
                while chunk := file.read(CHUNK):
                    target.write(chunk)
                target.flush()
                os.fsync(target.fileno())
            os.replace(fresh, place)
        finally:
            with suppress(FileNotFoundError):
                fresh.unlink()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _full(error) from error


def open_content(path: str) -> BinaryIO:
    """The content at a path that a row holds. Raises ``FileNotFoundError``."""
    place = (root() / path).resolve()
    if not place.is_relative_to(root().resolve()):
        raise FileNotFoundError(path)
    return place.open("rb")


def old_contents(now: float | None = None) -> Iterator[tuple[str, Path]]:
    """Contents (SHA-256 and place) that were not touched for a while."""
    before = (now or time.time()) - SPARE_SECONDS
    for folder in sorted(root().iterdir()):
        if len(folder.name) != 2 or not folder.is_dir():
            continue
        for place in folder.iterdir():
            if len(place.name) == 64 and is_older(place, before):
                yield place.name, place


def remove_parts(now: float | None = None) -> int:
    """Remove what was left of uploads that were cut off. Returns how many."""
    before, gone = (now or time.time()) - SPARE_SECONDS, 0
    for place in [*(root() / "parts").glob("*"), *root().glob("??/*.part")]:
        if is_older(place, before):
            place.unlink(missing_ok=True)
            gone += 1
    return gone


def is_older(place: Path, before: float) -> bool:
    """Whether a file was last touched before a time; one that is gone was not."""
    try:
        return place.stat().st_mtime < before
    except FileNotFoundError:
        return False
