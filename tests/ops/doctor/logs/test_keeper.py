"""Lines of the log become rows, and nothing that happens to them costs whoever logs anything."""

from __future__ import annotations

import io
import logging
import threading
import time

import pytest
from django.db import OperationalError, connections

from ops import live, redaction
from ops.logbook import keeper as keeper_module
from ops.logbook import reader
from ops.logbook.keeper import Keeper, unkept
from ops.logbook.levels import KEEP_KEY
from ops.logbook.pump import Logbook
from ops.logbook.rows import STATUS_LOGGER
from ops.logbook.status import statuses
from ops.logs import add_sink, bind, configure, get_logger, remove_sink
from ops.models import LiveSetting, LogLine
from ops.services.logbook import log_level_clear, log_level_set, prune_lines

SECRET = "hunter2-is-the-value"


@pytest.fixture
def pipeline(monkeypatch):
    """The log as in a process, writing to a buffer; what was configured before comes back."""
    root = logging.getLogger()
    before, level, secrets = list(root.handlers), root.level, redaction._secrets
    buffer = io.StringIO()
    monkeypatch.setattr("sys.stderr", buffer)
    configure("info", "json", [SECRET])
    live.forget()
    yield buffer
    root.handlers[:] = before
    root.setLevel(level)
    redaction._secrets = secrets
    live.forget()


@pytest.fixture
def kept(pipeline):
    """A keeper that gets what the log says."""
    one = Keeper(role="worker", process="host:1:1")
    add_sink(one.take)
    yield one
    remove_sink(one.take)


def test_a_line_becomes_a_row_with_its_ids_and_without_its_secrets(kept, db):
    with bind(request_id="req-12345678", agent="Ada", message_id=7):
        get_logger("chat.turns").warning("turn.gave_up", service="letta", error=f"key {SECRET}", password="zzz", n=3)
    try:
        raise RuntimeError(f"with {SECRET}")
    except RuntimeError:
        logging.getLogger("plain").exception("it broke: %s", SECRET)
    assert kept.flush() == 2
    second, first = LogLine.objects.all()
    assert (first.level, first.logger, first.event) == ("warning", "chat.turns", "turn.gave_up")
    assert (first.service, first.agent, first.message_id, first.request_id) == ("letta", "Ada", "7", "req-12345678")
    assert first.extra == {"error": "key [hidden]", "password": "[hidden]", "n": 3}
    assert (first.role, first.process) == ("worker", "host:1:1")
    assert second.event == "it broke: [hidden]"
    assert "RuntimeError: with [hidden]" in second.trace
    assert not any(SECRET in reader.as_jsonl(line) for line in LogLine.objects.all())


def test_debug_is_not_kept_unless_asked_for(kept, db):
    logging.getLogger("a").setLevel(logging.DEBUG)
    try:
        get_logger("a").debug("quiet")
        assert kept.waiting == 0
    finally:
        logging.getLogger("a").setLevel(logging.NOTSET)


def test_whoever_logs_never_waits_and_what_is_too_much_is_counted(pipeline):
    one = Keeper(role="worker", process="p", capacity=100)
    started = time.thread_time()
    for _ in range(5000):
        one.take({"event": "x", "level": "info"})
    took = (time.thread_time() - started) / 5000
    assert one.waiting == 80
    for _ in range(50):
        one.take({"event": "y", "level": "error"})
    assert one.waiting == 100
    assert one.dropped == 4920 + 30
    assert took < 0.0001


def test_a_database_that_is_away_delays_lines_and_loses_none(kept, db, monkeypatch):
    get_logger("a").error("first")
    with monkeypatch.context() as context:
        context.setattr(
            keeper_module.LogLine.objects,
            "bulk_create",
            lambda *a, **k: (_ for _ in ()).throw(OperationalError("gone")),
        )
        assert kept.flush() == 0
        assert "gone" in kept.trouble
    get_logger("a").error("second")
    assert kept.flush() == 2
    assert list(LogLine.objects.order_by("id").values_list("event", flat=True)) == ["first", "second"]
    assert kept.trouble == ""


