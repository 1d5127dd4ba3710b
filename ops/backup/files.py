"""The files of a backup: put back by the components that took them along; and the keys among them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO, cast

from ops.backup.components import Component, Putting, component
from ops.backup.errors import BackupError
from ops.backup.read import BackupReader, Member, open_backup
from ops.findings import Finding
from ops.logs import get_logger

logger = get_logger(__name__)

# Where the keys for secrets lie, and how they are written there: several, separated by commas.
KEYS_COMPONENT, KEYS_FILE = "keys", "field_encryption_keys"
_LONGEST_KEYS = 1 << 16


def encryption_keys(member: Member) -> tuple[str, ...] | None:
    """The keys for secrets, when this member holds them."""
    if (
        member.kind != "file"
        or member.label != KEYS_COMPONENT
        or member.path != KEYS_FILE
        or member.size > _LONGEST_KEYS
    ):
        return None
    text = member.stream.read().decode("utf-8", "replace")
    return tuple(key.strip() for key in text.split(",") if key.strip())


def look_through(
    path: Path,
    identities: Sequence[str] | None,
    progress: Callable[[int, int, str], None] = lambda done, total, text: None,
) -> tuple[BackupReader, tuple[str, ...]]:
    """Read a backup to its end, which verifies it; gives the (closed) reader with its manifest, and the keys for secrets in it."""
    keys: tuple[str, ...] = ()
    total, done = path.stat().st_size, 0
    with open_backup(path, identities=identities) as reader:
        for member in reader.members():
            if member.kind == "rows":
                for _ in member.lines():
                    pass
            keys = encryption_keys(member) or keys
            done += member.size
            progress(min(done, total), total, "Checking the backup")
    return reader, keys


def put_files(
    path: Path,
    identities: Sequence[str] | None,
    putting: Putting,
    *,
    wanted: Callable[[Component], bool],
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, dict[str, Any]]:
    """Have components put back their files. Returns ``{component: {"label", "counts", "error"}}``; one that fails leaves the others."""
    done: dict[str, dict[str, Any]] = {}
    with open_backup(path, identities=identities) as reader:
        files = (member for member in reader.members() if member.kind == "file")
        for name, members in groupby(files, key=lambda member: member.label):
            known = component(name)
            if known is None:
                putting.say(
                    Finding(
                        "warning",
                        "restore.part_unknown",
                        f"The backup holds {name}, which this version does not know.",
                        name,
                    )
                )
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
