"""A folder: of this machine, or of another that is mounted here."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.conf import settings

from ops.backup.destinations.base import SUFFIX, Entry, Progress
from ops.backup.errors import DestinationFailed

_CHUNK = 1024 * 1024
# Lies where copies were put or seen (in the data directory for all folders inside of it): what is gone from there is gone.
MARK = ".switchboard-place"
# A file that only tries the place, from whatever machine, says nothing about copies.
TRIAL = "switchboard-test-"


class FolderPlace:
    """Files are written under a hidden name, brought to the disk, and then renamed.

    ``stored`` gives the names of copies that should lie here. A folder with none of them is taken for another one: an empty place where
    a disk is not mounted, or the data directory of another machine, which has the same path and other files.
    """

    def __init__(self, options: Mapping[str, Any], *, stored: Callable[[], Collection[str]] = tuple) -> None:
        self._stored = stored
        path = str(options.get("path") or "").strip()
        if not path:
            raise DestinationFailed("Say which folder: its path is missing.")
        self.folder = (Path(settings.DATA_DIR) / path).expanduser()

    def where(self) -> str:
        return str(self.folder)

    def local_path(self, name: str) -> Path | None:
        path = self._path(name)
        return path if path.is_file() else None

    def free(self) -> int | None:
        with suppress(OSError):
            return shutil.disk_usage(self.folder).free
        return None

    def put(self, source: Path, name: str, *, sha256: str = "", progress: Progress | None = None) -> int:
        target = self._path(name)
        with self._told(f"cannot take {name}"):
            self._make()
            self._be_the_one()
            self._sweep(name)
            if target.exists() and source.exists() and target.samefile(source):
                self.mark()
                return target.stat().st_size
            partial = self.folder / f".{name}.{uuid.uuid4().hex[:8]}.partial"
            try:
                self._copy(source, partial, sha256, name, progress)
                os.replace(partial, target)
                sync_folder(self.folder)
                if not name.startswith(TRIAL):
                    self.mark()
            finally:
                partial.unlink(missing_ok=True)
            return target.stat().st_size

    def _copy(self, source: Path, partial: Path, sha256: str, name: str, progress: Progress | None) -> None:
        total, done, digest = source.stat().st_size, 0, hashlib.sha256()
        with source.open("rb") as reading, open(partial, "xb", opener=private) as writing:
            while chunk := reading.read(_CHUNK):
                digest.update(chunk)
                writing.write(chunk)
                done += len(chunk)
                if progress is not None:
                    progress(done, total)
            writing.flush()
            os.fsync(writing.fileno())
        if sha256 and digest.hexdigest() != sha256:
            raise DestinationFailed(
                f"{name} is not copied to {self.folder}: the file here is not what it was when it was made."
            )

    def _sweep(self, name: str) -> None:
        """What a copying that was killed left behind. One copying of a name runs at a time; of others it may still run."""
        limit = time.time() - 86400
        for path in self.folder.glob(".*.partial"):
            with suppress(OSError):
                if path.name.startswith(f".{name}.") or path.stat().st_mtime < limit:
                    path.unlink()

    def fetch(self, name: str, target: Path, *, progress: Progress | None = None) -> None:
        with self._told(f"cannot give {name}"):
            source = self._path(name)
            if not source.is_file():
                self._be_the_one()
            total, done = source.stat().st_size, 0
            with source.open("rb") as reading, open(target, "wb", opener=private) as writing:
                while chunk := reading.read(_CHUNK):
                    writing.write(chunk)
                    done += len(chunk)
                    if progress is not None:
                        progress(done, total)

    def head(self, name: str, length: int) -> bytes:
        with self._told(f"cannot give {name}"), self._path(name).open("rb") as file:
            return file.read(length)

    def entries(self) -> list[Entry]:
        with self._told("cannot be listed"):
            self._be_the_one()
            if not self.folder.is_dir():
                return []
            found = []
            for path in self.folder.glob(f"*{SUFFIX}"):
                if path.name.startswith(".") or not path.is_file():
                    continue
                facts = path.stat()
                found.append(
                    Entry(path.name.removesuffix(SUFFIX), facts.st_size, datetime.fromtimestamp(facts.st_mtime, UTC))
                )
            return sorted(found, key=lambda entry: entry.name)

    def delete(self, name: str) -> None:
        with self._told(f"cannot remove {name}"):
            path = self._path(name)
            if not path.is_file():
                self._be_the_one()
            path.unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        if "/" in name or name.startswith("."):
            raise DestinationFailed(f"{name!r} is no name of a backup.")
        return self.folder / f"{name}{SUFFIX}"

    def _make(self) -> None:
        """Ours are made when needed. A folder elsewhere must be there: where its disk is not mounted, the copy would fill this one."""
        if self._inside:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        elif not self.folder.is_dir():
            raise DestinationFailed(
                f"There is no folder {self.folder}. Make it, or mount its disk, and let this user write in it."
            )

    def mark(self) -> None:
        """Remember, in the place itself, that this is where copies lie."""
        with suppress(OSError):  # whoever may only read does without
            self._mark_path.touch(mode=0o600)

    @property
    def _mark_path(self) -> Path:
        return (Path(settings.DATA_DIR) if self._inside else self.folder) / MARK

    @property
    def _inside(self) -> bool:
        return Path(settings.DATA_DIR) in (self.folder, *self.folder.parents)

    def _be_the_one(self) -> None:
        """Raises ``DestinationFailed`` when copies should lie in this folder and none ever did, as far as can be seen from here."""
        mark = self._mark_path
        if mark.exists():
            return
        names = self._stored()
        if any(self._path(name).is_file() for name in names):
            self.mark()
        elif names:
            raise DestinationFailed(
                f"No copy that should lie in {self.folder} is there, as {socket.gethostname()} sees it: its disk is not mounted, or the processes of "
                "this installation do not share the folder. Mount it; or let all of them have the same DATA_DIR; or add a destination that all of "
                f"them reach, such as S3. If the copies are lost: touch {mark}"
            )

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DestinationFailed(f"The folder {self.folder} {what}: {error.strerror or error}.") from error


def private(path: str, flags: int) -> int:
    """For ``open``: readable by nobody else."""
    return os.open(path, flags, 0o600)


def sync_folder(folder: Path) -> None:
    """Bring a rename to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some file systems know no fsync of folders
            os.fsync(handle)
    finally:
        os.close(handle)
