"""The local homeserver's files in a backup, and back. (With a real Synapse: ``tests/e2e/test_backup_parts.py``.)"""

from __future__ import annotations

import json
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from controlplane.homeserver import paths, restored
from ops.backup.components import component
from ops.backup.errors import BackupDamaged
from tests.support.parts import Luggage


def _install(folder: Path, *, port: int, word: str, name: str = "switchboard.localhost") -> None:
    """A homeserver's folder as it lies there while it does not run."""
    (folder / "media" / "local_content" / "ab").mkdir(parents=True)
    (folder / "media" / "url_cache").mkdir()
    (folder / "local.json").write_text(json.dumps({"port": port, "server_name": name, "settled": True}))
    for file in ("signing.key", "macaroon_secret_key", "form_secret", "registration_shared_secret"):
        (folder / file).write_text(f"{file} of {word}")
    (folder / "homeserver.yaml").write_text("written at each start")
    (folder / "media" / "local_content" / "ab" / "picture").write_bytes(b"picture" * 1000)
    (folder / "media" / "url_cache" / "page").write_bytes(b"of others")
    with closing(sqlite3.connect(folder / "homeserver.db")) as database, database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE rooms (room_id TEXT)")
        database.execute("INSERT INTO rooms VALUES (?)", (f"!{word}",))


def _room(folder: Path) -> str:
    with closing(sqlite3.connect(folder / "homeserver.db")) as database:
        return str(database.execute("SELECT room_id FROM rooms").fetchone()[0])


@pytest.fixture
def luggage(tmp_path, settings) -> Luggage:
    settings.DATA_DIR = tmp_path / "data"
    return Luggage(tmp_path)


@pytest.fixture
def homeserver():
    return component("homeserver")


@pytest.fixture
def files(luggage, homeserver, tmp_path) -> dict[str, bytes]:
    assert "no local one" in homeserver.unavailable()
    _install(tmp_path / "data" / "synapse", port=8100, word="backup")
    assert homeserver.unavailable() == ""
    return dict(luggage.take(homeserver))


def test_what_cannot_be_made_again_is_taken_along(files):
    assert next(iter(files)) == "homeserver.db"
    assert set(files) == {
        "homeserver.db", "local.json", "signing.key", "macaroon_secret_key", "form_secret", "registration_shared_secret",
        "media/local_content/ab/picture",
    }  # fmt: skip


def test_an_empty_machine_gets_it_as_it_was(luggage, homeserver, files, tmp_path):
    there = tmp_path / "empty"
    assert luggage.put(homeserver, there, files) == {"written": 7, "kept": 0}
    folder = there / "synapse"
    assert _room(folder) == "!backup"
    assert (folder / "signing.key").read_text() == "signing.key of backup"
    assert stat.S_IMODE((folder / "signing.key").stat().st_mode) == 0o600
    assert paths.known_in(folder).port == 8100
    assert not (folder / restored.STAGING).exists()
    assert luggage.codes == ["restore.homeserver"]


def test_one_that_is_here_stays_unless_it_was_asked_for(luggage, homeserver, files, tmp_path):
    folder = tmp_path / "other" / "synapse"
    _install(folder, port=8200, word="here")
    assert luggage.put(homeserver, tmp_path / "other", files) == {"written": 0, "kept": 1}
    assert (_room(folder), luggage.codes) == ("!here", ["restore.homeserver_kept"])
    # What belongs to the former database would be taken for the new one's.
    (folder / "homeserver.db-wal").write_bytes(b"of the former one")
    assert luggage.put(homeserver, tmp_path / "other", files, replace=("homeserver",)) == {"written": 7, "kept": 0}
    assert _room(folder) == "!backup"
    # Clients of this machine know this port.
    assert paths.known_in(folder).port == 8200
    (aside,) = folder.glob("before-restore-*")
    assert (aside / "homeserver.db-wal").read_bytes() == b"of the former one"
    assert not (folder / "homeserver.db-wal").exists()
    (aside / "homeserver.db-wal").unlink()
    assert _room(aside) == "!here"
    assert (aside / "signing.key").read_text() == "signing.key of here"
    assert aside.name in luggage.findings[-1].sentence
    assert (folder / "homeserver.yaml").read_text() == "written at each start"


def test_one_that_runs_is_replaced_when_it_stops(luggage, homeserver, files, tmp_path, monkeypatch):
    monkeypatch.setattr("controlplane.backup_homeserver._runs", lambda local: True)
    folder = tmp_path / "other" / "synapse"
    _install(folder, port=8200, word="here")
    luggage.put(homeserver, tmp_path / "other", files, replace=("homeserver",))
    assert _room(folder) == "!here"
    assert "at the next start of Switchboard" in luggage.findings[-1].sentence
    assert restored.take_its_place(folder).startswith("before-restore-")
    assert _room(folder) == "!backup"
    assert restored.take_its_place(folder) == ""


def test_a_replacement_that_was_cut_off_is_gone_on_with(luggage, homeserver, files, tmp_path, monkeypatch):
    folder = tmp_path / "other" / "synapse"
    _install(folder, port=8200, word="here")
    moved = []
    real = Path.rename

    def rename(self, target):
        moved.append(self.name)
        if len(moved) == 5:
            raise OSError("the power went")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(OSError, match="the power went"):
        luggage.put(homeserver, tmp_path / "other", files, replace=("homeserver",))
    monkeypatch.undo()
    aside = restored.take_its_place(folder)
    assert _room(folder) == "!backup"
    assert [one.name for one in folder.glob("before-restore-*")] == [aside]
    assert _room(folder / aside) == "!here"
    assert (folder / "signing.key").read_text() == "signing.key of backup"


def test_one_that_was_put_back_half_is_forgotten(luggage, homeserver, files, tmp_path):
    folder = tmp_path / "other" / "synapse"
    _install(folder, port=8200, word="here")
    lacking = {name: data for name, data in files.items() if name != "local.json"}
    with pytest.raises(BackupDamaged, match="lacks its database or its name"):
        luggage.put(homeserver, tmp_path / "other", lacking, replace=("homeserver",))
    assert restored.take_its_place(folder) == ""
    assert _room(folder) == "!here"


@pytest.mark.parametrize("name", ["homeserver.yaml", "../keys/secret_key", "media/../../x", "extra.yaml/x"])
def test_a_name_that_is_none_is_refused(luggage, homeserver, files, tmp_path, name):
    with pytest.raises(BackupDamaged):
        luggage.put(homeserver, tmp_path / "empty", {name: b"x", **files})


def test_a_drill_opens_its_database(luggage, homeserver, files, tmp_path):
    assert luggage.put(homeserver, tmp_path / "drill", files, drill=True) == {"read": 7, "rooms": 1}
    spoilt = bytearray(files["homeserver.db"])
    spoilt[100:200] = bytes(100)
    with pytest.raises((BackupDamaged, sqlite3.DatabaseError)):
        luggage.put(homeserver, tmp_path / "drill2", {**files, "homeserver.db": bytes(spoilt)}, drill=True)
