"""When checks of processes turn red, and when they do not."""

from __future__ import annotations

import json
import time
from datetime import timedelta

import pytest
from django.utils import timezone

from ops.doctor_services import checks_loops, checks_processes, checks_resources, instances
from ops.doctor_services.deploy_files import cannot_fail, read_probes, seconds_of
from ops.doctor_services.graph import start_order
from ops.doctor_services.health_probes import KEY, health_document, parse_probe
from ops.doctor_services.preflight import preflight_checks
from ops.live import live_set
from ops.models import CheckState, Process, RepairRun
from ops.processes.idle import past
from ops.runner import run_checks
from ops.services.repairs import repair_plan, repair_start, repair_undo

MB = 2**20
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def scaled(settings, make_process):
    """All of it runs, on machines that cannot be looked at from here."""
    settings.EMBEDDED = False
    return {role: make_process(role) for role in ("web", "worker", "beat")}


def ended(**fields):
    return {"ended_at": timezone.now() - timedelta(seconds=30), "end_reason": "Ended as asked.", **fields}


class TestDown:
    def test_an_installation_that_never_ran_is_no_failure(self):
        assert checks_processes.down().status == "skip"
        assert checks_processes.api_down().status == "skip"
        assert checks_processes.stack_start().status == "skip"

    def test_all_is_well(self, scaled):
        assert checks_processes.down().status == "pass"
        assert checks_processes.stack_start().status == "pass"
        assert checks_processes.api_down().status == "pass"

    def test_one_that_ended_is_missed_after_a_moment_however_it_ended(self, scaled):
        Process.objects.filter(role="beat").update(ended_at=timezone.now(), end_reason="Ended as asked.")
        assert checks_processes.down().status == "pass"
        Process.objects.filter(role="beat").update(ended_at=timezone.now() - timedelta(seconds=25))
        outcome = checks_processes.down()
        assert outcome.status == "fail"
        assert outcome.fix.target == "role:beat"
        assert "beat" in outcome.evidence["commands"]

    def test_the_web_server_is_told_by_its_own_check_alone(self, scaled):
        Process.objects.filter(role="web").update(seen_at=timezone.now() - timedelta(seconds=60))
        assert checks_processes.down().status == "pass"
        assert checks_processes.api_down().status == "fail"

    def test_one_of_several_that_was_killed_is_a_warning_until_another_has_started(self, scaled, make_process):
        lost = make_process("worker", ago=120)
        outcome = checks_processes.down()
        assert (outcome.status, [one.target for one in outcome.affected]) == ("warn", [f"process:{lost.pk}"])
        make_process("worker", up=60)
        assert checks_processes.down().status == "pass"

    def test_one_that_was_asked_to_end_is_not_missed(self, scaled, make_process):
        make_process("worker", ago=120, **ended())
        assert checks_processes.down().status == "pass"

    def test_nothing_runs(self, scaled):
        Process.objects.update(seen_at=timezone.now() - timedelta(hours=3))
        outcome = checks_processes.down()
        assert outcome.status == "fail"
        assert outcome.fix.repair == "stack.start"
        assert checks_processes.stack_start().status == "skip"
        assert checks_processes.api_down().status == "skip"


def test_a_start_that_forgot_something_is_not_a_loss(settings, make_process):
    settings.EMBEDDED = False
    make_process("web", up=60)
    make_process("beat", up=60)
    assert checks_processes.stack_start().status == "pass"
    Process.objects.update(started_at=timezone.now() - timedelta(minutes=5))
    make_process("worker", ago=3600)
    assert checks_processes.down().status == "pass"
    outcome = checks_processes.stack_start()
    assert (outcome.status, outcome.evidence["missing"]) == ("fail", ["worker"])


