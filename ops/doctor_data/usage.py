"""What lies on the disk and whose it is; how fast it grows."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from ops.doctor_data import sqlite

# Folders and files of the data directory by what they are for; the rest is "other".
_KINDS = {
    "logs": "logs",
    "media": "media",
    "backups": "backups",
    "exports": "exports",
    "recovered": "damaged databases kept aside",
    "homeserver": "the local homeserver",
    "static": "static files",
    "crypto": "keys of encrypted rooms",
}
LOG_FOLDERS = ("logs", "homeserver")
SAMPLE_EVERY = 600.0
_SAMPLES = 144
_SHORTEST = 6 * 3600.0
_PATIENCE = 3.0


@dataclass(frozen=True, slots=True)
class Part:
    """One kind of thing in the data directory. ``complete``: everything of it was counted in time."""

    name: str
    size: int
    complete: bool = True


def parts(folder: Path | None = None, *, patience: float = _PATIENCE) -> list[Part]:
    """The data directory by kind, the largest first. Stops counting after ``patience`` seconds."""
    folder = folder or Path(settings.DATA_DIR)
    until = time.monotonic() + patience
    sizes: dict[str, int] = {}
    cut: set[str] = set()
    database = sqlite.database_file() if sqlite.is_sqlite() else None
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return []
    for entry in sorted(entries, key=lambda one: one.name not in _KINDS):
        is_database = database is not None and entry.name.startswith(database.name) and folder == database.parent
        name = "database" if is_database else _KINDS.get(entry.name, "other")
        size, complete = _size(entry, until)
        sizes[name] = sizes.get(name, 0) + size
        if not complete:
            cut.add(name)
    found = [Part(name, size, name not in cut) for name, size in sizes.items()]
    return sorted(found, key=lambda part: -part.size)


def _size(entry: os.DirEntry[str], until: float) -> tuple[int, bool]:
    try:
        if not entry.is_dir(follow_symlinks=False):
            return entry.stat(follow_symlinks=False).st_size, True
    except OSError:
        return 0, True
    total, complete = 0, True
    for path in walk(Path(entry.path)):
        if time.monotonic() > until:
            complete = False
            break
        try:
            # Blocks, not lengths: what a sparse file does not use is not used.
            total += os.lstat(path).st_blocks * 512
        except OSError:
            continue
    return total, complete


def walk(folder: Path) -> Iterator[Path]:
    """All files below a folder, without following links."""
    for root, _, files in os.walk(folder):
        for name in files:
            yield Path(root) / name


def log_files(folder: Path | None = None) -> list[Path]:
    """Our own log files that are being written: those of parts that we start, and of the local homeserver."""
    base = folder or Path(settings.DATA_DIR)
    return sorted(
        path for name in LOG_FOLDERS if (base / name).is_dir() for path in (base / name).glob("*.log") if path.is_file()
    )


def rotated_files(folder: Path | None = None) -> list[Path]:
    """Log files that are done with: ``name.log.1``, ``name.log.20260102-030405.gz``. The newest first of each name."""
    base = folder or Path(settings.DATA_DIR)
    found = [
        path
        for name in LOG_FOLDERS
        if (base / name).is_dir()
        for path in (base / name).glob("*.log.*")
        if path.is_file() and not path.is_symlink()
    ]
    return sorted(found, key=lambda path: (path.name.partition(".log.")[0], -path.stat().st_mtime))


def with_sample(samples: Sequence[Sequence[float]], now: float, used: int) -> list[list[float]]:
    """The samples with a new one when the last is old enough; a day's worth at ten minutes, older ones thinned out."""
    kept = [[float(at), float(size)] for at, size in samples if at <= now]
    if not kept or now - kept[-1][0] >= SAMPLE_EVERY:
        kept.append([round(now), float(used)])
    if len(kept) > _SAMPLES:
        # Of the older half every second one goes: the span doubles, the number stays.
        half = len(kept) // 2
        kept = kept[:half:2] + kept[half:]
    return kept


def days_to_full(samples: Sequence[Sequence[float]], free: int) -> float | None:
    """Days until ``free`` bytes are used up, by the slope of a straight line through the samples. None: it does not grow, or the
    samples do not reach back far enough to say."""
    if len(samples) < 4 or samples[-1][0] - samples[0][0] < _SHORTEST:
        return None
    count = len(samples)
    middle_at = sum(one[0] for one in samples) / count
    middle_size = sum(one[1] for one in samples) / count
    spread = sum((one[0] - middle_at) ** 2 for one in samples)
    slope = sum((one[0] - middle_at) * (one[1] - middle_size) for one in samples) / spread
    if slope <= 0:
        return None
    return free / slope / 86400


def text(size: float) -> str:
    """``12 MB``, ``3.4 GB``."""
    for limit, unit in ((2**30, "GB"), (2**20, "MB"), (2**10, "kB")):
        if abs(size) >= limit:
            return f"{size / limit:.1f} {unit}" if size < 10 * limit else f"{size / limit:,.0f} {unit}"
    return f"{size:.0f} bytes"
