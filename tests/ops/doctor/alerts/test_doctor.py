"""The check, the test as a repair, the fault; the dead-man switch; the stand-in for missing workers; services' refusals."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.core.management.base import CommandError
from django.utils import timezone

from ops.alerts import faults, outward, watch
from ops.alerts.send import tell
from ops.doctor.guides import guide_for
from ops.doctor.repairs import RepairRefused
from ops.models import AlertChannel, AlertMessage, AuditEvent, CheckResult, Heartbeat, MaintenanceWindow
from ops.runner import run_checks
from ops.services.alerts import channel_delete, channel_save, channel_test, maintenance_end, maintenance_start
from ops.services.repairs import repair_plan, repair_start

pytestmark = pytest.mark.django_db(transaction=True)


def check(id="alerts.health"):
    (run,) = [run for run in run_checks([id]) if run.check.id == id]
    return run


def beat(ago=timedelta(0)):
    Heartbeat.objects.update_or_create(
        name="host:1:1", defaults={"started_at": timezone.now(), "seen_at": timezone.now() - ago}
    )


class TestHealth:
    def test_without_a_channel_there_is_nothing_to_be_red_about(self):
        assert check().status == "skip"

    def test_a_channel_that_works_is_green(self, channel):
        assert channel_test(channel=channel, actor="test").state == "sent"
        assert check().status == "pass"

    def test_the_fault_turns_it_red_and_a_test_mends_it(self):
        memory = faults.cause()
        try:
            run = check()
            assert run.status == "fail"
            assert "503" in run.evidence["channels"][0]["reason"]
            assert run.evidence["channels"][0]["channel"] == faults.NAME
            planned = repair_plan(repair_id="alert.test", actor="test")
            assert [change.target for change in planned.plan.changes] == [f"alertchannel:{memory['channel']}"]
            done = repair_start(repair_id="alert.test", actor="test", trigger="admin")
            assert done.state == "succeeded", done.error
            assert check().status == "pass"
            assert repair_start(repair_id="alert.test", actor="test", trigger="admin").state == "unneeded"
        finally:
            faults.heal(memory)
        assert not AlertChannel.objects.exists()
        faults.heal(memory)

    def test_a_test_that_does_not_arrive_fails_with_what_was_said(self, hook, channel):
        hook.status = 401
        assert channel_test(channel=channel, actor="test").state == "failed"
        done = repair_start(repair_id="alert.test", actor="test", trigger="admin")
        assert done.state == "failed"
        assert "401" in done.error + done.sentence
        assert check().status == "fail"
        steps = guide_for("alerts.health").to_dict()["steps"]
        assert "401" in steps[0]["sentence"]
        assert "python manage.py alerts test 'ops hook'" in steps[-1]["snippet"]

    def test_an_unknown_channel_is_refused(self, channel):
        with pytest.raises(RepairRefused, match="no channel nowhere"):
            repair_plan(repair_id="alert.test", params={"channel": "nowhere"}, actor="test")

    def test_messages_that_nobody_sends_are_seen_and_sent_by_the_repair(self, hook, channel, make_issue):
        beat()
        make_issue()
        from ops.alerts.queue import queue_news

        queue_news(timezone.now() - timedelta(minutes=6))
        assert AlertMessage.objects.get().due_at < timezone.now() - timedelta(minutes=5)
        run = check()
        assert (run.status, run.evidence) == ("fail", {"overdue": 1})
        assert repair_start(repair_id="alert.test", actor="test", trigger="admin").state == "succeeded"
        assert len(hook.got) == 1
        # Without any worker it is not this check's business.
        AlertMessage.objects.update(state="queued", attempts=0)
        beat(ago=timedelta(minutes=10))
        assert check().status == "pass"

    def test_a_silent_channel_is_not_told_of_its_own_silence_and_others_are(self, hook, channel, make_issue, mailbox):
        url = f"mailto://127.0.0.1:{mailbox.port}/?from=switchboard@example.org&to=olga@example.org"
        channel_save(actor="test", name="mail", url=url)
        hook.status = 503
        channel_test(channel=channel, actor="test")
        make_issue("alerts.health", severity="warning")
        tell()
        assert len(mailbox.letters) == 1
        assert not AlertMessage.objects.filter(channel=channel, kind="opened").exists()


class TestDeadManSwitch:
    @pytest.fixture(autouse=True)
    def address(self, hook, settings):
        settings.HEARTBEAT_URL = f"http://127.0.0.1:{hook.port}/secret-uuid-8f3a"

    def test_it_is_pinged_and_told_when_something_critical_is_wrong(self, hook, make_issue, resolve):
        assert outward.ping().ok
        issue = make_issue("db.reachable", severity="critical", status="fail")
        make_issue("disk.space", severity="error", status="fail")
        outward.ping()
        resolve(issue)
        outward.ping()
        assert [path for path, _ in hook.calls] == ["/secret-uuid-8f3a", "/secret-uuid-8f3a/fail", "/secret-uuid-8f3a"]
        assert hook.calls[1][1] == "db.reachable: db.reachable does not work."
        # One row however many pings.
        assert CheckResult.objects.filter(check_id="alerts.heartbeat", target="ping").count() == 1

    def test_what_is_snoozed_or_under_maintenance_is_no_failure_to_it(self, hook, make_issue):
        make_issue("db.reachable", severity="critical", status="fail", state="snoozed")
        make_issue("disk.space", severity="critical", status="fail")
        maintenance_start(
            actor="test", ends_at=timezone.now() + timedelta(hours=1), reason="New disk", checks=["disk.*"]
        )
        outward.ping()
        assert [path for path, _ in hook.calls] == ["/secret-uuid-8f3a"]

    def test_pings_that_fail_turn_its_check_red_without_the_address(self, hook):
        beat()
        outward.ping(timezone.now() - timedelta(minutes=2))
        assert check("alerts.heartbeat").status == "pass"
        hook.status = 404
        outward.ping()
        run = check("alerts.heartbeat")
        assert run.status == "fail"
        assert "404" in run.sentence
        assert "secret-uuid" not in str(run.to_dict())
        steps = guide_for("alerts.heartbeat").to_dict()
        assert "secret-uuid" not in str(steps)
        hook.status = 200
        outward.ping()
        assert check("alerts.heartbeat").status == "pass"

    def test_an_address_where_nobody_listens_never_raises(self, settings):
        settings.HEARTBEAT_URL = "http://127.0.0.1:9/x"
        ping = outward.ping()
        assert not ping.ok
        assert "127.0.0.1 could not be pinged" in ping.sentence

    def test_pings_that_stopped_are_seen(self, settings):
        beat()
        outward.ping(timezone.now() - timedelta(minutes=10))
        assert "10 min ago" in check("alerts.heartbeat").sentence
        assert check("alerts.heartbeat").status == "fail"
        settings.HEARTBEAT_URL = ""
        assert check("alerts.heartbeat").status == "skip"
        assert outward.ping() is None


class TestWatch:
    def test_while_a_worker_reports_it_does_nothing(self, hook, channel, make_issue):
        beat()
        make_issue()
        assert watch.look() is False
        assert not hook.got

    def test_without_workers_it_sends_itself_and_once(self, hook, channel, make_issue, resolve):
        beat(ago=timedelta(minutes=5))
        issue = make_issue("worker.alive", severity="critical")
        assert watch.look() is True
        assert watch.look() is True
        assert hook.titles == ["Not well (critical): A worker takes tasks"]
        resolve(issue)
        beat()
        assert watch.look() is False
        assert tell() == 1

    def test_its_thread_starts_once_and_ends(self, monkeypatch):
        looks = []
        monkeypatch.setattr(watch, "EVERY", 0.01)
        monkeypatch.setattr(watch, "look", lambda: looks.append(threading.current_thread()))
        watch.start()
        watch.start()
        until = time.monotonic() + 90
        while len(looks) < 3 and time.monotonic() < until:
            time.sleep(0.01)
        watch.stop()
        assert len(set(looks)) == 1
        assert not looks[0].is_alive()


class TestServices:
    @pytest.mark.parametrize(
        ("fields", "place"),
        [
            ({"name": ""}, "name"),
            ({"url": None}, "url"),
            ({"url": "hello"}, "url"),
            ({"url": "bogus://x"}, "url"),
            ({"url": "slack://"}, "url"),
            ({"url": "room://nowhere"}, "url"),
            ({"min_severity": "loud"}, "min_severity"),
            ({"only_checks": ["no.such"]}, "only_checks"),
            ({"remind_every_minutes": -1}, "remind_every_minutes"),
            ({"quiet_from": timezone.now().time()}, "quiet_to"),
            ({"timezone": "Mars/North"}, "timezone"),
        ],
    )
    def test_what_cannot_be_used_is_refused_at_its_field(self, fields, place):
        with pytest.raises(ValidationError) as caught:
            channel_save(**{"actor": "test", "name": "x", "url": "json://127.0.0.1/", **fields})
        assert list(caught.value.message_dict) == [place]

    def test_the_audit_says_that_the_address_changed_and_not_what_it_is(self, channel):
        channel_save(actor="test", channel=channel, name="ops hook", url="json://127.0.0.1/pQ7rSt2uVw5xYz8a")
        channel_save(actor="test", channel=channel, name="ops hook")
        channel_delete(channel=channel, actor="test")
        events = list(AuditEvent.objects.filter(action__startswith="alertchannel").order_by("id"))
        assert [event.action for event in events] == [
            f"alertchannel.{word}" for word in ("created", "changed", "deleted")
        ]
        assert events[1].after == {"address_changed": True}
        assert "pQ7rSt2uVw5xYz8a" not in str([(event.before, event.after) for event in events])

    def test_maintenance_needs_a_reason_and_an_end(self):
        with pytest.raises(ValidationError) as caught:
            maintenance_start(actor="test", ends_at=timezone.now() - timedelta(hours=1), reason=" ", checks=["no.such"])
        assert sorted(caught.value.message_dict) == ["checks", "ends_at", "reason"]

    def test_maintenance_that_has_not_begun_is_taken_back(self):
        start = timezone.now() + timedelta(hours=1)
        window = maintenance_start(
            actor="test", starts_at=start, ends_at=start + timedelta(hours=1), reason="Later", checks=["db.*"]
        )
        assert maintenance_end(window=window, actor="test")
        assert not MaintenanceWindow.objects.exists()


class TestCommand:
    def test_it_lists_and_tests(self, hook, channel, capsys):
        call_command("alerts", "test", "ops hook")
        assert hook.titles == ["Switchboard: test"]
        call_command("alerts", "list")
        out = capsys.readouterr().out
        assert "ops hook" in out
        assert "JSON at 127.0.0.1" in out
        assert "aB3dEf6hIj9kLm2n" not in out

    def test_a_test_that_fails_ends_with_an_error(self, hook, channel):
        hook.status = 500
        with pytest.raises(CommandError, match="500"):
            call_command("alerts", "test", "ops hook")
        with pytest.raises(CommandError, match="no channel"):
            call_command("alerts", "test", "nobody")
