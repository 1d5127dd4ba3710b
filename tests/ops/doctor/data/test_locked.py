"""Locks of SQLite and of a real PostgreSQL: who holds them, statements that gave up, tuning, ending the one that blocks."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time

import pytest
from django.conf import settings
from django.db import connections

from ops.doctor.guides import guide_for
from ops.doctor.repairs import RepairRefused
from ops.doctor_data import fault_locked, lock_errors, locked, sqlite
from ops.models import Sighting
from ops.services.repairs import repair_plan, repair_start, repair_undo

pytestmark = pytest.mark.django_db(transaction=True)


def tune():
    return repair_start(repair_id="db.tune", actor="test", trigger="command")


@pytest.fixture
def gave_up():
    memory = fault_locked.cause()
    yield memory
    fault_locked.heal(memory)


@pytest.fixture
def short_wait():
    """A process whose statements hardly wait for a lock."""
    wrapper = connections["default"]
    before = wrapper.settings_dict["OPTIONS"]["timeout"]
    for options in (connections.settings["default"]["OPTIONS"], wrapper.settings_dict["OPTIONS"]):
        options["timeout"] = 0.1
    connections.close_all()
    yield
    for options in (connections.settings["default"]["OPTIONS"], wrapper.settings_dict["OPTIONS"]):
        options["timeout"] = before
    connections.close_all()


class TestSqlite:
    def test_a_free_database_is_green(self, check):
        run = check("db.locked")
        assert (run.status, run.evidence["journal_mode"]) == ("pass", "wal")
        assert tune().state == "unneeded"

    def test_statements_that_gave_up_are_counted_settled_and_counted_again_when_undone(self, check, gave_up):
        assert Sighting.objects.get(service="database").count == 5
        run = check("db.locked")
        assert (run.status, run.evidence["failed_last_hour"]) == ("fail", 5)
        done = tune()
        assert done.state == "succeeded", done.error
        assert check("db.locked").status == "pass"
        assert tune().state == "unneeded"
        repair_undo(run=done, actor="test")
        assert check("db.locked").status == "fail"

    def test_a_process_whose_statements_hardly_wait_is_seen_and_mended(self, check, short_wait):
        run = check("db.locked")
        assert (run.status, run.evidence["busy_timeout_ms"]) == ("fail", 100)
        planned = repair_plan(repair_id="db.tune", actor="test")
        assert planned.plan.changes[0].to_dict() | {} == {
            "target": "database", "what": "busy_timeout (ms)", "before": 100, "after": 20000,
        }  # fmt: skip
        assert tune().state == "succeeded"
        assert check("db.locked").status == "pass"

    def test_another_program_that_holds_the_lock_is_named(self, monkeypatch, tmp_path):
        monkeypatch.setattr(locked, "WAIT", 0.3)
        code = (
            "import sqlite3,sys; c=sqlite3.connect(sys.argv[1], isolation_level=None); c.execute('BEGIN IMMEDIATE');"
            "print('held', flush=True); sys.stdin.read()"
        )
        holder = subprocess.Popen(
            [sys.executable, "-c", code, str(sqlite.database_file())], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        try:
            assert holder.stdout.readline() == b"held\n"
            outcome = locked.locked()
            assert outcome.status == "fail"
            assert [one["pid"] for one in outcome.evidence["holders"]] == [holder.pid]
            assert f"process {holder.pid}" in outcome.sentence
            steps = guide_for("db.locked", evidence=outcome.evidence).steps
            assert steps[0].snippet == f"kill {holder.pid}"
        finally:
            holder.stdin.close()
            holder.wait(60)
        assert locked.locked().status == "pass"

    def test_a_file_switched_away_from_wal_is_switched_back_by_our_next_connection(self):
        connections.close_all()
        # Whoever still holds a connection lets go of it within moments.
        with sqlite3.connect(sqlite.database_file(), timeout=30) as other:
            assert other.execute("PRAGMA journal_mode=DELETE").fetchone() == ("delete",)
        other.close()
        outcome = locked.locked()
        assert (outcome.status, sqlite.is_sqlite()) == ("pass", True)
        with sqlite.raw(read_only=True) as connection:
            assert sqlite.pragma(connection, "journal_mode") == "wal"

    def test_connections_are_not_ended_where_there_is_no_server(self):
        with pytest.raises(RepairRefused, match="SQLite has no server"):
            repair_plan(repair_id="db.unblock", actor="test")

    def test_counting_waits_until_the_lock_is_free(self, monkeypatch):
        monkeypatch.setattr(lock_errors, "_PAUSE", 0.05)
        with sqlite.raw() as holder:
            holder.execute("BEGIN IMMEDIATE")
            lock_errors.note()
            lock_errors.settle_down(0.5)
            assert lock_errors.counted_lately() == 0
            holder.execute("ROLLBACK")
        lock_errors.settle_down()
        assert lock_errors.counted_lately() == 1
        Sighting.objects.all().delete()


@pytest.mark.e2e
def test_on_postgresql_a_blocker_is_named_and_ended(postgres):
    """The check, the plan and the repair run in a process whose database is PostgreSQL."""
    address = postgres.create_database("locks")
    environment = {
        **os.environ,
        "DATABASE_URL": address,
        "PYTHONPATH": str(settings.BASE_DIR),
        "PYTHONWARNINGS": "ignore",
    }
    environment.pop("DATA_DIR", None)
    subprocess.run(
        [sys.executable, "manage.py", "migrate", "--verbosity", "0"], cwd=settings.BASE_DIR, env=environment, check=True
    )
    code = """
