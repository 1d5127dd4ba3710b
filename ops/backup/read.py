"""Reads a backup from its beginning to its end, once, and trusts no part before it was checked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, TypeVar, cast

import orjson
import zstandard
from django.db.migrations.loader import MigrationLoader

from ops.backup import age, archive
from ops.backup.errors import BackupDamaged, NewerVersion, WrongKey
from ops.backup.manifest import LONGEST_HEADER, Begin, Header, Manifest

# Bytes. Whoever knows a public key can make a file for it: no block of rows and no list of parts that says to be larger gets into memory.
_LARGEST = 1 << 30
T = TypeVar("T")


class _Hashing:
    """The encrypted file, hashed and measured while it is read."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self.digest, self.size = hashlib.sha256(), 0

    def read(self, size: int = -1) -> bytes:
        return self._seen(self._source.read(size))

    def readline(self, limit: int) -> bytes:
        return self._seen(self._source.readline(limit))

    def _seen(self, data: bytes) -> bytes:
        self.digest.update(data)
        self.size += len(data)
        return data


@dataclass(slots=True)
class Member:
    """One member. ``kind`` is ``rows``, ``file`` or ``manifest``; ``label`` the model's label or the component's name; ``path`` a file's name
    within its component. Read ``rows()`` or ``stream`` before the next member is asked for, or not at all."""

    kind: str
    name: str
    label: str
    path: str
    size: int
    stream: archive.MemberStream
    reader: BackupReader

    def lines(self) -> Iterator[bytes]:
        """The member's lines of rows, in blocks that end with a line."""
        return self.reader.lines_of(self)

    def rows(self) -> Iterator[list[Any]]:
        """The member's rows, as lists of portable values."""
        for block in self.lines():
            yield from orjson.loads(b"[" + block.rstrip(b"\n").replace(b"\n", b",") + b"]")


