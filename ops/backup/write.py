"""Makes a backup: a consistent cut of the rows and the files beside them, as one encrypted stream. Memory stays flat."""

from __future__ import annotations

import hashlib
import os
import tempfile
import uuid
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import zstandard
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.migrations.recorder import MigrationRecorder

from ops.backup import age, archive
from ops.backup.components import Component, Cut, FilePart, components
from ops.backup.cut import consistent_cut
from ops.backup.errors import BackupStopped
from ops.backup.former import former_shapes
from ops.backup.lines import LineReader
from ops.backup.manifest import Begin, Header, Manifest
from ops.backup.rows import count
from ops.backup.said import called
from ops.backup.shapes import TableShape, table_shapes
from ops.findings import Finding
from ops.logs import get_logger
from ops.redaction import redact_text

logger = get_logger(__name__)

Progress = Callable[[int, int, str], None]
_LEVEL = 1
# Threads that read and compress, each with a connection of its own inside the cut.
_THREADS = min(4, os.cpu_count() or 1)


def write_backup(
    *,
    target: BinaryIO,
    made_by: Mapping[str, str],
    recipients: Collection[str],
    optional: Collection[str] = (),
    include: Collection[str] | None = None,
    progress: Progress = lambda done, total, text: None,
    should_stop: Callable[[], bool] = lambda: False,
    alias: str = DEFAULT_DB_ALIAS,
) -> Manifest:
    """Write a backup of this installation to ``target``, and return what is in it.

    ``made_by``: ``{"id", "installation", "version"}``. ``recipients``: public age keys (``age1…``). ``optional``: optional components
    that are taken along; ``include``: only these components (None: all). A component that fails goes into ``manifest.missing``.
    ``progress(done, total, text)`` counts rows; ``alias`` is the database whose rows they are. Raises ``BackupStopped``, and what the target and the database raise.
    """
    chosen = [
        one
        for one in components()
        if (include is None or one.name in include) and (not one.optional or one.name in optional)
    ]
    hashing = _Hashing(target)
    # Beside the data, not in /tmp: copies of stores are as large as they are, and as secret.
    Path(settings.DATA_DIR).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".backup-", dir=settings.DATA_DIR) as folder:
        made_at = datetime.now(UTC)
        with consistent_cut(alias, readers=_THREADS) as cut_alias, ThreadPoolExecutor(_THREADS, "backup") as pool:
            begin = _begin(cut_alias, made_by, made_at, chosen)
            header = Header(
                id=begin.id,
                installation=made_by["installation"],
                version=begin.version,
                made_at=begin.made_at,
                recipients=[age.fingerprint(one) for one in recipients],
                schema=begin.schema,
            )
            hashing.write(header.to_line())
            writing = _Writing(cut_alias, begin, header, made_at, pool, progress, should_stop)
            cut = Cut(cut_alias, Path(folder), writing.say, should_stop)
            age.encrypt(writing.blocks(chosen, cut), hashing, recipients)
    manifest = writing.manifest
    manifest.file_size, manifest.file_sha256 = hashing.size, hashing.digest.hexdigest()
    return manifest


def _begin(alias: str, made_by: Mapping[str, str], made_at: datetime, chosen: list[Component]) -> Begin:
    migrations: dict[str, list[str]] = {}
    for app, name in sorted(MigrationRecorder(connections[alias]).applied_migrations()):
        migrations.setdefault(app, []).append(name)
    return Begin(
        id=made_by.get("id") or str(uuid.uuid4()),
        version=made_by["version"],
        made_at=made_at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        vendor=connections[alias].vendor,
        migrations=migrations,
        tables=former_shapes(alias) or table_shapes(),
        parts=[one.name for one in chosen],
    )


class _Hashing:
    """The target, hashed and measured on the way."""

    def __init__(self, target: BinaryIO) -> None:
        self._target = target
        self.digest, self.size = hashlib.sha256(), 0

    def write(self, data: bytes) -> int:
        self._target.write(data)
        self.digest.update(data)
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        self._target.flush()


def _compressed(lines: bytes) -> tuple[bytes, str]:
    """The lines compressed, and the SHA-256 of that. Called in several threads."""
    data = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compress(lines)
    return data, hashlib.sha256(data).hexdigest()


