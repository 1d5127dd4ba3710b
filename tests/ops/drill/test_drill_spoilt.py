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
