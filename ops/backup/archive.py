"""The archive inside a backup: a tar, written as blocks that the encryption asks for, and read from beginning to end."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator
from typing import IO, BinaryIO, Final

from ops.backup.errors import BackupDamaged

BLOCK = 1 << 20
BEGIN, MANIFEST = "begin.json", "manifest.json"
END = b"\0" * 1024
# Numbers larger than a tar's own fields and names longer than them need one of its extensions; this one every tar knows.
_FORMAT: Final = tarfile.GNU_FORMAT


def safe_name(name: str) -> str:
    """A component's file name, relative and with slashes. Raises ``ValueError`` for one that would leave its folder."""
    if not name or name.startswith("/") or "\\" in name or "\0" in name or {"", ".", ".."} & set(name.split("/")):
        raise ValueError(f"{name!r} is no relative name of a file.")
    return name


def head(name: str, size: int, at: float) -> bytes:
    """What stands before a member's bytes."""
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = size, int(at), 0o600
    return info.tobuf(_FORMAT, "utf-8", "surrogateescape")


def padding(size: int) -> bytes:
    """What stands behind them."""
    return b"\0" * (-size % tarfile.BLOCKSIZE)


class MemberStream:
    """A member's bytes, hashed while they are read. ``digest`` is known after ``drain``."""

    def __init__(self, raw: IO[bytes], name: str, size: int) -> None:
        self._raw, self._name, self._left = raw, name, size
        self._hash = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """Up to ``size`` bytes, fewer only at the end. Raises ``BackupDamaged`` when the archive ends before the member does."""
        wanted = self._left if size is None or size < 0 else min(size, self._left)
        try:
            data = self._raw.read(wanted) if wanted else b""
        except tarfile.TarError:
            data = b""
        if len(data) < wanted:
            raise BackupDamaged(
                f"The backup ends in the middle of {self._name}: it is cut off. Use another copy of it."
            )
        self._left -= len(data)
        self._hash.update(data)
        return data

    def readable(self) -> bool:
        """For libraries that ask."""
        return True

    def drain(self) -> str:
        """Read what is left and return the SHA-256 of the whole member."""
        while self._left:
            self.read(BLOCK)
        return self._hash.hexdigest()


def read_members(source: BinaryIO) -> Iterator[tuple[str, int, MemberStream]]:
    """(name, size, stream) of each member; what of a stream was not read is skipped, and hashed. Raises ``BackupDamaged``."""
    try:
        with tarfile.open(fileobj=source, mode="r|", bufsize=BLOCK) as tar:
            while (info := tar.next()) is not None:
                raw = tar.extractfile(info) if info.isfile() else None
                if raw is None:
                    raise BackupDamaged(
                        f"The backup holds {info.name!r}, which is no file. Nothing of ours writes that."
                    )
                stream = MemberStream(raw, info.name, info.size)
                yield info.name, info.size, stream
                stream.drain()
                tar.members.clear()  # type: ignore[attr-defined] # tarfile would remember every member that it has seen
    except tarfile.TarError as exc:
        raise BackupDamaged(f"The archive in the backup is damaged ({exc}). Use another copy of it.") from exc