class _Writing:
    """One backup being made: gives the archive's bytes block by block, and keeps the manifest."""

    def __init__(
        self,
        alias: str,
        begin: Begin,
        header: Header,
        made_at: datetime,
        pool: ThreadPoolExecutor,
        progress: Progress,
        should_stop: Callable[[], bool],
    ) -> None:
        self._alias, self._begin = alias, begin
        self._lines = LineReader(alias, pool, _compressed)
        self._progress, self._should_stop = progress, should_stop
        self._at = made_at.timestamp()
        self._done, self._total = 0, 0
        self.manifest = Manifest(
            id=begin.id,
            version=begin.version,
            installation=header.installation,
            made_at=begin.made_at,
            header_sha256=header.sha256,
            recipients=header.recipients,
        )

    def say(self, finding: Finding) -> None:
        """Take a finding of a component."""
        self.manifest.findings.append(finding.to_dict())

    def blocks(self, chosen: list[Component], cut: Cut) -> Iterator[bytes]:
        """The whole archive."""
        yield from self._member(archive.BEGIN, self._begin.to_json())
        self._total = sum(count(self._alias, shape) for shape in self._begin.tables)
        for shape in self._begin.tables:
            yield from self._table(shape)
        for component in chosen:
            yield from self._component(component, cut)
        self._look()
        data = self.manifest.to_json()
        yield archive.head(archive.MANIFEST, len(data), self._at) + data + archive.padding(len(data)) + archive.END

    def _look(self) -> None:
        if self._should_stop():
            raise BackupStopped("The backup was stopped before it was complete.")

    def _note(self, name: str, size: int, digest: str) -> None:
        self.manifest.members.append({"name": name, "size": size, "sha256": digest})

    def _member(self, name: str, data: bytes, digest: str = "") -> Iterator[bytes]:
        self._note(name, len(data), digest or hashlib.sha256(data).hexdigest())
        yield archive.head(name, len(data), self._at)
        yield data
        yield archive.padding(len(data))

    def _table(self, shape: TableShape) -> Iterator[bytes]:
        """A table's rows."""
        digest = hashlib.sha256()
        rows = 0
        for number, block in enumerate(self._lines.blocks(shape), 1):
            self._look()
            digest.update(block.lines)
            rows += block.rows
            yield from self._member(f"rows/{shape.label}/{number:06}.jsonl.zst", *block.packed)
            self._progress(self._done + rows, self._total, f"Writing {called(shape.label)}")
        self._done += rows
        self.manifest.tables[shape.label] = {"rows": rows, "sha256": digest.hexdigest()}

    def _component(self, component: Component, cut: Cut) -> Iterator[bytes]:
        """A component's files. Whatever goes wrong in it, the rows and the other components are not lost."""
        part: dict[str, Any] = {"label": component.label, "files": 0, "size": 0}
        try:
            why = component.unavailable()
            if why == "-":
                return
            if why:
                self._missing(component, why)
                return
            files = iter(component.files(cut))
        except Exception as exc:
            self._missing(component, exc)
            return
        while True:
            self._look()
            try:
                file = next(files, None)
            except Exception as exc:
                self._missing(component, exc)
                break
            if file is None:
                break
            size = yield from self._file(component, file)
            if size is not None:
                part["files"] += 1
                part["size"] += size
                self._progress(self._done, self._total, f"Writing {component.label}")
        self.manifest.parts[component.name] = part

    def _missing(self, component: Component, why: str | Exception) -> None:
        sentence = redact_text(why if isinstance(why, str) else f"{component.label} could not be read: {why}")
        if isinstance(why, Exception):
            logger.warning("backup.component_failed", component=component.name, error=sentence, exc_info=why)
        self.manifest.missing[component.name] = sentence
        self.say(Finding("warning", "backup.part_missing", sentence, f"part:{component.name}"))

    def _file(self, component: Component, file: FilePart) -> Generator[bytes, None, int | None]:
        """One file; returns its size, None when it could not be read at all."""
        try:
            name = f"files/{component.name}/{archive.safe_name(file.name)}"
            source = file.open()
        except (OSError, ValueError) as exc:
            self._unreadable(component, file, exc)
            return None
        with source:
            try:
                first = _read(source, min(file.size, archive.BLOCK))
            except OSError as exc:
                self._unreadable(component, file, exc)
                return None
            if len(first) < min(file.size, archive.BLOCK):
                self._changed(component, file)
            if file.size <= archive.BLOCK:
                yield from self._member(name, first)
                return len(first)
            digest = hashlib.sha256(first)
            yield archive.head(name, file.size, self._at)
            yield first
            left = file.size - len(first)
            while left:
                self._look()
                try:
                    data = _read(source, min(left, archive.BLOCK))
                except OSError:
                    data = b""
                if not data:
                    # Its size stands before it already: what is missing is filled, and the file is marked.
                    self._changed(component, file)
                    self.manifest.broken.append(name)
                    data = bytes(min(left, archive.BLOCK))
                digest.update(data)
                left -= len(data)
                yield data
            yield archive.padding(file.size)
            self._note(name, file.size, digest.hexdigest())
            return file.size

    def _unreadable(self, component: Component, file: FilePart, exc: Exception) -> None:
        sentence = redact_text(f"{component.label}: {file.name} could not be read, so it is not in the backup: {exc}")
        self.say(Finding("warning", "backup.file_unreadable", sentence, f"part:{component.name}", {"name": file.name}))

    def _changed(self, component: Component, file: FilePart) -> None:
        sentence = f"{component.label}: {file.name} became shorter while it was read. It is in the backup only in part."
        self.say(Finding("warning", "backup.file_changed", sentence, f"part:{component.name}", {"name": file.name}))


def _read(source: BinaryIO, size: int) -> bytes:
    """``size`` bytes, fewer only at the end, whatever the kind of stream."""
    data = source.read(size)
    while len(data) < size and (more := source.read(size - len(data))):
        data += more
    return data
