"""The reporter: what it writes, what it hears, and what others make of it."""

from __future__ import annotations

import json
import os
import threading
import time
from datetime import timedelta

import pytest
from django.conf import settings
from django.utils import timezone

from ops.leases import WORKER
from ops.models import AuditEvent, Process
from ops.processes import queries, watch
from ops.processes.cgroup import Cgroup
from ops.processes.facts import boot_id, settings_seen
from ops.processes.reporter import KEPT_SAMPLES, Reporter
from ops.processes.services import parse_requester, process_drain, prune


def until(true, seconds=60.0):
    limit = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < limit
        time.sleep(0.02)


@pytest.mark.django_db(transaction=True)
class TestReporter:
    def test_it_writes_a_row_hears_a_request_once_and_says_how_it_ended(self):
        heard = []
        reporter = Reporter("worker", on_drain=heard.append, interval=0.1)
        reporter.start()
        try:
            until(lambda: Process.objects.filter(pk=WORKER).exists())
            row = Process.objects.get()
            assert (row.role, row.pid, row.boot_id, row.version) == ("worker", os.getpid(), boot_id(), settings.VERSION)
            assert row.ready_after_seconds is None
            assert row.rss_bytes > 10_000_000
            assert row.threads > 1
            assert queries.is_alive(row)
            reporter.ready()
            until(lambda: Process.objects.get().ready_after_seconds is not None)
            assert process_drain(process=row, actor="person:ada", evict=True)
            assert not process_drain(process=row, actor="person:bob")
            until(lambda: heard)
            until(lambda: Process.objects.get().end_reason)
            time.sleep(0.3)
            assert [(one.by, one.evict) for one in heard] == [("person:ada", True)]
            assert AuditEvent.objects.filter(action="process.evict").count() == 1
        finally:
            reporter.end("Ended as asked.")
        row = Process.objects.get()
        assert not reporter.is_alive()
        assert row.ended_at is not None
        assert row.end_reason == "Asked to end by person:ada."
        assert not queries.is_alive(row)
        assert not queries.crashed(row)

    def test_it_survives_a_database_that_is_away_and_comes_back(self, monkeypatch):
        reporter = Reporter("beat", interval=0.05)
        real, failures = reporter.report, []

        def report():
            if len(failures) < 3:
                failures.append(1)
                raise RuntimeError("the database is away")
            real()

        monkeypatch.setattr(reporter, "report", report)
        reporter.start()
        until(lambda: Process.objects.filter(role="beat").exists())
        reporter.end("Ended as asked.")
        assert len(failures) == 3

    def test_a_row_that_was_pruned_comes_back(self):
        reporter = Reporter("worker")
        reporter.report()
        Process.objects.all().delete()
        reporter.report()
        assert Process.objects.get().packages_digest

    def test_samples_are_bounded(self):
        reporter = Reporter("worker", samples=[[n, n, n] for n in range(500)])
        reporter.report()
        assert len(Process.objects.get().samples) == KEPT_SAMPLES

    def test_one_report_costs_two_queries(self, django_assert_num_queries):
        reporter = Reporter("worker")
        reporter.report()
        with django_assert_num_queries(2):
            reporter.report()
            reporter._listen()


def test_no_value_of_a_setting_can_be_read_from_what_is_reported():
    seen = settings_seen()
    assert len(seen) > 30
    assert all(len(value) == 16 for value in seen.values())
    assert settings.SECRET_KEY not in json.dumps(seen)
    # Keyed with SECRET_KEY: the same value has another hash elsewhere.
    one, other = (
        settings_seen({"SECRET_KEY": "a" * 40, "PORT": 8000}),
        settings_seen({"SECRET_KEY": "b" * 40, "PORT": 8000}),
    )
    assert one["PORT"] != other["PORT"]
    assert one["SECRET_KEY"] != other["SECRET_KEY"]
    assert settings_seen() == seen


def test_both_versions_of_control_groups_are_understood(tmp_path):
    child = tmp_path / "unit"
    child.mkdir()
    (child / "memory.max").write_text("max\n")
    (tmp_path / "memory.max").write_text("536870912\n")
    (child / "memory.events").write_text("oom 4\noom_kill 3\n")
    assert (Cgroup([child, tmp_path]).limit_bytes(), Cgroup([child, tmp_path]).oom_kills()) == (536870912, 3)
    one = tmp_path / "one"
    one.mkdir()
    (one / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    (one / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
    assert (Cgroup([one]).limit_bytes(), Cgroup([one]).oom_kills()) == (None, 2)
    assert (Cgroup([]).limit_bytes(), Cgroup([]).oom_kills()) == (None, 0)


class TestAlive:
    def test_by_reports_where_one_cannot_look_and_by_the_process_where_one_can(self, make_process, dead_pid):
        assert queries.is_alive(make_process(ago=20))
        assert not queries.is_alive(make_process(ago=40))
        assert not queries.is_alive(make_process(ended_at=timezone.now()))
        here = make_process(here=True)
        assert queries.is_alive(here)
        here.name = f"{here.host}:{dead_pid}:12345"
        here.pid = dead_pid
        assert queries.is_gone(here)
        # The same number in another container is another process.
        here.boot_id = "another namespace"
        assert not queries.is_gone(here)

    def test_what_counts_as_a_crash(self, make_process):
        assert queries.crashed(make_process(ago=60))
        assert not queries.crashed(make_process(ago=60, ended_at=timezone.now(), end_reason="Ended as asked."))
        assert queries.crashed(make_process(ago=60, ended_at=timezone.now(), end_reason="Error: ValueError: no"))
        ended = {"ended_at": timezone.now(), "ready_after_seconds": None}
        assert queries.crashed(make_process(ago=60, **ended))
        assert not queries.crashed(make_process(ago=60, **ended, drain_requested_at=timezone.now()))

    def test_old_rows_are_forgotten_and_some_of_each_role_stay(self, make_process):
        make_process(ago=15 * 86400)
        for number in range(105):
            make_process("beat", ago=7200 + number)
        make_process("web")
        assert prune() == 6
        assert Process.objects.filter(role="beat").count() == 100
        assert Process.objects.filter(role="web").count() == 1


def test_who_asked_and_how():
    assert parse_requester("person:ada (evict)") == ("person:ada", True)
    assert parse_requester("command") == ("command", False)


@pytest.mark.django_db(transaction=True)
class TestWatch:
    def test_it_runs_the_few_checks_when_no_worker_is_left(self, make_process, settings):
        from ops.models import CheckState

        settings.EMBEDDED = False
        make_process("web", here=True)
        make_process("beat")
        make_process("worker", ago=60)
        assert watch._needed()
        watch.run_now()
        found = dict(CheckState.objects.values_list("check_id", "status"))
        assert found["svc.down"] == "fail"
        assert set(found) <= set(watch.CHECKS)

    def test_it_leaves_the_checks_to_the_workers_that_are_there(self, make_process):
        make_process("worker")
        assert not watch._needed()
        assert not watch.look()

    def test_it_helps_when_nobody_has_checked_for_long(self, make_process):
        from ops.models import CheckState

        make_process("worker")
        old = timezone.now() - timedelta(minutes=5)
        CheckState.objects.create(check_id="x", status="pass", since=old, checked_at=old)
        assert watch._needed()

    def test_the_reporter_is_not_held_up_by_it(self, monkeypatch, make_process):
        gate = threading.Event()
        monkeypatch.setattr(watch, "run_now", lambda: gate.wait(60))
        began = time.monotonic()
        assert watch.look()
        assert watch.look()
        assert time.monotonic() - began < 30
        gate.set()
        until(lambda: not watch._busy.locked())