import json, sys, threading, time
import django; django.setup()
import psycopg
from django.conf import settings
from django.db import connections
from ops.doctor_data import corrupt, locked
from ops.models import NamedLock
from ops.services.repairs import repair_plan, repair_start
from django.utils import timezone
locked.WAIT = 0.5
NamedLock.objects.create(name="x", holder="", expires_at=timezone.now())
address = sys.argv[1]
blocker = psycopg.connect(address, application_name="careless")
pid = blocker.info.backend_pid
blocker.execute("UPDATE ops_namedlock SET fence = 7 WHERE name = 'x'")
def wait():
    NamedLock.objects.filter(name="x").update(fence=9)
    connections.close_all()
waiter = threading.Thread(target=wait, daemon=True); waiter.start()
until = time.monotonic() + 90
while not locked.waits(0.5) and time.monotonic() < until: time.sleep(0.1)
out = {"pid": pid}
red = locked.locked()
out["red"] = [red.status, red.sentence, red.evidence["waits"][0], red.fix.repair, red.fix.params]
out["plan"] = repair_plan(repair_id="db.unblock", params=red.fix.params, actor="test").plan.sentence
out["wrong"] = ""
try: repair_plan(repair_id="db.unblock", params={"pid": 1}, actor="test")
except Exception as error: out["wrong"] = str(error)
run = repair_start(repair_id="db.unblock", params=red.fix.params, actor="test", trigger="command")
waiter.join(60)
out["run"] = [run.state, run.error]
out["fence"] = NamedLock.objects.get(name="x").fence
out["green"] = locked.locked().status
out["again"] = repair_start(repair_id="db.unblock", actor="test", trigger="command").state
whole = corrupt.corrupt()
out["whole"] = [whole.status, whole.evidence]
with connections["default"].cursor() as cursor:
    # The wheel has no amcheck: its function, as far as we call it.
    cursor.execute("CREATE FUNCTION bt_index_check(i regclass) RETURNS void LANGUAGE plpgsql AS "
                   "$$ BEGIN IF i::text = 'issue_of' THEN RAISE 'item order invariant violated'; END IF; END $$")
facts = {}
out["amcheck"] = [corrupt._damaged_indexes(facts), facts]
print(json.dumps(out, default=str))
"""
    environment["DJANGO_SETTINGS_MODULE"] = "controlplane.settings"
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, address], cwd=settings.BASE_DIR, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    out = json.loads(done.stdout.splitlines()[-1])
    status, sentence, wait, repair, params = out["red"]
    assert (status, repair, params) == ("fail", "db.unblock", {"pid": out["pid"]})
    assert f"Connection {out['pid']} (careless, idle in transaction)" in sentence
    assert (wait["blocker"], wait["statement"], wait["blocker_statement"]) == (out["pid"], "UPDATE", "UPDATE")
    assert "is ended" in out["plan"]
    assert "holds nobody up" in out["wrong"]
    assert out["run"] == ["succeeded", ""], out["run"]
    assert (out["fence"], out["green"], out["again"]) == (9, "pass", "unneeded")
    assert out["whole"][0] == "pass"
    assert out["whole"][1]["checksums"] is True
    damaged, facts = out["amcheck"]
    assert damaged == [
        "issue_of: item order invariant violated CONTEXT: PL/pgSQL function bt_index_check(regclass) line 1 at RAISE"
    ]
    assert facts["indexes_checked"] == facts["indexes"] > 20
    assert time.monotonic() - started < 90
