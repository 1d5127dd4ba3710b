"""A backup of an older version goes through the migrations that came since; one of a newer version is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
from django.db import connections
from django.db.migrations.recorder import MigrationRecorder

from agents.models import Room
from ops.backup import shapes, write
from ops.backup.errors import BackupError, NewerVersion
from ops.backup.load import load_into
from ops.backup.read import open_backup
from ops.backup.scratch import migrate, scratch_sqlite
from ops.models.restore import RestoreState
from ops.services import restores
from tests.support.every_model import contents, fill

LATER = ("agents", "0007_after_history_until")
COLUMN = "history_until"


@pytest.fixture
def older(backup_of, monkeypatch):
    """A backup from before a column of rooms was there."""

    def make():
        def shapes_then():
            for shape in shapes.table_shapes():
                columns = tuple(one for one in shape.columns if (shape.label, one.name) != ("agents.Room", COLUMN))
                yield replace(shape, columns=columns)

        known = MigrationRecorder.applied_migrations
        with monkeypatch.context() as patch:
            patch.setattr(write, "table_shapes", lambda: list(shapes_then()))
            patch.setattr(
                MigrationRecorder,
                "applied_migrations",
                lambda self: {key: value for key, value in known(self).items() if key < LATER or key[0] != "agents"},
            )
            return backup_of("older")

    return make


def test_it_is_loaded_through_the_migrations(house, older):
    fill()
    Room.objects.update(history_until=None)
    before = contents()
    path = older()
    with scratch_sqlite("test") as alias:
        migrate(alias)
        with open_backup(path) as reader:
            assert COLUMN not in reader.begin.table("agents.Room").names
            load_into(alias, reader)
        assert contents(alias) == before


def test_it_is_compared_and_applied_through_the_migrations(house, older):
    fill()
    Room.objects.update(history_until=None)
    before = contents()
    path = older()
    Room.objects.update(name="Changed since")
    planned = restores.restore_plan(path=path, actor="command")
    rooms = next(one for one in planned.plan["models"] if one["model"] == "agents.Room")
    assert (rooms["added"], rooms["changed"], rooms["removed"]) == (0, 4, 0)
    assert restores.restore_apply(restore=planned, actor="command").state == RestoreState.DONE
    assert contents() == before


def test_a_newer_one_is_refused_with_its_version(house, backup_of):
    recorder = MigrationRecorder(connections["default"])
    recorder.record_applied("chat", "9999_of_tomorrow")
    try:
        path = backup_of("newer")
    finally:
        recorder.record_unapplied("chat", "9999_of_tomorrow")
    with pytest.raises(NewerVersion, match="9999_of_tomorrow"):
        restores.restore_plan(path=path, actor="command")


def test_a_database_with_rows_is_not_loaded_into(house, backup_of):
    fill()
    before = contents()
    path = backup_of()
    with open_backup(path) as reader, pytest.raises(BackupError, match="not empty"):
        load_into("default", reader)
    assert contents() == before
