"""The status board and the public page: the same history, once for operators and once for everybody."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from ops import uptime
from ops.admin.board import board_context
from ops.board import board, component_key, window_of
from ops.choices import Lamp
from ops.models import CheckResult, CheckState, Issue, IssueState, Process, ProcessRole
from ops.services.pruning import prune
from ops.strips import percent
from ops.uptime import PULSE, WINDOWS
from tests.admin.conftest import World
from tests.admin.doctor.conftest import text_of

PUBLIC = {"Answers", "Agents", "Chat rooms", "This website"}


def state(check_id: str, status: str, since: datetime, target: str = "", **fields: Any) -> CheckState:
    row, _ = CheckState.objects.update_or_create(
        check_id=check_id, target=target, defaults={"status": status, "since": since, "checked_at": timezone.now(), **fields}
    )  # fmt: skip
    return row


def result(check_id: str, status: str, at: datetime, target: str = "", *, changed: bool = True) -> None:
    CheckResult.objects.create(check_id=check_id, target=target, status=status, at=at, changed=changed, duration_ms=20)


def pulse(now: datetime, days: int = 30, leave_out: tuple[datetime, datetime] | None = None) -> None:
    """Somebody was asking every ten minutes, but for one stretch."""
    times = [now - timedelta(minutes=10 * number) for number in range(days * 144)]
    CheckResult.objects.bulk_create(
        CheckResult(check_id=PULSE, status="pass", at=at, changed=False)
        for at in times
        if leave_out is None or not leave_out[0] < at < leave_out[1]
    )


def test_uptime_is_exact_from_changes_alone(db: None) -> None:
    now = timezone.now()
    day = timedelta(days=1)
    state("broker.reachable", "pass", now - timedelta(hours=5))
    result("broker.reachable", "pass", now - 40 * day)
    result("broker.reachable", "fail", now - timedelta(hours=6))
    result("broker.reachable", "pass", now - timedelta(hours=5))
    past = uptime.history(now)
    spans = past.spans([("broker.reachable", "")])
    assert [(span.level, span.end - span.start) for span in spans] == [
        (0, 30 * day - timedelta(hours=6)), (2, timedelta(hours=1)), (0, timedelta(hours=5)),
    ]  # fmt: skip
    assert uptime.share_of(spans, day, now) == pytest.approx(23 / 24)
    assert uptime.share_of(spans, 30 * day, now) == pytest.approx(1 - 1 / 720)
    slots = uptime.slots_of(spans, WINDOWS[0], now)
    assert len(slots) == 48
    assert [slot.level for slot in slots].count(2) == 2
    assert slots[36].share == 0


def test_a_warning_check_is_no_trouble_and_a_blocked_one_unknown(db: None) -> None:
    now = timezone.now()
    assert uptime.level_of("broker.reachable", "fail") == 2
    assert uptime.level_of("no.such.check", "fail") == 2
    assert uptime.level_of("broker.reachable", "warn") == 1
    state("worker.alive", "blocked", now - timedelta(hours=1))
    result("worker.alive", "pass", now - timedelta(days=3))
    result("worker.alive", "blocked", now - timedelta(hours=12))
    spans = uptime.history(now).spans([("worker.alive", "")])
    # What could not be asked counts neither as well nor as trouble.
    assert [span.level for span in spans] == [None, 0, None]
    assert uptime.share_of(spans, timedelta(days=1), now) == 1


def test_a_stretch_in_which_nobody_asked_is_unknown(db: None) -> None:
    now = timezone.now()
    off = (now - timedelta(hours=10), now - timedelta(hours=4))
    pulse(now, days=2, leave_out=off)
    state("broker.reachable", "fail", now - timedelta(days=1))
    result("broker.reachable", "pass", now - timedelta(days=2))
    result("broker.reachable", "fail", now - timedelta(hours=12))
    spans = uptime.history(now).spans([("broker.reachable", "")])
    levels = [slot.level for slot in uptime.slots_of(spans, WINDOWS[0], now)]
    assert levels[:23].count(0) == 23
    assert levels.count(None) in (11, 12, 13)
    assert levels[-1] == 2


def test_the_share_is_never_rounded_up_to_a_hundred() -> None:
    assert percent(None) == "–"
    assert percent(1) == "100 %"
    assert percent(0.99999) == "99.99 %"
    assert percent(0.5) == "50.0 %"


def test_each_check_belongs_to_one_part(world: World) -> None:
    assert component_key("homeserver.reachable", "homeserver") == "service:homeserver"
    assert component_key("db.reachable", "") == "database"
    assert component_key("worker.alive", "") == "workers"
    assert component_key("turns.moving", "") == "messages"
    assert component_key("nothing.registered", "") == "other"


def test_what_blocks_what(world: World) -> None:
    now = timezone.now()
    state("db.reachable", "pass", now)
    state("broker.reachable", "fail", now, sentence="Connection refused.")
    state("worker.alive", "blocked", now, evidence={"blocked_by": "broker.reachable"})
    state("turns.moving", "blocked", now, evidence={"blocked_by": "broker.reachable"})
    state("homeserver.reachable", "warn", now, target="homeserver", sentence="It cannot reach us.")
    found = {one.key: one for one in board().components}
    assert found["broker"].lamp is Lamp.TROUBLE
    assert set(found["broker"].blocks) == {"Workers and processes", "Message path"}
    assert found["workers"].word == "Blocked"
    assert found["workers"].blocked_by == ["Broker"]
    assert found["service:homeserver"].lamp is Lamp.ATTENTION
    assert "Database" in found["broker"].needs
    # The worst first.
    assert board().components[0].key == "broker"


def test_the_page_says_it_first_and_shows_everything(world: World, client: Any) -> None:
    now = timezone.now()
    pulse(now, days=1)
    state("broker.reachable", "fail", now - timedelta(minutes=5), sentence="Connection refused.")
    result("broker.reachable", "pass", now - timedelta(days=8))
    result("broker.reachable", "fail", now - timedelta(minutes=5))
    for number in range(5):
        result("broker.reachable", "fail", now - timedelta(minutes=10 * number), changed=False)
    Issue.objects.create(
        check_id="broker.reachable", severity="critical", sentence="It was gone.", state=IssueState.RESOLVED,
        opened_at=now - timedelta(hours=3), last_failed_at=now, resolved_at=now - timedelta(hours=2),
    )  # fmt: skip
    Process.objects.create(
        name="box:7:1", role=ProcessRole.WORKER, host="box", pid=7, rss_bytes=300_000_000, started_at=now, seen_at=now
    )
    Process.objects.create(
        name="box:8:1", role=ProcessRole.WEB, host="box", pid=8, started_at=now, seen_at=now - timedelta(minutes=3)
    )
    text = text_of(client.get(reverse("admin:board")))
    assert "are not well: Broker" in text
    assert "Connection refused." in text
    assert 'class="dr-spark"' in text
    assert 'aria-label="Broker in the last 24 hours: ' in text
    assert "lasted 1 h 0 min" in text
    assert "300 MB" in text
    assert "Silent" in text
    assert reverse("admin:board_live") in text
    assert "30 days ago" in text_of(client.get(reverse("admin:board"), {"window": "30d"}))
    assert "data-live" in text_of(client.get(reverse("admin:board_live")))


def test_a_month_of_many_checks_is_read_with_few_queries(world: World) -> None:
    """A hundred checks that changed now and then for thirty days."""
    now = timezone.now()
    pulse(now)
    rows = []
    for number in range(100):
        state(f"made.up{number}", "pass", now - timedelta(days=1))
        for hour in range(0, 720, 24):
            at = now - timedelta(hours=hour)
            rows.append(CheckResult(check_id=f"made.up{number}", status="pass", at=at, changed=True))
            rows.append(CheckResult(check_id=f"made.up{number}", status="fail", at=at - timedelta(minutes=7), changed=True))  # fmt: skip
    CheckResult.objects.bulk_create(rows)
    uptime.forget()
    with CaptureQueriesContext(connection) as asked:
        context = board_context(window_of("30d"))
    assert len(asked) <= 12
    assert len(context["tiles"]) >= 2
    with CaptureQueriesContext(connection) as again:
        board_context(window_of("24h"))
    # The history is kept for half a minute.
    assert len(again) < len(asked)


def test_pruning_leaves_what_the_board_needs(db: None) -> None:
    now = timezone.now()
    day = timedelta(days=1)
    result("broker.reachable", "fail", now - 20 * day)
    result("broker.reachable", "fail", now - 20 * day, changed=False)
    result("broker.reachable", "fail", now - 100 * day)
    result(PULSE, "pass", now - 20 * day, changed=False)
    result(PULSE, "pass", now - 40 * day, changed=False)
    gone = prune()
    assert (gone["check_results"], gone["results"]) == (2, 1)
    left = CheckResult.objects.order_by("pk").values_list("check_id", "changed")
    assert list(left) == [("broker.reachable", True), (PULSE, False)]


# The public page


def test_the_public_page_is_off_by_default(world: World, client: Any) -> None:
    assert client.get("/status").status_code == 404
    assert client.get("/status.json").status_code == 404


@pytest.fixture
def public(settings: Any, world: World, client: Any) -> Any:
    settings.STATUS_PAGE = True
    client.logout()
    now = timezone.now()
    pulse(now, days=1)
    CheckState.objects.all().delete()
    state("db.reachable", "pass", now - timedelta(days=1))
    state("turns.moving", "pass", now - timedelta(days=1))
    state("homeserver.reachable", "fail", now - timedelta(minutes=9), target="homeserver", sentence="http://10.0.0.7:8008 refused @root:hs.test")  # fmt: skip
    state("backend.reachable", "fail", now - timedelta(minutes=9), target="demo", sentence="http://10.0.0.8 is gone")
    Issue.objects.create(
        check_id="homeserver.reachable", target="homeserver", severity="critical", sentence="http://10.0.0.7:8008 refused",
        evidence={"url": "http://10.0.0.7:8008"}, opened_at=now - timedelta(minutes=9), last_failed_at=now,
    )  # fmt: skip
    for start, end in ((300, 240), (238, 200)):
        Issue.objects.create(
            check_id="turns.moving", severity="critical", sentence="Agent 000 is stuck", state=IssueState.RESOLVED,
            opened_at=now - timedelta(minutes=start), last_failed_at=now, resolved_at=now - timedelta(minutes=end),
        )  # fmt: skip
    return client


def test_strangers_see_labels_and_nothing_else(public: Any) -> None:
    answer = public.get("/status")
    text = text_of(answer)
    assert "Not working: Chat rooms." in text
    assert "Disturbed" in text
    for inner in ("10.0.0", "hs.test", "homeserver", "demo", "Agent 000", "refused", "turns.moving", "<script"):
        assert inner not in text, inner
    assert "default-src 'none'" in answer["Content-Security-Policy"]
    assert answer["Cache-Control"] == "public, max-age=5"
    assert not answer.cookies
    assert "Cookie" not in answer.get("Vary", "")


def test_the_same_as_json(public: Any) -> None:
    found = json.loads(text_of(public.get("/status.json")))
    assert found["status"] == "down"
    parts = {part["label"]: part for part in found["parts"]}
    assert set(parts) <= PUBLIC
    assert parts["Chat rooms"]["status"] == "down"
    assert parts["Agents"]["status"] == "disturbed"
    assert parts["Answers"]["status"] == "well"
    assert parts["This website"]["uptime"]["24h"] == 1
    # Two that nearly touch are one incident.
    answers = [one for one in found["incidents"] if one["label"] == "Answers"]
    assert len(answers) == 1
    assert answers[0]["seconds"] == 100 * 60
    still = [one for one in found["incidents"] if one["label"] == "Chat rooms"]
    assert still[0]["to"] is None
    assert "10.0.0" not in json.dumps(found)


def test_it_is_read_once_in_a_while_however_many_ask(public: Any) -> None:
    public.get("/status")
    with CaptureQueriesContext(connection) as asked:
        public.get("/status")
        public.get("/status.json")
    assert len(asked) == 0


def test_labels_can_be_chosen(public: Any, settings: Any) -> None:
    settings.STATUS_PAGE_LABELS = ["service:homeserver=Rooms of the club"]
    settings.STATUS_PAGE_TITLE = "Our club"
    text = text_of(public.get("/status"))
    assert "Rooms of the club" in text
    assert "Our club" in text
    assert "Answers" not in text


def test_it_says_so_when_nobody_checks(public: Any) -> None:
    CheckState.objects.update(checked_at=timezone.now() - timedelta(minutes=20))
    text = text_of(public.get("/status"))
    assert "Nobody is checking at this moment" in text
    assert "Not known" in text


def test_without_a_database_it_still_answers(public: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> Any:
        raise OSError("the database at 10.0.0.9 is gone")

    monkeypatch.setattr("ops.status_page.public_status", gone)
    answer = public.get("/status")
    assert answer.status_code == 503
    assert "cannot be read at this moment" in answer.content.decode()
    assert "10.0.0.9" not in answer.content.decode()
    assert public.get("/status.json").status_code == 503