class TestCrashLoop:
    def starts(self, make_process, count=3, **fields):
        return [make_process("worker", ago=40 + 60 * n, up=2, **fields) for n in range(count)]

    def test_three_starts_that_came_to_nothing(self, make_process, settings):
        settings.EMBEDDED = False
        make_process("web")
        make_process("beat")
        self.starts(make_process, 2)
        assert checks_loops.crash_loop().status == "pass"
        self.starts(make_process, 1)
        outcome = checks_loops.crash_loop()
        assert outcome.status == "fail"
        assert outcome.evidence["worker on elsewhere"]["starts"] == 3
        assert outcome.evidence["worker on elsewhere"]["exits"][0]["up_seconds"] == 2.0
        # One cause, one red check.
        assert checks_processes.down().status == "pass"

    def test_restarts_that_somebody_asked_for_do_not_count(self, make_process):
        self.starts(make_process, 4, **ended())
        assert checks_loops.crash_loop().status == "pass"

    def test_one_that_stays_up_ends_it(self, make_process):
        self.starts(make_process)
        make_process("worker", up=30)
        assert checks_loops.crash_loop().status == "fail"
        make_process("worker", up=130)
        assert checks_loops.crash_loop().status == "pass"

    def test_the_preflight_names_what_is_red_and_settles_nothing(self, make_process, monkeypatch):
        from ops.doctor_services import preflight
        from ops.registry import CheckOutcome, get_check, register_check, unregister_check

        rows = self.starts(make_process)
        run_checks(["svc.crash_loop"])

        @register_check("config.proof", title="Proof", tags=("config",), repairs=("config.edit",))
        def wrong():
            return CheckOutcome("fail", "The key is missing.")

        try:
            assert get_check("config.proof").id in preflight_checks()
            monkeypatch.setattr(preflight, "preflight_checks", lambda: ["config.proof"])
            run = repair_start(repair_id="service.preflight", actor="proof", trigger="command")
        finally:
            unregister_check("config.proof")
        assert run.state == "failed"
        assert "config.proof: The key is missing. Repair: config.edit." in run.error
        assert not Process.objects.filter(pk__in=[row.pk for row in rows], end_reason__startswith="Settled").exists()

    def test_without_a_finding_the_failed_starts_are_settled_and_undo_brings_them_back(self, make_process, monkeypatch):
        from ops.doctor_services import preflight

        self.starts(make_process)
        monkeypatch.setattr(preflight, "preflight_checks", lambda: ["db.reachable"])
        run_checks(["svc.crash_loop"])
        run = repair_start(repair_id="service.preflight", actor="proof", trigger="command")
        assert (run.state, checks_loops.crash_loop().status) == ("succeeded", "pass")
        assert repair_start(repair_id="service.preflight", actor="proof", trigger="command").state == "unneeded"
        repair_undo(run=run, actor="proof")
        assert checks_loops.crash_loop().status == "fail"


def test_the_order_of_the_start(settings):
    settings.EMBEDDED = False
    order = start_order()
    assert order.index("database") < order.index("worker") < order.index("beat")
    assert order.index("broker") < order.index("web")
    settings.EMBEDDED = True
    assert start_order() == ["database", "up"]


class TestInstances:
    def test_two_schedules_and_two_hosts_on_one_file(self, make_process):
        make_process("up", host="one")
        assert instances.multi_writer().status == "pass"
        older = make_process("beat", host="one", up=3600)
        outcome = instances.multi_writer()
        assert outcome.status == "fail"
        assert outcome.fix.target == f"process:{older.pk}"
        older.delete()
        make_process("worker", host="two")
        expected = "fail" if Process.objects.db == "default" and _is_sqlite() else "pass"
        assert instances.multi_writer().status == expected

    def test_the_one_that_was_asked_to_go_counts_no_more(self, make_process):
        make_process("up")
        make_process("beat", drain_requested_at=timezone.now())
        assert instances.multi_writer().status == "pass"


def _is_sqlite():
    from django.db import connection

    return connection.vendor == "sqlite"


class TestResources:
    def test_memory_by_limit_and_without(self, make_process):
        row = make_process(rss_bytes=90 * MB, memory_limit_bytes=100 * MB)
        assert checks_resources.memory_high(row)
        row.rss_bytes = 70 * MB
        assert not checks_resources.memory_high(row)
        row.memory_limit_bytes, row.rss_bytes = None, 2000 * MB
        assert checks_resources.memory_high(row)

    def test_growth_is_told_from_load_and_from_the_first_minutes(self, make_process):
        assert checks_resources.growth_percent(make_process(samples=past(160))) > 5
        assert checks_resources.growth_percent(make_process(samples=past(10))) is None
        assert checks_resources.growth_percent(make_process(samples=past(160, hours=1.0))) is None
        # It grew with its work.
        busy = [[t, size, cpu**2] for t, size, cpu in past(160)]
        assert checks_resources.growth_percent(make_process(samples=busy)) is None
        now = time.time()
        jump = [[now - 6 * 3600 + n * 300, 80 * MB if n < 2 else 200 * MB, 0] for n in range(72)]
        assert checks_resources.growth_percent(make_process(samples=jump)) is None

    def test_kills_for_want_of_memory_are_remembered_for_a_day(self, make_process):
        row = make_process(oom_kills=2, memory_limit_bytes=512 * MB, rss_bytes=400 * MB)
        (run,) = run_checks(["res.oom"])
        assert run.status == "fail"
        assert "512 MB" in run.sentence
        state = CheckState.objects.get(check_id="res.oom")
        old = (timezone.now() - timedelta(hours=25)).isoformat()
        state.evidence["groups"]["elsewhere"]["rose_at"] = old
        state.save()
        assert run_checks(["res.oom"])[0].status == "pass"
        Process.objects.filter(pk=row.pk).update(oom_kills=3)
        assert run_checks(["res.oom"])[0].status == "fail"

    def test_a_death_at_the_limit_is_taken_for_one(self, make_process):
        make_process(ago=60, rss_bytes=500 * MB, memory_limit_bytes=512 * MB)
        outcome = checks_resources.check_oom()
        assert outcome.status == "fail"
        assert "killed without a word at 500 MB of 512 MB" in outcome.sentence

    def test_nobody_is_recycled_who_would_be_missed(self, scaled, settings):
        settings.PROCESS_MANAGER = "none"
        Process.objects.filter(role="worker").update(rss_bytes=3000 * MB)
        run_checks(["res.memory_high"])
        from ops.doctor.repairs import RepairRefused

        with pytest.raises(RepairRefused, match="nobody would start the next one"):
            repair_plan(repair_id="service.recycle", actor="proof")
        settings.PROCESS_MANAGER = "systemd"
        plan = repair_plan(repair_id="service.recycle", actor="proof").plan
        assert [change.after for change in plan.changes] == ["ends after its current work; systemd starts the next one"]
        assert RepairRun.objects.count() == 0


