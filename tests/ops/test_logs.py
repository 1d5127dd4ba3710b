from __future__ import annotations

import io
import json
import logging
import threading

import pytest

from ops import logs, redaction
from ops.logs import add_secret, bind, configure, get_logger

TOKEN = "tops3cret-Value-42"


@pytest.fixture
def stream(monkeypatch):
    """Logging configured as JSON into a buffer; the process's own configuration comes back afterwards."""
    root = logging.getLogger()
    before, level, secrets = list(root.handlers), root.level, redaction._secrets
    buffer = io.StringIO()
    monkeypatch.setattr("sys.stderr", buffer)
    configure("info", "json", [TOKEN])
    yield buffer
    root.handlers[:] = before
    root.setLevel(level)
    redaction._secrets = secrets


def lines(buffer):
    return [json.loads(line) for line in buffer.getvalue().splitlines()]


def test_structlog_and_stdlib_records_share_one_shape(stream):
    get_logger("a").info("room_created", room_id="!r:x")
    logging.getLogger("b").warning("plain %s", "text")
    first, second = lines(stream)
    assert (first["event"], first["logger"], first["level"], first["room_id"]) == ("room_created", "a", "info", "!r:x")
    assert (second["event"], second["logger"], second["level"]) == ("plain text", "b", "warning")
    assert first["timestamp"].endswith("Z")


@pytest.mark.parametrize(
    "text",
    [
        f"value {TOKEN} inside",
        "Authorization: Bearer abcDEF123456",
        "bearer abcDEF123456",
        "GET /x?access_token=abcDEF123456&a=1",
        "GET /x?token=abcDEF123456",
        "postgres://bob:abcDEF123456@db/x",
        '{"password": "abcDEF123456"}',
        "password='abcDEF123456'",
        "api_key=abcDEF123456",
        "sk-abcDEF123456",
        "hs_token: abcDEF123456",
        "accessToken=abcDEF123456",
        "Authorization: Basic abcDEF123456",
        "Set-Cookie: abcDEF123456; Path=/",
        "Bad Request: /setup/abcDEF1234560123456789abcdef/",
    ],
)
def test_secrets_leave_no_trace_in_any_text(stream, text):
    get_logger("a").info("event", text=text)
    get_logger("a").info(text)
    logging.getLogger("b").error("failed: %s", text)
    logging.getLogger("b").error("failed", extra={"where": {"deep": [text]}})
    try:
        raise RuntimeError(text)
    except RuntimeError:
        get_logger("a").exception("boom")
        logging.getLogger("b").exception("boom")
    out = stream.getvalue()
    assert len(lines(stream)) == 6
    assert "abcDEF123456" not in out
    assert TOKEN not in out
    assert out.count("[hidden]") >= 6
    assert out.count("Traceback") == 2


def test_fields_named_like_secrets_are_hidden_and_counts_are_not(stream):
    get_logger("a").info(
        "e", api_key="zzz", headers={"Authorization": "Basic eA=="}, tokens=12, token_id="t1", keyboard="us"
    )
    (line,) = lines(stream)
    assert line["api_key"] == "[hidden]"
    assert line["headers"] == {"Authorization": "[hidden]"}
    assert (line["tokens"], line["token_id"], line["keyboard"]) == (12, "t1", "us")


def test_objects_are_shown_through_redaction(stream):
    class Thing:
        def __repr__(self):
            return f"<Thing {TOKEN}>"

    get_logger("a").info("e", thing=Thing(), error=ValueError(f"bad {TOKEN}"))
    (line,) = lines(stream)
    assert line["thing"] == "<Thing [hidden]>"
    assert line["error"] == "bad [hidden]"


def test_a_secret_added_at_run_time_is_hidden_from_then_on(stream):
    get_logger("a").info("found-later-9")
    add_secret("found-later-9")
    get_logger("a").info("now found-later-9")
    assert [line["event"] for line in lines(stream)] == ["found-later-9", "now [hidden]"]


def test_short_values_are_not_hidden_in_every_word(stream):
    add_secret("abc")
    get_logger("a").info("abcdef")
    assert lines(stream)[0]["event"] == "abcdef"


def test_bound_ids_appear_and_go_and_do_not_leak_into_other_threads(stream):
    with bind(request_id="r1", job_id=None):
        get_logger("a").info("inside")
        with bind(agent=7):
            logging.getLogger("b").warning("deeper")
        thread = threading.Thread(target=lambda: get_logger("a").info("thread"))
        thread.start()
        thread.join()
    get_logger("a").info("outside")
    inside, deeper, thread_line, outside = lines(stream)
    assert inside["request_id"] == "r1"
    assert "job_id" not in inside
    assert (deeper["request_id"], deeper["agent"]) == ("r1", "7")
    assert "request_id" not in thread_line
    assert "request_id" not in outside


def test_httpx_request_lines_are_off_and_its_warnings_on(stream):
    logging.getLogger("httpx").info("HTTP Request: GET http://x")
    logging.getLogger("httpx").warning("strange")
    assert [line["event"] for line in lines(stream)] == ["strange"]


def test_console_form_redacts_too_and_configuring_twice_does_not_double_lines(stream, monkeypatch):
    buffer = io.StringIO()
    monkeypatch.setattr("sys.stderr", buffer)
    configure("info", "console", [TOKEN])
    configure("info", "console", [TOKEN])
    try:
        raise RuntimeError(TOKEN)
    except RuntimeError:
        logs.get_logger("c").exception("console_line", password="hunter22")
    out = buffer.getvalue()
    assert out.count("console_line") == 1
    assert TOKEN not in out
    assert "hunter22" not in out
    assert "Traceback" in out


def test_redaction_is_cheap():
    import time

    redaction.set_secrets([f"secret-number-{n:04d}-abcdef" for n in range(30)])
    event = {"event": "turn_finished", "turn_id": "123", "seconds": 1.5, "agent": "Alpha", "text": "x" * 200}
    started = time.thread_time()
    for _ in range(2000):
        redaction.redact_event(None, "info", dict(event))
    assert (time.thread_time() - started) / 2000 < 0.0005
    redaction.set_secrets([])


def test_redacting_twice_changes_nothing_more():
    once = redaction.redact_text("password=hunter22; Bearer abc123 http://u:p@h/?token=abc 'key': 'v'")
    assert redaction.redact_text(once) == once
    assert once.count("[hidden]") == 5


def test_harmless_words_stay():
    for text in ("basic setup done", "monkey: banana", "the key is missing", "tokens: 12", "http://h:80/a@b"):
        assert redaction.redact_text(text) == text


def test_long_texts_take_no_long_time():
    import time

    started = time.thread_time()
    for text in ("token-" * 30_000, "a-b_" * 50_000, "key" * 60_000, "x" * 200_000 + "token", "://a:" * 40_000):
        redaction.redact_text(text)
    assert time.thread_time() - started < 3