def test_a_line_that_no_database_takes_costs_only_itself(kept, db):
    get_logger("a").info("nul \x00 and half a pair \ud800", deep={"x": float("nan"), "y": [float("inf"), 2**80]})
    get_logger("a").info("x" * 5000, many={str(n): n for n in range(200)})
    assert kept.flush() == 2
    long, odd = LogLine.objects.all()
    assert "\x00" not in odd.event
    assert odd.extra["deep"]["x"] == "nan"
    assert len(long.event) == 300
    assert len(long.extra["whole"]) == 4000


def test_what_the_writing_thread_says_itself_is_not_kept(kept, db):
    with unkept():
        get_logger("django.db").error("while writing")
    assert kept.waiting == 0


def test_a_sink_that_fails_does_not_cost_the_line(pipeline):
    def broken(event):
        raise RuntimeError("sink")

    add_sink(broken)
    try:
        get_logger("a").info("still_said")
    finally:
        remove_sink(broken)
    assert "still_said" in pipeline.getvalue()


@pytest.mark.django_db(transaction=True)
def test_the_logbook_writes_within_a_second_and_says_how_it_fares(pipeline):
    book = Logbook("worker", process="host:9:9")
    book.start()
    try:
        threads = [
            threading.Thread(target=lambda n=n: [get_logger("t").info(f"line {n}.{k}") for k in range(50)])
            for n in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        get_logger("t").error("an error is written at once")
        until = time.monotonic() + 90
        while LogLine.objects.filter(logger="t").count() < 201 and time.monotonic() < until:
            time.sleep(0.05)
        assert LogLine.objects.filter(logger="t").count() == 201
        until = time.monotonic() + 90
        while not statuses() and time.monotonic() < until:
            time.sleep(0.05)
        (one,) = statuses()
        assert (one.process, one.role, one.late, one.ended) == ("host:9:9", "worker", False, False)
    finally:
        get_logger("t").info("the last words")
        book.stop(5)
        connections.close_all()
    assert LogLine.objects.filter(event="the last words").exists()
    (one,) = statuses()
    assert one.ended
    assert (one.facts["dropped"], one.facts["unfit"]) == (0, 0)
    assert not reader.lines(reader.LogFilter()).filter(logger=STATUS_LOGGER).exists()


def test_a_level_changed_live_is_followed_kept_and_falls_back(pipeline, db):
    book = Logbook("worker", process="host:8:8")
    add_sink(book.keeper.take)
    try:
        log = get_logger("chat.levels.test")
        log.debug("before")
        log_level_set(logger="chat.levels", level="debug", minutes=15, actor="test")
        book.look()
        log.debug("while")
        assert book.keeper.waiting == 1
        assert book.levels.applied == {"chat.levels": "debug"}
        # The time is over: nobody has to do anything.
        row = LiveSetting.objects.get(pk="log.levels")
        row.value = {"chat.levels": {"level": "debug", "until": "2020-01-01T00:00:00+00:00"}}
        row.save()
        live.forget()
        book.look()
        log.debug("after")
        assert book.keeper.waiting == 1
        assert logging.getLogger("chat.levels").level == logging.NOTSET
        assert log_level_clear(logger="chat.levels", actor="test") is False
    finally:
        remove_sink(book.keeper.take)
        book.levels.apply({})


def test_keeping_can_be_switched_off_live(pipeline, db):
    book = Logbook("worker", process="host:7:7")
    live.live_set(key=KEEP_KEY, value="off", actor="test")
    book.look()
    book.keeper.take({"event": "x", "level": "error"})
    assert book.keeper.waiting == 0
    live.live_set(key=KEEP_KEY, value="warning", actor="test")
    book.look()
    book.keeper.take({"event": "x", "level": "info"})
    book.keeper.take({"event": "x", "level": "warning"})
    assert book.keeper.waiting == 1


def test_old_lines_and_lines_beyond_the_most_go(db):
    from datetime import timedelta

    from django.utils import timezone

    now = timezone.now()
    for age in (10, 9, 1, 0, 0, 0):
        LogLine.objects.create(at=now - timedelta(days=age), level="info", event=f"{age} days")
    assert prune_lines(kept=timedelta(days=7), most=3) == 3
    assert LogLine.objects.count() == 3
