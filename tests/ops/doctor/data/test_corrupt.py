"""A damaged database file is found, recovered while everything runs, and can be put back."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest
from django.db import DatabaseError, connections

import ops.doctor_data.setup  # noqa: F401
from ops.doctor.guides import guide_for
from ops.doctor.repairs import RepairRefused
from ops.doctor_data import fault_corrupt, recover, sqlite
from ops.doctor_data.salvage import salvage
from ops.models import AuditEvent, CheckState, Service
from ops.services.repairs import repair_plan, repair_start, repair_undo

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def damaged():
    memory = fault_corrupt.cause()
    yield memory
    fault_corrupt.heal(memory)


def mend():
    return repair_start(repair_id="db.recover", actor="test", trigger="command", typed=recover.WORD)


def test_a_whole_file_is_green_first_in_full_then_quickly(check):
    run = check("db.corrupt")
    assert (run.status, run.evidence["kind"]) == ("pass", "integrity_check")
    run = check("db.corrupt")
    assert (run.status, run.evidence["kind"]) == ("pass", "quick_check")
    assert mend().state == "unneeded"


def test_damage_is_found_recovered_kept_and_put_back(check, damaged):
    Service.objects.create(name="kept", kind="demo")
    run = check("db.corrupt")
    assert run.status == "fail"
    assert run.evidence["damage"]
    planned = repair_plan(repair_id="db.recover", actor="test")
    assert planned.confirm_word == "recover"
    assert any(change.target == f"table {fault_corrupt.TABLE}" for change in planned.plan.changes)
    with pytest.raises(RepairRefused, match="Type 'recover'"):
        repair_start(repair_id="db.recover", actor="test", trigger="command")
    done = mend()
    assert done.state == "succeeded", done.error
    assert check("db.corrupt").status == "pass"
    left, now = done.receipt["rows"][fault_corrupt.TABLE]
    assert 1000 < left < 2000
    assert now == left
    assert done.receipt["rows"]["ops_service"] == [1, 1]
    assert Path(done.receipt["kept"]).stat().st_mode & 0o777 == 0o600
    assert Service.objects.get().name == "kept"
    # Triggers came along: the audit log can still not be changed.
    with pytest.raises(DatabaseError, match="audit"), connections["default"].cursor() as cursor:
        cursor.execute("UPDATE ops_auditevent SET actor = 'nobody'")
    assert AuditEvent.objects.filter(action="repair.done").exists()
    assert mend().state == "unneeded"
    repair_undo(run=done, actor="test")
    assert check("db.corrupt").status == "fail"
    assert mend().state == "succeeded"
    assert check("db.corrupt").status == "pass"


def test_it_is_not_put_back_when_something_was_written_since(check, damaged):
    done = mend()
    assert done.state == "succeeded", done.error
    with connections["default"].cursor() as cursor:
        cursor.execute("INSERT INTO django_content_type (app_label, model) VALUES ('practice', 'new')")
    with pytest.raises(RepairRefused, match="django_content_type"):
        repair_undo(run=done, actor="test")
    with connections["default"].cursor() as cursor:
        cursor.execute("DELETE FROM django_content_type WHERE app_label = 'practice'")


def test_what_is_written_while_it_recovers_is_not_lost(check, damaged):
    stop, written, problems = threading.Event(), [], []

    def write():
        number = 0
        while not stop.wait(0.005):
            number += 1
            try:
                Service.objects.create(name=f"s{number}", kind="demo")
                written.append(f"s{number}")
            except Exception as error:
                problems.append(error)
        connections.close_all()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        done = mend()
    finally:
        stop.set()
        thread.join(60)
    assert not problems
    assert written
    assert set(Service.objects.values_list("name", flat=True)) == set(written)
    assert done.state in ("succeeded", "failed"), done.error
    if done.state == "succeeded":
        assert check("db.corrupt").status == "pass"


def test_salvage_reads_around_several_gaps(tmp_path):
    path = tmp_path / "old.sqlite3"
    with sqlite3.connect(path) as old:
        old.execute("CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, word TEXT, data BLOB)")
        old.execute("CREATE INDEX t_word ON t (word)")
        old.executemany("INSERT INTO t (word, data) VALUES (?, ?)", [(f"w{n}" * 20, b"\x00\xff") for n in range(5000)])
        size = old.execute("PRAGMA page_size").fetchone()[0]
        root = old.execute("SELECT rootpage FROM sqlite_master WHERE name = 't'").fetchone()[0]
    old.close()
    with path.open("r+b") as file:
        head = file.read()[(root - 1) * size : root * size]
        for cell in (2, 10, 11, 40):
            place = int.from_bytes(head[12 + 2 * cell : 14 + 2 * cell], "big")
            leaf = int.from_bytes(head[place : place + 4], "big")
            file.seek((leaf - 1) * size)
            file.write(b"\xee" * 32)
    done = salvage(path, tmp_path / "new.sqlite3")
    assert 4700 < done.rows["t"] < 5000
    assert list(done.incomplete) == ["t"]
    assert sqlite.damage(tmp_path / "new.sqlite3", full=True, seconds=30) == []
    with sqlite3.connect(tmp_path / "new.sqlite3") as new:
        assert new.execute("SELECT data FROM t WHERE id = 4999").fetchone() == (b"\x00\xff",)
        assert new.execute("SELECT seq FROM sqlite_sequence WHERE name = 't'").fetchone() == (5000,)


def test_a_file_that_is_no_database_is_refused_with_the_way_by_hand(tmp_path, check):
    path = tmp_path / "x.sqlite3"
    path.write_bytes(b"nonsense" * 1000)
    assert sqlite.damage(path, full=False, seconds=5) == ["file is not a database"]
    snippets = " ".join(step.snippet for step in guide_for("db.corrupt").steps)
    assert f"sqlite3 '{sqlite.database_file()}.damaged' .recover" in snippets


def test_the_last_full_check_counts_only_while_nothing_is_damaged(check, damaged):
    check("db.corrupt")
    assert CheckState.objects.get(check_id="db.corrupt").evidence["full_at"] is None
    assert check("db.corrupt").evidence["kind"] == "integrity_check"
