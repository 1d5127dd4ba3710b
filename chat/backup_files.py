"""The contents of attachments in a backup, and back: each once, named by its SHA-256."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, cast

from django.conf import settings

from chat.attachments import folder
from chat.models import Attachment
from ops.backup.components import Cut, FilePart, Putting, register_component
from ops.backup.errors import BackupDamaged
from ops.backup.placing import CHUNK, private_folder
from ops.findings import Finding

# Below the data directory of a drill: the names of contents that were read and are what they are called, a line each.
SEEN = "attachments.seen"
_MOST_TOLD = 50


class AttachmentContents:
    """Kept for as long as rows of the cut need them; what pruning takes away while they are copied is told, and fails nothing."""

    name = "attachments"
    label = "Attachments"
    kind = "conversations"
    optional = False

    def unavailable(self) -> str:
        return "" if Attachment.objects.exists() else "-"

    def files(self, cut: Cut) -> Iterator[FilePart]:
        told = _Told(cut.say)
        last = ""
        rows = Attachment.objects.using(cut.alias).order_by("sha256", "pk").values_list("sha256", "path")
        for sha256, path in rows.iterator(chunk_size=2000):
            if cut.should_stop():
                return
            if sha256 == last:
                continue
            last = sha256
            try:
                # Held open, so that nobody can take it away before it was read.
                file = folder.open_content(path)
            except OSError as error:
                reason = "is gone from the disk" if isinstance(error, FileNotFoundError) else "cannot be read"
                told.say("backup.attachment_gone", f"The content {sha256[:12]}… of an attachment {reason}.", sha256)
                continue
            with file:
                yield FilePart(folder.path_of(sha256), os.fstat(file.fileno()).st_size, _Checked(file, sha256, told))
        told.sum_up()

    def put(self, files: Iterable[tuple[str, int, BinaryIO]], putting: Putting) -> dict[str, int]:
        """A content that is here and is what it is called stays; one that is damaged is replaced. In a drill they are read, not written."""
        told = _Told(putting.say)
        counts = {"written": 0, "same": 0, "replaced": 0, "damaged": 0}
        if putting.drill:
            counts = {"read": 0, "damaged": 0}
            with (private_folder(putting.data_dir) / SEEN).open("a", encoding="ascii") as seen:
                for name, _, stream in files:
                    sha256 = _sha256_in(name)
                    if _digest(stream) == sha256:
                        seen.write(f"{sha256}\n")
                        counts["read"] += 1
                    else:
                        counts["damaged"] += 1
                        told.damaged(sha256)
        else:
            root = _root_of(putting)
            for name, size, stream in files:
                sha256 = _sha256_in(name)
                outcome = _put_one(root / folder.path_of(sha256), sha256, size, stream)
                counts[outcome] += 1
                if outcome == "damaged":
                    told.damaged(sha256)
        told.sum_up()
        return counts


def _root_of(putting: Putting) -> Path:
    if putting.data_dir.resolve() == Path(settings.DATA_DIR).resolve():
        return folder.root()
    return private_folder(putting.data_dir / "attachments")


def _sha256_in(name: str) -> str:
    sha256 = name.rpartition("/")[2]
    if len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef") or name != folder.path_of(sha256):
        raise BackupDamaged(f"The backup holds an attachment under a name that is none: {name[:200]!r}.")
    return sha256


def _digest(stream: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := stream.read(CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def _put_one(place: Path, sha256: str, size: int, stream: BinaryIO) -> str:
    private_folder(place.parent)
    known = place.exists()
    if known and place.stat().st_size == size:
        with place.open("rb") as present:
            if _digest(present) == sha256:
                # It counts as new: its rows may not be there yet, and what no row needs is pruned.
                os.utime(place)
                return "same"
    fresh = place.with_name(f"{place.name}.{secrets.token_hex(4)}.part")
    digest = hashlib.sha256()
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as target:
            while chunk := stream.read(CHUNK):
                digest.update(chunk)
                target.write(chunk)
            target.flush()
            os.fsync(target.fileno())
        if digest.hexdigest() != sha256:
            return "damaged"
        os.replace(fresh, place)
    finally:
        with suppress(FileNotFoundError):
            fresh.unlink()
    return "replaced" if known else "written"


class _Told:
    """Says the first few of many, and counts the rest."""

    def __init__(self, say: Callable[[Finding], None]) -> None:
        self._say = say
        self.count = 0

    def say(self, code: str, sentence: str, sha256: str) -> None:
        self.count += 1
        if self.count <= _MOST_TOLD:
            self._say(Finding("warning", code, sentence, f"attachment:{sha256}"))

    def damaged(self, sha256: str) -> None:
        self.say(
            "backup.attachment_damaged",
            f"The content {sha256[:12]}… of an attachment is not what its name says: it was damaged on the disk. Rows that name it stay; "
            "the file itself has to be sent again.",
            sha256,
        )

    def sum_up(self) -> None:
        if self.count > _MOST_TOLD:
            more = f"{self.count - _MOST_TOLD:,} more contents of attachments have the same trouble."
            self._say(Finding("warning", "backup.attachments", more, "", {"count": self.count}))


class _Checked:
    """Opens the content, and says so when it turns out to be another than its name says. (A file read in part proves nothing.)"""

    def __init__(self, file: BinaryIO, sha256: str, told: _Told) -> None:
        self._file, self._sha256, self._told = file, sha256, told

    def __call__(self) -> BinaryIO:
        file = self._file if not self._file.closed else folder.open_content(folder.path_of(self._sha256))
        return cast(BinaryIO, _Reading(file, self._sha256, self._told))


class _Reading:
    def __init__(self, file: BinaryIO, sha256: str, told: _Told) -> None:
        self._file, self._sha256, self._told = file, sha256, told
        self._digest, self._left = hashlib.sha256(), os.fstat(file.fileno()).st_size

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._digest.update(data)
        self._left -= len(data)
        if data and self._left == 0 and self._digest.hexdigest() != self._sha256:
            self._told.damaged(self._sha256)
        return data

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> _Reading:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


register_component(AttachmentContents())
