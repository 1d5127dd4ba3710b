"""The files of a backup: put back by the components that took them along; and the keys among them."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO, cast

from ops.backup.components import Component, Putting, component
from ops.backup.errors import BackupError
from ops.backup.manifest import Header, Manifest
from ops.backup.read import BackupReader, Member, open_backup
from ops.findings import Finding
from ops.logs import get_logger

logger = get_logger(__name__)

# Where the keys for secrets lie, and how they are written there: several, separated by commas.
KEYS_COMPONENT, KEYS_FILE = "keys", "field_encryption_keys"
_LONGEST_KEYS, _LONGEST_KEY_FILE = 1 << 16, 1 << 20


def encryption_keys(member: Member) -> tuple[str, ...] | None:
    """The keys for secrets, when this member holds them."""
    if member.kind != "file" or member.label != KEYS_COMPONENT or member.path != KEYS_FILE:
        return None
    return None if member.size > _LONGEST_KEYS else _keys_in(member.stream.read())


def _keys_in(data: bytes) -> tuple[str, ...]:
    return tuple(key.strip() for key in data.decode("utf-8", "replace").split(",") if key.strip())


@dataclass(frozen=True, slots=True)
class Looked:
    """What a backup says that was read to its end. ``key_files``: the part that holds keys, which has to be there before rows are
    (name, bytes); it is small, and kept in memory only."""

    header: Header
    manifest: Manifest
    key_files: tuple[tuple[str, bytes], ...] = field(default=(), repr=False)

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys for secrets."""
        data = dict(self.key_files).get(KEYS_FILE, b"")
        return _keys_in(data) if len(data) <= _LONGEST_KEYS else ()


def look_through(
    source: Path | BinaryIO,
    identities: Sequence[str] | None,
    progress: Callable[[int, int, str], None] = lambda done, total, text: None,
) -> Looked:
    """Read a backup to its end, which verifies it. Raises ``BackupError`` for one that is not what was written."""
    key_files: list[tuple[str, bytes]] = []
    total, done = (source.stat() if isinstance(source, Path) else os.fstat(source.fileno())).st_size, 0
    with open_backup(source, identities=identities) as reader:
        for member in reader.members():
            if member.kind == "rows":
                for _ in member.lines():
                    pass
            elif member.kind == "file" and member.label == KEYS_COMPONENT:
                # One that is too large is cut off, and refused by whoever puts it back.
                key_files.append((member.path, member.stream.read(_LONGEST_KEY_FILE + 1)))
            done += member.size
            progress(min(done, total), total, "Checking the backup")
    return Looked(reader.header, reader.manifest, tuple(key_files))


def put_keys(looked: Looked, putting: Putting) -> dict[str, dict[str, Any]]:
    """Have the keys put back that were seen while the backup was looked through. Returns what ``put_files`` does."""
    known = component(KEYS_COMPONENT)
    if known is None or not looked.key_files:
        return {}
    files = ((name, len(data), cast("BinaryIO", io.BytesIO(data))) for name, data in looked.key_files)
    return {KEYS_COMPONENT: _put(known, files, putting)}


def put_files(
    path: Path,
    identities: Sequence[str] | None,
    putting: Putting,
    *,
    wanted: Callable[[Component], bool],
    parts: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, dict[str, Any]]:
    """Have components put back their files. Returns ``{component: {"label", "counts", "error"}}``; one that fails leaves the others.

    ``parts`` are those of the manifest, where it was read before: without a file that anybody wants the backup is not opened.
    """
    if parts is not None and not any(_counts(name, said, wanted) for name, said in parts.items()):
        return {}
    with open_backup(path, identities=identities) as reader:
        return put_files_of(reader, putting, wanted=wanted)


def _counts(name: str, said: Mapping[str, Any], wanted: Callable[[Component], bool]) -> bool:
    known = component(name)
    return bool(said.get("files")) and (known is None or wanted(known))


def put_files_of(
    reader: BackupReader,
    putting: Putting,
    *,
    wanted: Callable[[Component], bool],
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, dict[str, Any]]:
    """``put_files`` with the members that an opened backup still has to give; it is read to its end."""
    done: dict[str, dict[str, Any]] = {}
    files = (member for member in reader.members() if member.kind == "file")
    for name, members in groupby(files, key=lambda member: member.label):
        known = component(name)
        if known is None:
            sentence = f"The backup holds {name}, which this version does not know."
            putting.say(Finding("warning", "restore.part_unknown", sentence, name))
        elif wanted(known):
            progress(f"Putting back: {known.label}")
            done[name] = _put(known, _streams(members), putting)
    return done


def _streams(members: Iterator[Member]) -> Iterator[tuple[str, int, BinaryIO]]:
    for member in members:
        yield member.path, member.size, cast("BinaryIO", member.stream)


def _put(known: Component, files: Iterator[tuple[str, int, BinaryIO]], putting: Putting) -> dict[str, Any]:
    try:
        return {"label": known.label, "counts": known.put(files, putting), "error": ""}
    except BackupError as error:
        said = str(error)
    except Exception as error:
        logger.exception("component_not_put", component=known.name)
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]
    putting.say(
        Finding("error", "restore.part_failed", f"{known.label} could not be put back: {said}", f"part:{known.name}")
    )
    return {"label": known.label, "counts": {}, "error": said}
