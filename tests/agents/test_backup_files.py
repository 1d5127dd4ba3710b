"""Keys of encrypted rooms in a backup, and back."""

from __future__ import annotations

import sqlite3
import stat
import threading
from contextlib import closing

import pytest

from agents.matrix.crypto import folder
from agents.matrix.crypto.vault import Vault
from ops.backup.components import component
from ops.backup.errors import BackupDamaged
from ops.backup.placing import copy_sqlite
from tests.support.parts import Luggage

USER = "@agent_a:sb.test"


@pytest.fixture
def luggage(tmp_path, settings) -> Luggage:
    settings.DATA_DIR = tmp_path / "data"
    return Luggage(tmp_path)


@pytest.fixture
def encryption():
    return component("encryption")


@pytest.fixture
def store(luggage) -> Vault:
    vault = Vault(folder.path_of(USER))
    vault.set_meta("device_id", "DEVICE")
    vault._db.execute("INSERT INTO olm VALUES ('s', 'k', 'p', 0, 0)")
    vault._db.execute("INSERT INTO outbound VALUES ('!r', 'p', 0, 0, '[]', '[]')")
    vault._db.execute("INSERT INTO inbound VALUES ('!r', 'k', 's', 'e', '', '[]', 'p', 0)")
    yield vault
    vault.close()


def _count(path, table: str) -> int:
    with closing(sqlite3.connect(path)) as database:
        return int(database.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0])


def test_a_store_that_is_open_is_taken_and_put_back_without_what_must_not_be_used_twice(luggage, encryption, store):
    files = luggage.take(encryption)
    assert list(files) == ["sb.test/agent_a.db"]
    passphrase = store.meta("passphrase")
    store.close()
    path = folder.path_of(USER)
    for left in folder.root().rglob("*"):
        if left.is_file():
            left.unlink()
    assert luggage.put(encryption, folder.root().parent) == {"written": 1, "kept": 0, "replaced": 0}
    assert luggage.codes == ["restore.encryption"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (_count(path, "inbound"), _count(path, "olm"), _count(path, "outbound")) == (1, 0, 0)
    again = Vault(path)
    assert again.meta("passphrase") == passphrase
    assert again.meta("put_back"), "its device went on since"
    again.belong_to("ANOTHER")
    assert not again.meta("put_back")
    again.close()
    assert [one.name for one in path.parent.iterdir()] == ["agent_a.db", "agent_a.lock"] or len(folder.files()) == 1


def test_a_store_that_is_here_stays(luggage, encryption, store):
    luggage.take(encryption)
    store.set_meta("since", "later")
    assert luggage.put(encryption, folder.root().parent) == {"written": 0, "kept": 1, "replaced": 0}
    assert store.meta("since") == "later"
    assert _count(store.path, "olm") == 1


def test_a_store_that_cannot_be_read_is_replaced_and_lies_aside(luggage, encryption, store):
    luggage.take(encryption)
    store.close()
    path = folder.path_of(USER)
    path.write_bytes(b"rubbish" * 1000)
    for left in ("-wal", "-shm", "-journal"):
        path.with_name(path.name + left).write_bytes(b"of the former one")
    assert luggage.put(encryption, folder.root().parent) == {"written": 0, "kept": 0, "replaced": 1}
    assert luggage.codes == ["restore.kept_aside"]
    aside = [one for one in path.parent.iterdir() if "before-restore" in one.name]
    assert [one.read_bytes()[:7] for one in aside] == [b"rubbish"]
    assert not [one for one in path.parent.iterdir() if one.suffix in (".db-wal", ".db-shm", ".db-journal")]
    assert _count(path, "inbound") == 1


def test_a_store_that_somebody_uses_is_waited_for(luggage, encryption, store, monkeypatch):
    luggage.take(encryption)
    store.close()
    path = folder.path_of(USER)
    held = folder.held
    monkeypatch.setattr(folder, "held", lambda path: held(path, patience=0.05))
    with held(path), pytest.raises(folder.Busy):
        luggage.put(encryption, folder.root().parent)
    assert luggage.put(encryption, folder.root().parent)["kept"] == 1


def test_a_store_that_cannot_be_read_is_told_and_the_others_are_taken(luggage, encryption, store):
    bad = folder.path_of("@agent_b:sb.test")
    bad.write_bytes(b"rubbish" * 1000)
    assert list(luggage.take(encryption)) == ["sb.test/agent_a.db"]
    assert luggage.codes == ["backup.keys_unreadable"]


@pytest.mark.parametrize("name", ["../x.db", "agent_a.db", "sb.test/agent_a.txt"])
def test_a_name_that_is_none_is_refused(luggage, encryption, store, name):
    (good,) = luggage.take(encryption).values()
    with pytest.raises(BackupDamaged, match="name"):
        luggage.put(encryption, folder.root().parent, {name: good})
    assert not (folder.root().parent / "x.db").exists()


@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_a_database_is_copied_as_of_one_moment_while_it_is_written(tmp_path, mode):
    """Both tables have the same number in every transaction; so has the copy."""
    source = tmp_path / "live.db"
    with closing(sqlite3.connect(source, timeout=60)) as database, database:
        database.execute(f"PRAGMA journal_mode = {mode}")
        database.execute("CREATE TABLE a (n INTEGER, filler BLOB)")
        database.execute("CREATE TABLE b (n INTEGER)")
        database.executemany("INSERT INTO a VALUES (?, ?)", [(0, b"x" * 4000) for _ in range(3000)])
        database.executemany("INSERT INTO b VALUES (?)", [(0,) for _ in range(3000)])
    end = threading.Event()

    def write() -> None:
        with closing(sqlite3.connect(source, timeout=60)) as database:
            while not end.is_set():
                with database:
                    database.execute("UPDATE a SET n = n + 1 WHERE rowid = 1")
                    database.execute("UPDATE b SET n = n + 1 WHERE rowid = 1")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(3):
            copy = copy_sqlite(source, tmp_path / f"copy{number}.db")
            with closing(sqlite3.connect(copy)) as database:
                assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
                n = database.execute("SELECT n FROM a WHERE rowid = 1").fetchone()
                assert n == database.execute("SELECT n FROM b WHERE rowid = 1").fetchone()
            assert not copy.with_name(f"{copy.name}-wal").exists()
    finally:
        end.set()
        writer.join()
    assert n != (0,)
