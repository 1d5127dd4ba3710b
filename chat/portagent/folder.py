"""``DATA_DIR/imports``: what operators put there or upload, and the rejects of each import."""

from __future__ import annotations

import re
import shutil
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from django.conf import settings

from chat.portagent.databases import NotPortagent

_CHUNK = 1024 * 1024
_UPLOAD = "upload-"
_NAME = re.compile(r"[^A-Za-z0-9._-]+")


def root() -> Path:
    """The folder, made when it is missing. Password hashes lie in it: it is its owner's only."""
    folder = Path(settings.DATA_DIR) / "imports"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def inside(name: str) -> Path:
    """A path below the folder. Raises ``NotPortagent`` for one that leads out of it."""
    folder = root().resolve()
    try:
        found = (folder / name).resolve()
    except (OSError, ValueError):
        found = folder.parent
    if not name or "\x00" in name or not found.is_relative_to(folder) or found == folder:
        raise NotPortagent(f"Name a file or folder below {folder}, where this installation looks for imports.")
    if not found.exists():
        raise NotPortagent(f"There is no {name[:200]!r} in {folder}.")
    return found


def receive(files: Iterable[tuple[str, IO[Any]]]) -> Path:
    """Keep uploaded files together in a folder of their own, under their names. Returns it."""
    folder = root() / f"{_UPLOAD}{uuid.uuid4().hex[:12]}"
    folder.mkdir(mode=0o700)
    for number, (given, content) in enumerate(files):
        name = _NAME.sub("_", Path(given).name).lstrip(".")[:100] or "file"
        place = folder / name
        if place.exists():
            place = folder / f"{number}-{name}"
        with place.open("xb") as written:
            while chunk := content.read(_CHUNK):
                written.write(chunk)
    return folder


def forget_upload(name: str) -> None:
    """Remove uploaded files once they are imported: there are password hashes in them. What operators put there themselves stays."""
    place = root() / name
    if name.startswith(_UPLOAD) and "/" not in name and place.is_dir():
        shutil.rmtree(place, ignore_errors=True)


def rejects_for(key: str) -> Path:
    """Where the rejects of one import go."""
    return root() / f"rejects-{_NAME.sub('_', key)}.jsonl"
