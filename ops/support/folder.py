"""Where bundles and exported logs lie until they are fetched: a folder of the data directory that only we can read."""

from __future__ import annotations

import os
import re
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from django.conf import settings

KEPT_FILES = 10
KEPT_SECONDS = 7 * 86400
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,120}\Z")
_KINDS = {".zip": "application/zip", ".jsonl": "application/x-ndjson", ".txt": "text/plain; charset=utf-8"}


@dataclass(frozen=True, slots=True)
class KeptFile:
    """One file of the folder."""

    name: str
    size: int
    made_at: datetime


def folder() -> Path:
    """Below the data directory; it may not exist yet."""
    return Path(settings.DATA_DIR) / "support"


def why_unusable() -> str:
    """Why files cannot be kept, in a sentence; "" when they can. Makes the folder when nothing is there."""
    place = folder()
    try:
        if place.exists() and not place.is_dir():
            return f"{place} is a file, and should be a folder: support bundles and exported logs cannot be kept."
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe = place / f".probe-{uuid.uuid4().hex}"
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        return (
            f"{place} cannot be written ({error.strerror}): support bundles and exported logs cannot be kept. "
            "Correct its owner, or make room."
        )
    return ""


def keep(name: str, content: bytes) -> Path:
    """Write a file of mode 0600 and let the oldest ones go. Raises ``OSError``."""
    place = folder()
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = place / name
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
    prune()
    return path


def kept() -> list[KeptFile]:
    """What is there, newest first."""
    try:
        entries = [(path, path.stat()) for path in folder().iterdir() if path.is_file() and path.suffix in _KINDS]
    except OSError:
        return []
    found = [KeptFile(path.name, stat.st_size, datetime.fromtimestamp(stat.st_mtime, UTC)) for path, stat in entries]
    return sorted(found, key=lambda one: (one.made_at, one.name), reverse=True)


def path_of(name: str) -> Path | None:
    """The file of this name, None when there is none or the name is no plain one."""
    path = folder() / name
    return path if _NAME.match(name) and path.suffix in _KINDS and path.is_file() and not path.is_symlink() else None


def kind_of(name: str) -> str:
    """Its media type."""
    return _KINDS.get(Path(name).suffix, "application/octet-stream")


def remove(name: str) -> bool:
    """Delete a file; False when there was none."""
    path = path_of(name)
    if path is None:
        return False
    path.unlink(missing_ok=True)
    return True


def prune() -> int:
    """Let go of what is too old or too much; returns how many files."""
    count = 0
    for number, one in enumerate(kept()):
        if number >= KEPT_FILES or time.time() - one.made_at.timestamp() > KEPT_SECONDS:
            count += remove(one.name)
    return count
