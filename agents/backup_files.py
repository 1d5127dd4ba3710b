"""The keys of encrypted rooms (client mode) in a backup, and back."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

from agents.matrix.crypto import folder
from ops.backup.components import Cut, FilePart, Putting, register_component
from ops.backup.errors import BackupDamaged
from ops.backup.placing import Stopped, copy_sqlite, inside, opener, private_folder, stamp, write_private
from ops.findings import Finding
from ops.words import counted

# What must not be used a second time. Sessions that were turned on since the backup would encrypt with keys that were used already, and
# nobody would take what they say. Others notice that a session is gone, and begin a new one; keys to read rooms with stay.
_TURNED = ("outbound", "olm")


class EncryptionStores:
    """``DATA_DIR/crypto/<server>/<account>.db``. A store that is here and works stays: it is newer than any backup."""

    name = "encryption"
    label = "Keys of encrypted rooms"
    kind = "mappings"
    optional = False

    def unavailable(self) -> str:
        return "" if folder.files() else "-"

    def files(self, cut: Cut) -> Iterator[FilePart]:
        scratch = private_folder(cut.folder / "encryption")
        for path in folder.files():
            name = f"{path.parent.name}/{path.name}"
            copy = scratch / "store.db"
            try:
                copy_sqlite(path, copy, should_stop=cut.should_stop)
            except FileNotFoundError:
                continue
            except Stopped:
                return
            except (OSError, sqlite3.Error) as error:
                if not path.exists():
                    # Its account was removed this moment.
                    continue
                sentence = (
                    f"The keys of encrypted rooms in crypto/{name} cannot be read ({error}), and are not in the backup."
                )
                cut.say(Finding("error", "backup.keys_unreadable", sentence, f"file:crypto/{name}"))
                continue
            yield FilePart(name, copy.stat().st_size, opener(copy))
            copy.unlink(missing_ok=True)

    def put(self, files: Iterable[tuple[str, int, BinaryIO]], putting: Putting) -> dict[str, int]:
        counts = {"written": 0, "kept": 0, "replaced": 0}
        root = putting.data_dir / folder.NAME
        for name, _, stream in files:
            path = inside(root, name)
            if len(path.relative_to(root).parts) != 2 or path.suffix != ".db":
                raise BackupDamaged(
                    f"The backup holds keys of encrypted rooms under a name that is none: {name[:200]!r}."
                )
            counts[_put_one(path, stream, putting)] += 1
        if counts["written"] and not putting.drill:
            number = counted(counts["written"], "account has its keys", "accounts have their keys")
            putting.say(
                Finding(
                    "info",
                    "restore.encryption",
                    f"{number} of encrypted rooms as the backup had them: what was written until then can be read. Their "
                    "devices went on since, so they get new ones; should that fail: manage.py repair matrix.new_device.",
                    "",
                    {"written": counts["written"]},
                )
            )
        return counts


def _put_one(path: Path, stream: BinaryIO, putting: Putting) -> str:
    private_folder(path.parent)
    with tempfile.TemporaryDirectory(dir=private_folder(putting.data_dir / folder.NAME), prefix=".restore-") as scratch:
        fresh = Path(scratch) / "store.db"
        write_private(fresh, stream)
        _rest(fresh, path.name)
        with folder.held(path):
            outcome = "written"
            if path.exists():
                if _works(path):
                    return "kept"
                aside = path.with_name(f"{path.name}.before-restore-{stamp()}")
                path.rename(aside)
                sentence = (
                    f"{path.name} could not be read; it was replaced by the backup's, and lies aside as {aside.name}."
                )
                putting.say(
                    Finding("warning", "restore.kept_aside", sentence, f"file:{aside.relative_to(putting.data_dir)}")
                )
                outcome = "replaced"
            for left in ("-wal", "-shm", "-journal"):
                path.with_name(path.name + left).unlink(missing_ok=True)
            fresh.replace(path)
    return outcome


def _works(path: Path) -> bool:
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as database:
            return bool(database.execute("SELECT value FROM meta WHERE name = 'passphrase'").fetchone())
    except sqlite3.Error:
        return False


def _rest(path: Path, name: str) -> None:
    """Take out what must not be used twice, and note that the device went on since. Raises ``BackupDamaged`` for a file that is no store."""
    try:
        with closing(sqlite3.connect(path)) as database, database:
            for table in _TURNED:
                database.execute(f"DELETE FROM {table}")  # noqa: S608 (names of ours)
            database.execute("INSERT OR REPLACE INTO meta VALUES ('put_back', '1')")
    except sqlite3.Error as error:
        raise BackupDamaged(f"The keys of encrypted rooms {name} in the backup cannot be read: {error}.") from error


register_component(EncryptionStores())
