"""What bears its name lies on the disk whole: written beside, brought there, then renamed; for its owner only."""

from __future__ import annotations

import hashlib
import io
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from chat import backup_files as attachments
from ops.backup import spool
from ops.backup.destinations.folder import FolderPlace
from ops.backup.placing import copy_sqlite, write_private

DATA = b"some content"
NAME = "switchboard-20260101T000000Z-0badcafe"


def by_making(data: Path) -> Path:
    with spool.writing(NAME) as file:
        file.write(DATA)
        assert not spool.path_of(NAME).exists(), "it has its name too early"
    return spool.path_of(NAME)


def by_copying(data: Path) -> Path:
    (data / "source").write_bytes(DATA)
    FolderPlace({"path": "copies"}).put(data / "source", NAME)
    return data / "copies" / f"{NAME}.sbk"


def by_putting_back(data: Path) -> Path:
    write_private(data / "keys" / "secret_key", io.BytesIO(DATA))
    return data / "keys" / "secret_key"


def by_putting_back_an_attachment(data: Path) -> Path:
    place = data / "attachments" / "ab"
    assert attachments._put_one(place, hashlib.sha256(DATA).hexdigest(), len(DATA), io.BytesIO(DATA)) == "written"
    return place


@pytest.fixture
def data(settings, tmp_path: Path) -> Path:
    settings.DATA_DIR = tmp_path / "data"
    settings.DATA_DIR.mkdir()
    return settings.DATA_DIR


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was brought to the disk and what was renamed, in order."""
    told: list[str] = []
    fsync, replace = os.fsync, os.replace

    def synced(handle: int) -> None:
        told.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else f"file of {os.fstat(handle).st_size}")
        fsync(handle)

    def renamed(source: Path, target: Path) -> None:
        told.append("name")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    return told


@pytest.mark.parametrize(
    ("write", "steps"),
    [
        (by_making, [f"file of {len(DATA)}", "name", "folder"]),
        (by_copying, [f"file of {len(DATA)}", "name", "folder"]),
        (by_putting_back, [f"file of {len(DATA)}", "name"]),
        (by_putting_back_an_attachment, [f"file of {len(DATA)}", "name"]),
    ],
)
def test_it_is_on_the_disk_before_it_has_its_name(
    data: Path, done: list[str], write: Callable[[Path], Path], steps: list[str]
) -> None:
    before = os.umask(0)
    try:
        path = write(data)
    finally:
        os.umask(before)
    assert done == steps
    assert path.read_bytes() == DATA
    assert stat.S_IMODE(path.stat().st_mode) == 0o600, "others may read it"
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_a_write_that_fails_leaves_what_was_there(data: Path) -> None:
    class Torn(io.BytesIO):
        def read(self, size: int = -1) -> bytes:  # type: ignore[override]
            raise OSError(5, "Input/output error")

    path = data / "keys" / "secret_key"
    write_private(path, io.BytesIO(DATA))
    with pytest.raises(OSError, match="Input/output"):
        write_private(path, Torn())
    assert path.read_bytes() == DATA
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_a_link_in_its_place_is_replaced_not_followed(data: Path, tmp_path: Path) -> None:
    """Whoever could put a link there must not have a file elsewhere overwritten with a key."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"untouched")
    (data / "keys").mkdir()
    path = data / "keys" / "secret_key"
    path.symlink_to(elsewhere)
    write_private(path, io.BytesIO(DATA))
    assert elsewhere.read_bytes() == b"untouched"
    assert not path.is_symlink()
    assert path.read_bytes() == DATA


def test_a_copy_of_a_store_is_its_owners(data: Path) -> None:
    import sqlite3

    with sqlite3.connect(data / "store.db") as database:
        database.execute("CREATE TABLE a (n)")
    before = os.umask(0)
    try:
        copy = copy_sqlite(data / "store.db", data / "scratch" / "copy.db")
    finally:
        os.umask(before)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert stat.S_IMODE(copy.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden"])
def test_a_name_that_is_none_is_refused_at_a_folder(data: Path, name: str) -> None:
    from ops.backup.errors import DestinationFailed

    place = FolderPlace({"path": "copies"})
    (data / "source").write_bytes(DATA)
    (data / "up.sbk").write_bytes(b"here")
    for deed in (lambda: place.put(data / "source", name), lambda: place.delete(name), lambda: place.head(name, 9), lambda: place.local_path(name)):  # fmt: skip
        with pytest.raises(DestinationFailed, match="is no name of a backup"):
            deed()
    assert (data / "up.sbk").read_bytes() == b"here"