class TestProbes:
    def test_lines_of_the_table(self):
        probe = parse_probe("letta http://127.0.0.1:8283/v1/health/ json=status=ok ms=500")
        assert (probe.name, probe.path, probe.value, probe.max_ms, probe.status) == ("letta", "status", "ok", 500, 200)
        for wrong in ("letta", "letta ftp://x", "letta http://x status=two", "letta http://x what=1"):
            with pytest.raises(ValueError):
                parse_probe(wrong)

    def test_every_shape_becomes_pass_warn_or_fail(self, tmp_path):
        import threading
        from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                if self.path == "/slow":
                    time.sleep(0.1)
                body = json.dumps({"data": [{"state": "ok"}]}).encode()
                self.send_response(503 if self.path == "/ill" else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_port}"
        lines = [
            f"well {base}/x json=data.0.state=ok",
            f"wrong {base}/x json=data.0.state=fine",
            f"ill {base}/ill",
            f"slow {base}/slow ms=50",
            "gone http://127.0.0.1:1/",
        ]
        live_set(key=KEY, value=lines, actor="proof")
        try:
            found = {run.target: run.status for run in run_checks(["svc.health_endpoints"])}
        finally:
            server.shutdown()
            server.server_close()
        assert found == {"well": "pass", "wrong": "fail", "ill": "fail", "slow": "warn", "gone": "fail"}
        document = health_document(detailed=True)
        assert document["status"] == "fail"
        assert {one["component"]: one["status"] for one in document["checks"]["svc.health_endpoints"]} == {
            "well": "pass", "wrong": "fail", "ill": "fail", "slow": "warn", "gone": "fail",
        }  # fmt: skip
        assert set(health_document(detailed=False)) == {"status", "version", "time"}


class TestDeployFiles:
    @pytest.mark.parametrize(
        "test",
        [
            "exit 0",
            "true",
            'python -c "import sys; sys.exit(0)"',
            "curl http://x",
            "curl -fs http://x || true",
            "sh -c 'exit 0'",
        ],
    )
    def test_probes_that_cannot_fail(self, test):
        assert cannot_fail(test)

    @pytest.mark.parametrize(
        "test",
        [
            "pg_isready -U x",
            "redis-cli ping",
            "curl -fsS http://x",
            "wget -q http://x || exit 1",
            "manage.py healthcheck --service web",
        ],
    )
    def test_probes_that_can(self, test):
        assert not cannot_fail(test)

    def test_what_we_ship_has_probes_that_can_fail(self):
        probes, problems = read_probes()
        assert problems == []
        assert {one.role for one in probes if one.test} >= {"web", "worker", "beat"}
        assert [one for one in probes if one.test and cannot_fail(one.test)] == []

    def test_durations(self):
        assert [seconds_of(text, 7.0) for text in ("20s", "1m30s", "500ms", 90, None, "2min")] == [
            20,
            90,
            0.5,
            90,
            7,
            120,
        ]

    def test_a_file_that_cannot_be_read_is_said(self, tmp_path):
        from ops.doctor_services.checks_deploy import vacuous_probe

        live_set(key="DEPLOY_FILES", value=str(tmp_path / "none.yaml"), actor="proof")
        outcome = vacuous_probe()
        assert outcome.status == "warn"
        assert "cannot be read" in outcome.sentence


def test_health_is_one_document_for_those_who_may_see_it(client, settings):
    settings.METRICS_TOKEN = "metrics-token-1"
    run_checks(["svc.down"])
    assert "health" not in client.get("/health?verbose").json()
    known = client.get("/health?verbose", HTTP_AUTHORIZATION="Bearer metrics-token-1").json()
    assert known["status"] == "healthy"
    assert known["health"]["status"] == "pass"
    assert [one["status"] for one in known["health"]["checks"]["svc.down"]] == ["pass"]
    assert client.get("/api/v1/health").status_code == 401


def test_a_worker_that_takes_no_tasks_is_meant_when_nothing_else_is_named(scaled, settings):
    from ops.models import Heartbeat

    settings.PROCESS_MANAGER = "systemd"
    assert repair_start(repair_id="service.restart", actor="proof", trigger="command").state == "unneeded"
    old = timezone.now() - timedelta(minutes=2)
    Heartbeat.objects.create(name="elsewhere:1:1", started_at=old, seen_at=old)
    settings.PROCESS_MANAGER = "local"
    plan = repair_plan(repair_id="service.restart", actor="proof").plan
    assert [(one.target, one.before) for one in plan.changes] == [("role:worker", "it takes no tasks")]
