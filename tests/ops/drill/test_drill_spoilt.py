"""A drill fails for a backup that does not restore: each of its steps is seen to fail."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from tests.ops.drill.conftest import drill_of


@pytest.fixture
def template(installation, passed):
    """The empty database that drills begin with, opened to be spoilt; it is as it was afterwards."""
    (path,) = (installation.data / "drill").glob("empty-*.sqlite3")
    before = path.read_bytes()
    yield path
    path.write_bytes(before)


def failed_in(found: dict, step: str) -> str:
    """The sentence of the step that failed, which is the last one; nothing was left behind, and the backup is not good."""
    assert (found["state"], found["good"], found["left"]) == ("failed", False, [])
    assert list(found["steps"])[-1] == step
    assert [one["ok"] for one in found["steps"].values()] == [True] * (len(found["steps"]) - 1) + [False]
    assert found["error"] == found["verify_error"] == found["steps"][step]["sentence"]
    return found["error"]


def test_tables_that_cannot_be_made_are_noticed(installation, passed, template):
    template.write_bytes(b"rubbish" * 1000)
    assert "not a database" in failed_in(drill_of(installation, passed["id"]), "tables")


def test_rows_that_are_not_taken_are_noticed(installation, passed, template):
    with closing(sqlite3.connect(template)) as database, database:
        database.execute(
            "CREATE TRIGGER refuse AFTER INSERT ON chat_message BEGIN SELECT RAISE(ABORT, 'no messages today'); END"
        )
    assert "no messages today" in failed_in(drill_of(installation, passed["id"]), "rows")


def test_a_database_that_is_damaged_afterwards_is_noticed(installation, passed, template):
    with closing(sqlite3.connect(template)) as database, database:
        database.execute("CREATE TABLE odd (n INTEGER CHECK (n > 0))")
        database.execute("PRAGMA ignore_check_constraints = ON")
        database.execute("INSERT INTO odd VALUES (0)")
    said = failed_in(drill_of(installation, passed["id"]), "constraints")
    assert said == "The restored database is damaged: CHECK constraint failed in odd"


def test_a_fence_that_does_not_stand_is_noticed(installation, passed, template):
    """What comes after it would answer what is old."""
    with closing(sqlite3.connect(template)) as database, database:
        database.execute(
            "CREATE TRIGGER refuse AFTER INSERT ON ops_maintenancewindow BEGIN SELECT RAISE(ABORT, 'no windows today'); END"
        )
    assert "no windows today" in failed_in(drill_of(installation, passed["id"]), "fences")


def test_a_row_that_comes_back_as_another_is_noticed(installation, passed, template):
    with closing(sqlite3.connect(template)) as database, database:
        database.execute(
            "CREATE TRIGGER spoil AFTER INSERT ON agents_agent BEGIN UPDATE agents_agent SET description = 'other' WHERE id = new.id; END"
        )
    found = drill_of(installation, passed["id"])
    assert (found["state"], found["good"]) == ("failed", False)
    assert found["steps"]["digests"]["sentence"] == (
        "The rows of agents.Agent are not those that were backed up: they have another digest."
    )


def test_a_row_that_does_not_come_back_is_noticed(installation, passed, template):
    with closing(sqlite3.connect(template)) as database, database:
        database.execute(
            "CREATE TRIGGER lose AFTER INSERT ON agents_invitation BEGIN DELETE FROM agents_invitation; END"
        )
        database.execute(
            "CREATE TRIGGER lose_audit AFTER INSERT ON chat_attachment BEGIN DELETE FROM chat_attachment WHERE id = new.id; END"
        )
    found = drill_of(installation, passed["id"])
    assert found["steps"]["digests"]["ok"] is False
    assert "chat.Attachment has 0 rows after 1 were restored" in found["error"]


def test_a_message_that_does_not_find_its_way_is_noticed(installation, passed, template):
    with closing(sqlite3.connect(template)) as database, database:
        database.execute(
            "CREATE TRIGGER refuse AFTER INSERT ON chat_turn WHEN new.id > 3 BEGIN SELECT RAISE(ABORT, 'no turns today'); END"
        )
    found = drill_of(installation, passed["id"])
    assert found["steps"]["digests"]["ok"] is True
    assert found["steps"]["message"]["ok"] is False
    assert "no turns today" in found["error"]


def test_a_secret_that_no_key_in_the_backup_opens_is_named(installation):
    found = installation.ask(
        "from cryptography.fernet import Fernet\n"
        "from django.db import connection\n"
        "lost = 'enc1:' + Fernet(Fernet.generate_key()).encrypt(b'{}').decode()\n"
        "row = Service.objects.create(name='lost', kind='letta')\n"
        "with connection.cursor() as cursor: cursor.execute('UPDATE ops_service SET credentials = %s WHERE id = %s', [lost, row.pk])\n"
        "backup = make()\n"
        "result = [row.pk, drill(backup)]\n"
        "row.delete()"
    )
    pk, drill = found
    assert (drill["state"], drill["good"]) == ("failed", False)
    assert f"ops.Service.credentials: 1 ({pk})" in drill["error"]


def test_a_part_that_is_missing_in_the_backup_is_told_and_fails_nothing(installation):
    found = installation.ask(
        "from chat.attachments import folder\n"
        "content = folder.root() / Attachment.objects.get().path\n"
        "kept = content.read_bytes(); content.unlink()\n"
        "result = drill(make())\n"
        "content.write_bytes(kept)"
    )
    assert (found["state"], found["findings"]) == ("passed", ["drill.attachments"])
    assert "that was so when it was made" in found["steps"]["attachments"]["sentence"]
