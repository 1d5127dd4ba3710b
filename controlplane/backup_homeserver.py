"""The local homeserver of embedded mode in a backup, and back: its database, its keys, its media, its own settings."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import BinaryIO

from controlplane.homeserver import paths, process, restored
from controlplane.homeserver.adapter import Kept
from controlplane.homeserver.restored import DATABASE
from controlplane.up.lock import running
from ops.adapters import AdapterError, Part
from ops.backup.components import Cut, FilePart, Putting, register_component
from ops.backup.errors import BackupDamaged
from ops.backup.placing import Stopped, copy_sqlite, inside, opener, private_folder, write_private
from ops.findings import Finding
from ops.models import Service

NAME = "homeserver"
MEDIA = "media"
# What it reads and we do not write anew at each start.
_FILES = ("local.json", "signing.key", "registration_shared_secret", "macaroon_secret_key", "form_secret", "extra.yaml")
# Made again from the rest.
_NOT_MEDIA = ("url_cache", "url_cache_thumbnails", "tmp")


class HomeserverFiles:
    """Taken along while it runs. The database comes first: what media it names then are there a moment later, too.

    A homeserver that is here and has a database stays (it is newer than any backup), unless it was asked for by name
    (``Putting.extra["replace"]``). It takes the present one's place when that is stopped.
    """

    name = NAME
    label = "Local homeserver"
    kind = "mappings"
    optional = True

    def unavailable(self) -> str:
        local = paths.known_local()
        if local is None:
            return (
                "The homeserver is no local one that `up` keeps, so its files are out of reach: back it up with its own tools "
                "(Synapse: its database, signing.key and media_store)."
            )
        if not (local.folder / DATABASE).is_file():
            return "The local homeserver was never started, so there is nothing of it."
        return ""

    def files(self, cut: Cut) -> Iterator[FilePart]:
        folder = paths.folder()
        copy = private_folder(cut.folder / NAME) / DATABASE
        try:
            copy_sqlite(folder / DATABASE, copy, should_stop=cut.should_stop)
        except Stopped:
            return
        yield FilePart(DATABASE, copy.stat().st_size, opener(copy))
        copy.unlink()
        for name in _FILES:
            if (folder / name).is_file():
                yield FilePart(name, (folder / name).stat().st_size, opener(folder / name))
        for path in _media(folder / MEDIA):
            if cut.should_stop():
                return
            # One that is removed meanwhile was on its way out.
            with suppress(FileNotFoundError), path.open("rb") as file:
                name = f"{MEDIA}/{path.relative_to(folder / MEDIA).as_posix()}"
                yield FilePart(name, os.fstat(file.fileno()).st_size, lambda file=file: file)  # type: ignore[misc]

    def put(self, files: Iterable[tuple[str, int, BinaryIO]], putting: Putting) -> dict[str, int]:
        folder = putting.data_dir / "synapse"
        if putting.drill:
            return self._try(files, folder)
        if (folder / DATABASE).is_file() and NAME not in putting.extra.get("replace", ()):
            putting.say(
                Finding(
                    "info",
                    "restore.homeserver_kept",
                    "The local homeserver here is newer than the backup's and stays, with its rooms and accounts. To have the backup's instead, "
                    f"stop Switchboard, move {folder / DATABASE} away, and restore again.",
                )
            )
            return {"written": 0, "kept": 1}
        counts = {"written": self._write(files, restored.staging(folder)), "kept": 0}
        known, brought = paths.known_in(folder), paths.known_in(folder / restored.STAGING)
        if known is not None and brought is not None and known.server_name != brought.server_name:
            # Ids end in the name, and rows of the backup have the backup's.
            sentence = f"The local homeserver here is called {known.server_name}, the backup's {brought.server_name}: from now on it has that name."
            putting.say(Finding("warning", "restore.homeserver_name", sentence))
        aside = restored.mark_complete(folder)
        self._swap(folder, aside, putting)
        return counts

    def _swap(self, folder: Path, aside: str, putting: Putting) -> None:
        local = paths.known_in(folder)
        if local is None or not _runs(local):
            restored.take_its_place(folder)
            sentence = "The local homeserver was put back; it starts with Switchboard."
        elif running(putting.data_dir) is None:
            sentence = "The local homeserver was put back, and takes its place at the next start of Switchboard: the one that runs now has no keeper."
        else:
            service = Service.objects.using(putting.alias).filter(kind="homeserver", options__local=True).first()
            try:
                # Its keeper starts it again, and puts what waits into place before.
                Kept().restart(Part("homeserver", "the local homeserver", service=service))
                sentence = "The local homeserver was put back, and started again with it."
            except AdapterError as error:
                sentence = f"The local homeserver was put back, and takes its place when it is started again. {error}"
        putting.say(
            Finding(
                "info",
                "restore.homeserver",
                f"{sentence} What was there goes to synapse/{aside}.",
                "",
                {"aside": aside},
            )
        )

    def _write(self, files: Iterable[tuple[str, int, BinaryIO]], root: Path) -> int:
        written = 0
        for name, _, stream in files:
            if name != DATABASE and name not in _FILES and not name.startswith(f"{MEDIA}/"):
                raise BackupDamaged(
                    f"The backup holds a file of the homeserver under a name that is none: {name[:200]!r}."
                )
            write_private(inside(root, name), stream)
            written += 1
        if not (root / DATABASE).is_file() or not (root / "local.json").is_file():
            raise BackupDamaged("The backup's part of the local homeserver lacks its database or its name.")
        return written

    def _try(self, files: Iterable[tuple[str, int, BinaryIO]], root: Path) -> dict[str, int]:
        """In a drill media are read and nothing else; the database is opened and looked at."""
        read = 0
        for name, _, stream in files:
            if name.startswith(f"{MEDIA}/"):
                inside(root, name)
                while stream.read(1 << 18):
                    pass
            else:
                write_private(inside(root, name), stream)
            read += 1
        with closing(sqlite3.connect(root / DATABASE)) as database:
            found = database.execute("PRAGMA quick_check(5)").fetchall()
            if found != [("ok",)]:
                raise BackupDamaged(f"The homeserver's database in the backup is damaged: {found[0][0]}")
            rooms = int(database.execute("SELECT COUNT(*) FROM rooms").fetchone()[0])
        (root / DATABASE).unlink()
        return {"read": read, "rooms": rooms}


def _runs(local: paths.LocalHomeserver) -> bool:
    text = paths.read_text(local.pid_file).strip()
    return text.isdigit() and process.is_ours(int(text), local)


def _media(root: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(root):
        if Path(place) == root:
            folders[:] = [one for one in folders if one not in _NOT_MEDIA]
        folders.sort()
        yield from (Path(place) / name for name in sorted(names))


register_component(HomeserverFiles())