class BackupReader:
    """An opened backup. ``header`` and ``begin`` are there at once; ``manifest``, ``file_sha256`` and ``file_size`` after ``members`` ended."""

    def __init__(
        self, source: BinaryIO, header: Header, stream: age.Decrypted, hashing: _Hashing, *, owned: bool
    ) -> None:
        self._source, self._owned = source, owned
        self._stream, self._hashing = stream, hashing
        self._archive = archive.read_members(cast("BinaryIO", stream))
        self._members = self._walk()
        self._waiting: Member | None = None
        self._seen: list[dict[str, Any]] = []
        self._tables: dict[str, list[Any]] = {}
        self._manifest: Manifest | None = None
        self.header = header
        self.begin = self._first()

    @property
    def manifest(self) -> Manifest:
        """What the backup says about itself, checked against what was read. Only after ``members`` ended."""
        if self._manifest is None:
            raise RuntimeError("The manifest is the last member: read all of them first.")
        return self._manifest

    def _first(self) -> Begin:
        name, size, stream = next(self._archive, ("", 0, None))
        if name != archive.BEGIN or stream is None:
            raise BackupDamaged(f"The backup does not begin with {archive.BEGIN}. Use another copy of it.")
        data = _whole(name, size, stream)
        self._note(name, size, stream)
        return _parsed(name, Begin.from_bytes, data)

    def _note(self, name: str, size: int, stream: archive.MemberStream) -> None:
        self._seen.append({"name": name, "size": size, "sha256": stream.drain()})

    def members(self) -> Iterator[Member]:
        """All members in order (those that were not given out yet), the manifest last. Raises ``BackupDamaged`` at the latest after the last
        one: what was read before is certain only then."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            yield waiting
        yield from self._members

    def row_members(self) -> Iterator[Member]:
        """The members of rows, which stand before all others; ``members`` goes on behind them. Nothing is certain yet when they end."""
        for member in self._members:
            if member.kind != "rows":
                self._waiting = member
                return
            yield member

    def _walk(self) -> Iterator[Member]:
        behind_rows = False
        for name, size, stream in self._archive:
            if self._manifest is not None:
                raise BackupDamaged(f"{name} stands behind the end of the backup.")
            if name == archive.MANIFEST:
                self._manifest = _parsed(name, Manifest.from_bytes, _whole(name, size, stream))
                yield Member("manifest", name, "", "", size, stream, self)
                continue
            folder, _, rest = name.partition("/")
            label, _, path = rest.partition("/")
            if folder not in ("rows", "files") or not label or not path or not _is_safe(path):
                raise BackupDamaged(f"The backup holds {name!r}, which nothing of ours writes.")
            kind = "rows" if folder == "rows" else "file"
            if kind == "rows" and behind_rows:
                raise BackupDamaged(f"{name} stands behind files. Rows come first in what is ours.")
            behind_rows = kind == "file"
            yield Member(kind, name, label, path, size, stream, self)
            self._note(name, size, stream)
        while self._stream.read(archive.BLOCK):
            pass  # to the end of the encrypted part, whose last block says that it is the last
        self._check()

    def lines_of(self, member: Member) -> Iterator[bytes]:
        """``Member.lines``; hashes and counts what it gives."""
        table = self._tables.setdefault(member.label, [hashlib.sha256(), 0, 0])
        table[2] += 1
        packed = _whole(member.name, member.size, member.stream)
        try:
            # What a block says of its own size is believed by the library, whatever limit it is given.
            if zstandard.frame_content_size(packed) > _LARGEST:
                raise _too_large(member.name)
            data = zstandard.ZstdDecompressor().decompress(packed, max_output_size=_LARGEST)
        except zstandard.ZstdError as exc:
            raise BackupDamaged(f"{member.name} is damaged ({exc}). Use another copy of the backup.") from exc
        table[0].update(data)
        table[1] += data.count(b"\n")
        yield data

    def _check(self) -> None:
        manifest = self._manifest
        if manifest is None:
            raise BackupDamaged(
                f"The backup has no {archive.MANIFEST} at its end: it is cut off. Use another copy of it."
            )
        if manifest.header_sha256 != self.header.sha256:
            raise BackupDamaged("The first line of the backup is not what was written. Use another copy of it.")
        if manifest.members != self._seen:
            wrong = next(
                (a["name"] for a, b in zip(self._seen, manifest.members, strict=False) if a != b), "its list of parts"
            )
            raise BackupDamaged(f"{wrong} is not what the backup's manifest says. Use another copy of it.")
        for label, (digest, rows, members) in self._tables.items():
            whole = sum(1 for one in self._seen if one["name"].startswith(f"rows/{label}/"))
            said = manifest.tables.get(label)
            if members == whole and said != {"rows": rows, "sha256": digest.hexdigest()}:
                raise BackupDamaged(
                    f"The rows of {label} are not those that the backup's manifest counts. Use another copy of it."
                )
        manifest.file_size, manifest.file_sha256 = self._hashing.size, self._hashing.digest.hexdigest()

    def close(self) -> None:
        """Let go of the file."""
        self._stream.close()
        if self._owned:
            self._source.close()

    def __enter__(self) -> BackupReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def _whole(name: str, size: int, stream: archive.MemberStream) -> bytes:
    if size > _LARGEST:
        raise _too_large(name)
    return stream.read()


def _too_large(name: str) -> BackupDamaged:
    return BackupDamaged(f"{name} in the backup is larger than {_LARGEST:,} bytes, which it cannot be.")


def _parsed(name: str, parse: Callable[[bytes], T], data: bytes) -> T:
    try:
        return parse(data)
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise BackupDamaged(
            f"{name} in the backup does not say what it should ({type(exc).__name__}). Use another copy of it."
        ) from exc


def _is_safe(path: str) -> bool:
    try:
        return bool(archive.safe_name(path))
    except ValueError:
        return False


def read_header(source: Path | BinaryIO) -> Header:
    """The plain first line. Raises ``NotABackup`` or ``NewerVersion``."""
    if isinstance(source, Path):
        with source.open("rb") as file:
            return Header.from_line(file.readline(LONGEST_HEADER))
    return Header.from_line(source.readline(LONGEST_HEADER))


def open_backup(
    source: Path | BinaryIO, *, identities: Sequence[str] | None = None, any_version: bool = False
) -> BackupReader:
    """Open a backup with private keys (None: the installation's own). Use the result as a context manager.

    Raises ``NotABackup``, ``WrongKey``, ``BackupDamaged``, and ``NewerVersion`` when it was made with migrations that are not here
    (not with ``any_version``).
    """
    keys = [age.machine_identity()] if identities is None else list(identities)
    file = source.open("rb") if isinstance(source, Path) else source
    owned, stream = file is not source, None
    try:
        hashing = _Hashing(file)
        header = Header.from_line(hashing.readline(LONGEST_HEADER))
        stream = age.Decrypted(cast("BinaryIO", hashing), keys)
        try:
            reader = BackupReader(file, header, stream, hashing, owned=owned)
        except WrongKey:
            raise _wrong_key(header, keys) from None
        if not any_version:
            _refuse_newer(reader.begin)
        return reader
    except BaseException:
        if stream is not None:
            stream.close()
        if owned:
            file.close()
        raise


def _wrong_key(header: Header, keys: list[str]) -> Exception:
    ours = [age.fingerprint(one) for one in age.recipients_of(keys)]
    if set(ours) & set(header.recipients):
        return BackupDamaged("The part of the backup that says how it is opened is damaged. Use another copy of it.")
    return WrongKey(
        f"This backup opens with another key: {' or '.join(header.recipients)}. "
        f"The one at hand is {', '.join(ours)}. Give the recovery key with that fingerprint."
    )


@lru_cache(maxsize=1)
def _known_migrations() -> tuple[frozenset[tuple[str, str]], frozenset[str]]:
    loader = MigrationLoader(None, ignore_no_migrations=True)
    return frozenset(loader.disk_migrations), frozenset(loader.migrated_apps)


def _refuse_newer(begin: Begin) -> None:
    known, apps = _known_migrations()
    newer = [
        f"{app}.{name}"
        for app, names in begin.migrations.items()
        if app in apps
        for name in names
        if (app, name) not in known
    ]
    if newer:
        raise NewerVersion(
            f"This backup was made by Switchboard {begin.version}, whose database this version does not know yet "
            f"({', '.join(newer[:3])}). Install version {begin.version} or a newer one, and restore it there."
        )
