"""Rows of every model: from SQLite into PostgreSQL and back again are the same rows, byte for byte."""

from __future__ import annotations

import io

import orjson
from django.db import connections

from ops.backup import age, write
from ops.backup.cut import consistent_cut
from ops.backup.load import load_into
from ops.backup.read import open_backup
from ops.backup.scopes import backed_up
from ops.backup.scratch import database_at, migrate, scratch_sqlite
from tests.support.every_model import contents, fill

EVERY = ("kept", "added")


def backup_from(alias) -> io.BytesIO:
    target = io.BytesIO()
    target.manifest = write.write_backup(
        target=target,
        made_by={"id": alias, "installation": "test", "version": "0"},
        recipients=age.recipients_of([age.machine_identity()]),
        include=(),
        alias=alias,
    )
    target.seek(0)
    return target


def digests(source) -> dict[str, str]:
    return {label: said["sha256"] for label, said in source.manifest.tables.items()}


def bytes_of(alias) -> dict[str, bytes]:
    return {label: orjson.dumps(rows) for label, rows in contents(alias, *EVERY).items()}


def limits_of(alias) -> list[str]:
    with connections[alias].cursor() as cursor:
        return [
            cursor.execute(f"SHOW {name}").fetchone()[0]
            for name in ("statement_timeout", "idle_in_transaction_session_timeout", "transaction_timeout")
        ]


def test_sqlite_to_postgresql_to_sqlite(transactional_db, tmp_path, settings, postgres):
    settings.DATA_DIR = tmp_path
    counts = fill()
    assert set(counts) == {model._meta.label for model, scope in backed_up() if scope.policy != "lookup"}
    assert all(counts.values())
    began = bytes_of("default")
    first = backup_from("default")
    url = postgres.create_database("round_trip")
    with postgres.connect("round_trip") as operator:
        # Limits that are meant for requests.
        operator.execute("ALTER DATABASE round_trip SET statement_timeout = '10min'")
        operator.execute("ALTER DATABASE round_trip SET transaction_timeout = '11min'")
    with database_at(url) as there:
        migrate(there)
        limits = []
        with open_backup(first) as reader:
            report = load_into(there, reader, in_transaction=lambda report: limits.append(limits_of(there)))
        assert limits == [["0", "0", "0"]]
        assert limits_of(there) == ["10min", "0", "11min"]
        assert report.total == sum(counts.values())
        assert not report.left_out
        assert not report.emptied
        assert bytes_of(there) == began
        # Sequences go on behind the highest number.
        with connections[there].cursor() as cursor:
            cursor.execute("SELECT max(id) FROM auth_group")
            (highest,) = cursor.fetchone()
            cursor.execute("INSERT INTO auth_group (name) VALUES ('next') RETURNING id")
            assert cursor.fetchone() == (highest + 1,)
            cursor.execute("DELETE FROM auth_group WHERE name = 'next'")
        with consistent_cut(there, readers=1) as cut:
            assert limits_of(cut) == ["0", "0", "0"]
        second = backup_from(there)
    lookups = {"contenttypes.ContentType", "auth.Permission"}
    kept = {label for label in digests(first) if label not in lookups and "permission" not in label.lower()}
    assert {label: digests(first)[label] for label in kept} == {label: digests(second)[label] for label in kept}
    with scratch_sqlite("back") as back:
        migrate(back)
        with open_backup(second) as reader:
            load_into(back, reader)
        assert bytes_of(back) == began
