"""Issues reach real receivers: once, in order, with their recovery, and without storms."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta

import pytest
from django.conf import settings
from django.db import connection, connections
from django.utils import timezone

from ops.alerts import queue, send, transports, words
from ops.alerts.send import BACKOFF, tell
from ops.models import AlertChannel, AlertMessage, AlertState, Issue, MaintenanceWindow
from ops.services.alerts import channel_save, channel_switch, maintenance_end, maintenance_start, message_retry

pytestmark = pytest.mark.django_db(transaction=True)


def states(**filters):
    return list(AlertMessage.objects.filter(**filters).order_by("pk").values_list("kind", "state"))


def later(**delta):
    return timezone.now() + timedelta(**delta)


class TestOneIncident:
    def test_it_is_told_once_reminded_and_over_with_how_long_it_took(self, hook, channel, make_issue, resolve):
        issue = make_issue(ago=timedelta(minutes=20), severity="critical")
        assert tell() == 1
        assert tell() == 0
        (first,) = hook.got
        assert first["title"] == "Not well (critical): A worker takes tasks"
        assert first["type"] == "failure"
        assert f"Severity: critical. Since {issue.opened_at:%Y-%m-%d %H:%M} UTC." in first["message"]
        assert settings.PUBLIC_URL in first["message"]
        assert tell(later(hours=5)) == 1
        assert hook.titles[-1].startswith("Still not well after 5 h")
        resolve(issue, issue.opened_at + timedelta(minutes=34))
        assert tell(later(hours=5)) == 1
        assert hook.titles[-1] == "Well again after 34 min: A worker takes tasks"
        assert hook.got[-1]["type"] == "success"
        assert tell(later(hours=6)) == 0
        assert states() == [("opened", "sent"), ("reminder", "sent"), ("recovered", "sent")]
        channel.refresh_from_db()
        assert channel.last_ok_at is not None

    def test_an_e_mail_arrives(self, mailbox, make_issue):
        url = f"mailto://127.0.0.1:{mailbox.port}/?from=switchboard@example.org&to=olga@example.org"
        channel_save(actor="test", name="mail", url=url)
        make_issue("db.reachable")
        assert tell() == 1
        (to, letter) = mailbox.letters[0]
        assert to == ["olga@example.org"]
        assert b"Not well" in letter
        assert b"switchboard@example.org" in letter

    def test_one_that_is_acknowledged_is_not_reminded_of_but_its_end_is_told(self, hook, channel, make_issue, resolve):
        issue = make_issue()
        tell()
        Issue.objects.update(state="acknowledged")
        assert tell(later(days=1)) == 0
        resolve(issue)
        assert tell() == 1

    def test_a_reference_and_no_address_stand_in_the_text(self, hook, channel, make_issue):
        make_issue()
        tell()
        message = AlertMessage.objects.get()
        assert hook.got[0]["message"].endswith(f"Ref: {words.reference(message.key)}")
        assert "aB3dEf6hIj9kLm2n" not in str(hook.got[0])


class TestNoStorms:
    def test_only_the_root_cause_is_told_and_how_many_follow(self, hook, channel, make_issue, resolve):
        root = make_issue("db.reachable", severity="critical")
        for number in range(30):
            make_issue("service.reachable", target=f"s{number}", root=root)
        tell()
        assert hook.titles == ["Not well (critical): The database reads and writes"]
        assert "30 other issues follow from it." in hook.got[0]["message"]
        assert AlertMessage.objects.filter(state=AlertState.SUPPRESSED).count() == 30
        # The root is over; one of the others is wrong for a reason of its own.
        resolve(root)
        Issue.objects.filter(target="s3").update(root=None)
        Issue.objects.filter(root=root).update(state="resolved", resolved_at=timezone.now())
        tell()
        worse, better = sorted(hook.titles[1:])
        assert worse == "Not well (error): The service answers (s3)"
        assert re.fullmatch(r"Well again after \d+ s: The database reads and writes", better)

    def test_many_at_once_become_one_digest_the_worst_first_alone(self, hook, channel, make_issue, resolve):
        issues = [make_issue("service.reachable", target=f"s{number}") for number in range(20)]
        make_issue("db.reachable", severity="critical")
        assert tell() == 6
        assert hook.titles[0].startswith("Not well (critical)")
        assert AlertMessage.objects.filter(state=AlertState.HELD).count() == 15
        resolve(issues[19])
        assert tell(later(seconds=61)) == 1
        digest = hook.got[-1]
        assert digest["title"] == "14 things are not well, 1 is well again"
        assert digest["message"].count("Not well (error)") == 14
        assert re.search(r"Well again after \d+ s: The service answers \(s19\)", digest["message"])
        assert tell(later(seconds=120)) == 0
        # What was told in the digest counts as told: its recovery follows.
        resolve(issues[18])
        assert tell(later(minutes=20)) == 1
        assert hook.titles[-1].endswith("(s18)")

    def test_quiet_hours_hold_what_is_not_critical_for_one_digest(self, hook, channel, make_issue, resolve):
        now = timezone.now()
        start, end = (now - timedelta(hours=1)).time(), (now + timedelta(hours=1)).time()
        channel_save(
            actor="test", channel=channel, name="ops hook", quiet_from=start.replace(microsecond=0),
            quiet_to=end.replace(microsecond=0),
        )  # fmt: skip
        minor = make_issue("disk.space", severity="warning")
        make_issue("service.reachable", target="letta")
        make_issue("db.reachable", severity="critical")
        assert tell() == 1
        assert hook.titles == ["Not well (critical): The database reads and writes"]
        resolve(minor)
        tell()
        assert len(hook.got) == 1
        tell(later(hours=1, seconds=5))
        assert hook.titles[1:] == ["1 thing is not well, 1 is well again"]

    def test_what_flaps_is_told_once_until_it_is_calm(self, hook, channel, make_issue, resolve):
        for flaps in range(5):
            issue = make_issue(flaps=flaps)
            tell()
            resolve(issue)
            tell()
        assert [title.split(":")[0].split(" after")[0] for title in hook.titles] == [
            "Not well (error)",
            "Well again",
            "Back again (error)",
        ]
        tell(later(minutes=11))
        assert hook.titles[-1].startswith("Well again after")
        assert len(hook.got) == 4

    def test_maintenance_keeps_quiet_and_tells_afterwards(self, hook, channel, make_issue):
        window = maintenance_start(actor="test", ends_at=later(hours=2), reason="New disk", checks=["db.*"])
        make_issue("db.reachable", severity="critical")
        make_issue("service.reachable", target="letta")
        tell()
        assert hook.titles == ["Not well (error): The service answers (letta)"]
        kept = AlertMessage.objects.get(state=AlertState.SUPPRESSED)
        assert kept.error == "Maintenance: New disk"
        assert maintenance_end(window=window, actor="test")
        assert MaintenanceWindow.objects.get().ends_at <= timezone.now()
        tell()
        assert hook.titles[-1] == "Not well (critical): The database reads and writes"

    def test_what_was_queued_before_maintenance_began_is_kept_back_and_told_after_it(self, hook, channel, make_issue):
        make_issue()
        queue.queue_news()
        window = maintenance_start(actor="test", ends_at=later(hours=2), reason="New disk")
        send.send_due()
        assert hook.got == []
        maintenance_end(window=window, actor="test")
        tell()
        assert len(hook.got) == 1


class TestExactlyOnce:
    def test_many_threads_at_once_tell_each_thing_once(self, hook, channel, make_issue):
        for number in range(5):
            make_issue("service.reachable", target=f"s{number}")
        barrier = threading.Barrier(6)

        def work():
            try:
                barrier.wait(60)
                tell()
            finally:
                connections.close_all()

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        tell()
        assert len(hook.got) == 5
        assert len({one["title"] for one in hook.got}) == 5
        assert set(states()) == {("opened", "sent")}

    def test_a_worker_killed_while_it_sends_loses_nothing(self, hook, channel, make_issue):
        make_issue()
        hook.pause.clear()
        script = "import django; django.setup(); from ops.models import AlertMessage; from ops.alerts.send import tell; tell()"
        env = {**os.environ, "DJANGO_SETTINGS_MODULE": "controlplane.settings", "PYTHONPATH": str(settings.BASE_DIR)}
        code = (
            "from django.conf import settings; settings.DATABASES['default']['NAME'] = "
            f"{str(connection.settings_dict['NAME'])!r}; {script}"
        )
        worker = subprocess.Popen([sys.executable, "-c", code], env=env, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 90
        while not hook.calls and time.monotonic() < until:
            time.sleep(0.05)
        assert hook.calls, "the worker sent nothing"
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait()
        hook.status = 500
        hook.pause.set()
        until = time.monotonic() + 90
        while not hook.answered and time.monotonic() < until:
            time.sleep(0.02)
        hook.status, hook.calls = 200, []
        message = AlertMessage.objects.get()
        assert (message.state, message.attempts) == (AlertState.QUEUED, 1)
        # Nobody takes it from a worker that may still be alive.
        assert tell() == 0
        assert tell(later(seconds=91)) == 1
        assert len(hook.got) == 1

    def test_a_channel_that_fails_is_tried_again_in_order_and_then_catches_up(self, hook, channel, make_issue):
        hook.status = 503
        make_issue("service.reachable", target="a")
        make_issue("service.reachable", target="b")
        assert tell() == 0
        assert len(hook.calls) == 1
        channel.refresh_from_db()
        assert "503" in channel.last_error
        assert "aB3dEf6hIj9kLm2n" not in channel.last_error
        assert tell() == 0
        assert len(hook.calls) == 1
        hook.status = 200
        assert tell(later(seconds=BACKOFF[0] + 1)) == 2
        assert [title[-3:] for title in hook.titles] == ["(a)", "(b)"]
        channel.refresh_from_db()
        assert channel.last_error == ""

    def test_after_the_last_attempt_it_has_failed_and_can_be_retried_by_hand(self, hook, channel, make_issue):
        hook.status = 500
        AlertChannel.objects.update(remind_every_minutes=0)
        make_issue()
        now = timezone.now()
        for _ in range(len(BACKOFF) + 1):
            tell(now)
            now += timedelta(minutes=31)
        message = AlertMessage.objects.get()
        assert (message.state, message.attempts) == (AlertState.FAILED, len(BACKOFF) + 1)
        hook.status = 200
        assert message_retry(message=message, actor="test")
        assert tell() == 1

    def test_one_that_hangs_does_not_hold_up_the_others(self, hook, channel, make_issue, mailbox, monkeypatch):
        url = f"mailto://127.0.0.1:{mailbox.port}/?from=switchboard@example.org&to=olga@example.org"
        channel_save(actor="test", name="mail", url=url)
        make_issue()
        hook.pause.clear()
        thread = threading.Thread(target=lambda: (tell(), connections.close_all()))
        thread.start()
        until = time.monotonic() + 90
        while not mailbox.letters and time.monotonic() < until:
            time.sleep(0.05)
        assert mailbox.letters
        hook.pause.set()
        thread.join(60)

    def test_a_channel_that_is_off_is_told_nothing(self, hook, channel, make_issue):
        channel_switch(channel=channel, enabled=False, actor="test")
        make_issue()
        assert tell() == 0
        assert AlertMessage.objects.count() == 0

    def test_a_constant_number_of_queries_however_many_issues(
        self, hook, channel, make_issue, django_assert_max_num_queries
    ):
        for number in range(300):
            make_issue("service.reachable", target=f"s{number}")
        queue.queue_news()
        with django_assert_max_num_queries(8):
            assert queue.queue_news() == 0


class TestAddresses:
    @pytest.mark.parametrize(
        ("address", "label"),
        [
            ("json://user:pass@hooks.example.org/x", "JSON at hooks.example.org"),
            ("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/", "Slack"),
            ("ntfy://my-secret-topic", "ntfy"),
            ("bogus://x", "bogus:// (not usable)"),
        ],
    )
    def test_a_label_lets_nobody_in(self, address, label):
        assert transports.label_of(address) == label

    def test_the_address_is_encrypted_and_never_shown(self, channel):
        with connection.cursor() as cursor:
            cursor.execute("SELECT url FROM ops_alertchannel")
            assert cursor.fetchone()[0].startswith("enc1:")
        assert "aB3dEf6hIj9kLm2n" not in repr(AlertChannel.objects.get().url)
