"""The lines of a backup are the same bytes on PostgreSQL as on SQLite, whichever way they are read, and of one moment; a load leaves no index out."""

from __future__ import annotations

import re

from django.db import connections

from chat.models import Message
from ops.backup.cut import consistent_cut, readers_of
from ops.backup.load import load_into
from ops.backup.read import open_backup
from ops.backup.rows import insert_rows, read_rows
from ops.backup.scratch import database_at, migrate, scratch_sqlite
from ops.backup.shapes import table_shapes
from tests.ops.backup.hard import HARD, hard_rows, lines_of
from tests.support.every_model import fill

# Rows that migrations make have other numbers in each database.
_OWN_NUMBERS = {"contenttypes.ContentType", "auth.Permission", "auth.Group_permissions", "chat.Person_user_permissions"}


def test_the_same_bytes_on_both(house, make_backup, postgres):
    fill()
    hard_rows(nul=False)
    stream, _ = make_backup()
    with database_at(postgres.create_database("same_bytes")) as there:
        migrate(there)
        laws = laws_of(there)
        with open_backup(stream) as reader:
            load_into(there, reader)
        assert laws_of(there) == laws, "a load makes every index and reference again"
        with consistent_cut() as here, consistent_cut(there, readers=2) as cut:
            assert len(readers_of(cut)) == 2
            for shape in table_shapes():
                theirs = lines_of(cut, shape, worth=10**9)
                assert lines_of(cut, shape, worth=1) == theirs, shape.label
                if shape.label not in _OWN_NUMBERS:
                    assert theirs == lines_of(here, shape, worth=10**9), shape.label
        _a_cut_is_of_one_moment(there)


def laws_of(alias):
    """Every index, constraint and trigger there is."""
    postgresql = """
        SELECT c.relname, pg_get_indexdef(i.indexrelid) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE c.relname !~ '^pg_'
        UNION ALL SELECT conname, conrelid::regclass || ' ' || pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'public'::regnamespace
        UNION ALL SELECT tgname, tgrelid::regclass::text FROM pg_trigger WHERE NOT tgisinternal
        ORDER BY 1, 2
    """
    sqlite = "SELECT name, sql FROM sqlite_master WHERE type IN ('index', 'trigger') ORDER BY name"
    with connections[alias].cursor() as cursor:
        cursor.execute(postgresql if connections[alias].vendor == "postgresql" else sqlite)
        found = cursor.fetchall()
    assert len(found) > 100
    # PostgreSQL words a list in a condition differently once it has read its own words (pg_dump has the same): casts and brackets move.
    return [(name, re.sub(r"::(text|character varying)(\[\])?|[()]", "", words or "")) for name, words in found]


def test_a_load_into_sqlite_leaves_every_index_there(house, make_backup):
    fill()
    stream, _ = make_backup()
    with scratch_sqlite("laws") as there:
        migrate(there)
        laws = laws_of(there)
        with open_backup(stream) as reader:
            load_into(there, reader)
        assert laws_of(there) == laws


def _a_cut_is_of_one_moment(there):
    shape = next(shape for shape in table_shapes() if shape.label == "chat.Message")
    with consistent_cut(there, readers=2) as cut:
        with connections[there].cursor() as cursor:
            cursor.execute("UPDATE chat_message SET text = 'changed meanwhile'")
        for worth in (1, 10**9):
            assert b"changed meanwhile" not in lines_of(cut, shape, worth)


def test_what_postgresql_cannot_hold_is_replaced_and_counted(house, postgres):
    fill()
    hard_rows()
    shape = next(shape for shape in table_shapes() if shape.label == "chat.Message")
    rows = list(read_rows("default", shape))
    with_nul = [row for row in rows if "\x00" in row[shape.names.index("text")]]
    assert len(with_nul) == 4
    with database_at(postgres.create_database("no_nul")) as there:
        migrate(there)
        with connections[there].constraint_checks_disabled(), connections[there].cursor() as cursor:
            cursor.execute("SET session_replication_role = replica")  # references are not the point here
            inserted = insert_rows(there, shape, (list(row) for row in rows))
        assert inserted == len(rows) == Message.objects.count()
        # Four texts, and one of the JSON values.
        assert inserted.nuls == 5
        stored = [row for row in read_rows(there, shape) if row[shape.names.index("text")].startswith("\ufffd\x01")]
        assert len(stored) == 4
        assert stored[0][shape.names.index("text")] == HARD.replace("\x00", "\ufffd")
        parts = stored[1][shape.names.index("parts")]
        # The backslash that is only followed by u0000 stays what it was.
        assert "\ufffd\\u0001" in parts
        assert '\\"\\\\u0000' in parts
