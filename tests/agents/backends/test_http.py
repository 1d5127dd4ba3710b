from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from agents.backends.base import ServiceSpec
from agents.backends.errors import (
    BackendBroken,
    BackendBusy,
    BackendError,
    BackendRateLimited,
    BackendRejected,
    BackendTimeout,
    BackendUnavailable,
)
from agents.backends.http import HttpServer, make_client
from agents.backends.http_errors import retry_after
from agents.backends.redact import HIDDEN, plain_url, redact, short
from agents.backends.watch import StopRequested, WatchedNetwork

from .asking import stop_after
from .server import ScriptedServer

SECRET = "very-secret-password"


def connect(server: ScriptedServer | str) -> HttpServer:
    url = server if isinstance(server, str) else server.url
    return HttpServer(ServiceSpec("s", "letta", url, {"password": SECRET}), {"Authorization": f"Bearer {SECRET}"})


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, BackendRejected),
        (401, BackendRejected),
        (404, BackendRejected),
        (408, BackendTimeout),
        (409, BackendBusy),
        (422, BackendRejected),
        (429, BackendRateLimited),
        (500, BackendUnavailable),
        (503, BackendUnavailable),
        (504, BackendTimeout),
        (529, BackendUnavailable),
    ],
)
def test_each_status_becomes_its_error_without_a_secret(server, status, error):
    said = {"detail": f"no: Bearer {SECRET} and sk-abcdefghijklmnop", "at": "?"}
    server.on("GET", "/x", lambda asked: asked.answer(said, status, {"Retry-After": "7"}))
    with pytest.raises(error) as caught:
        connect(server).json("GET", "/x")
    assert caught.type is error
    assert caught.value.status == status
    assert caught.value.retry_after == 7.0
    assert f"HTTP {status}" in caught.value.reason
    assert SECRET not in caught.value.reason
    assert "sk-abc" not in caught.value.reason
    assert server.url in caught.value.reason


def test_retry_after_as_seconds_milliseconds_date_and_nonsense():
    now = datetime(2026, 1, 1, tzinfo=UTC)
    date = format_datetime(now + timedelta(seconds=90), usegmt=True)
    assert retry_after({"retry-after": "1.5"}) == 1.5
    assert retry_after({"retry-after-ms": "250", "retry-after": "9"}) == 0.25
    assert retry_after({"retry-after": date}, now) == 90
    assert retry_after({"retry-after": format_datetime(now - timedelta(1), usegmt=True)}, now) == 0
    assert retry_after({"retry-after": "999999"}) == 3600
    assert retry_after({"retry-after": "soon"}) is None
    assert retry_after({"retry-after": "nan"}) is None
    assert retry_after({}) is None


def test_secrets_disappear_from_text_and_addresses():
    assert redact("key=abcd1234 abcd1234", ["abcd1234"]) == f"key={HIDDEN} {HIDDEN}"
    assert "hunter22" not in redact("http://bo:hunter22@host/x?access_token=zzz&a=1")
    assert "zzz" not in redact("http://bo:hunter22@host/x?access_token=zzz&a=1")
    assert plain_url("https://bo:hunter22@host:8/v1?key=1#x") == "https://host:8/v1"
    secret = "x" * 400
    assert "x" not in short(f"{'a' * 290} {secret}", [secret])


def test_a_secret_is_in_no_repr():
    spec = ServiceSpec("s", "letta", "http://h", {"password": SECRET})
    assert SECRET not in repr(spec)
    assert SECRET not in repr(HttpServer(spec, {"Authorization": SECRET}))


def test_an_address_that_is_none_is_refused_in_words():
    for url in ("", "letta:8283", "ftp://x", "http://"):
        with pytest.raises(BackendRejected, match="address"):
            connect(url)


def test_nobody_listens():
    with pytest.raises(BackendUnavailable, match="is the server running"):
        connect("http://127.0.0.1:9").json("GET", "/x")


def test_a_server_that_hangs_up_without_a_word(server):
    server.on("GET", "/x", lambda asked: asked.hang_up())
    with pytest.raises(BackendUnavailable, match="without an answer"):
        connect(server).json("GET", "/x")


def test_silence_before_the_answer_is_a_timeout(server):
    server.on("GET", "/x", lambda asked: time.sleep(1))
    with pytest.raises(BackendTimeout):
        connect(server).json("GET", "/x", read_seconds=0.2)


def test_garbage_in_place_of_json(server):
    server.on("GET", "/x", lambda asked: asked.answer("<html>hello</html>"))
    with pytest.raises(BackendBroken, match="not JSON"):
        connect(server).json("GET", "/x")


def test_a_redirect_is_not_followed_but_named(server):
    server.on("GET", "/x", lambda asked: asked.answer({}, 307, {"Location": "https://other.example/x?token=abc"}))
    with pytest.raises(BackendRejected, match=r"other\.example") as caught:
        connect(server).json("GET", "/x")
    assert "abc" not in caught.value.reason


def test_it_says_who_it_is(server):
    server.on("GET", "/x", lambda asked: asked.answer({}))
    connect(server).json("GET", "/x")
    assert server.asked[0].headers["User-Agent"].startswith("Switchboard/")


def test_connections_are_kept_alive_and_watched():
    client = make_client("http://127.0.0.1:1", {})
    assert isinstance(client._transport.inner._pool._network_backend, WatchedNetwork)
    client.close()


# Streams


def read(server: ScriptedServer, stop=lambda: False, silence: float = 5.0, **more) -> list[str]:
    got: list[str] = []
    events = connect(server).events("POST", "/s", body={}, should_stop=stop, silence_seconds=silence, **more)
    got.extend(event.data for event in events)
    return got


def test_events_arrive_one_by_one(server):
    heard = threading.Event()

    def speak():
        yield "data: 1\n\n"
        # The second is said when the first has been heard.
        if heard.wait(60):
            yield "data: 2\n\n"

    server.on("POST", "/s", lambda asked: asked.stream_from(speak()))
    events = connect(server).events("POST", "/s", body={}, should_stop=lambda: False, silence_seconds=20)
    assert next(events).data == "1"
    heard.set()
    assert next(events).data == "2"
    assert list(events) == []


def test_stop_is_heard_while_nothing_arrives(server):
    server.on("POST", "/s", lambda asked: asked.stream("data: 1\n\n", 60.0, "data: 2\n\n"))
    begin = time.monotonic()
    with pytest.raises(StopRequested):
        read(server, stop_after(0.5))
    assert time.monotonic() - begin < 30


def test_stop_is_heard_before_the_answer_begins(server):
    server.on("POST", "/s", lambda asked: time.sleep(60))
    begin = time.monotonic()
    with pytest.raises(StopRequested):
        read(server, stop_after(0.3))
    assert time.monotonic() - begin < 30


def test_no_byte_is_lost_by_looking_up(server):
    parts = [part for number in range(8) for part in (f"data: {number}", 0.25, "!\n\n")]
    server.on("POST", "/s", lambda asked: asked.stream(*parts))
    assert read(server) == [f"{number}!" for number in range(8)]


def test_silence_is_a_timeout_and_pings_do_not_break_it(server):
    server.on("POST", "/s", lambda asked: asked.stream(*([": ping\n\n", 0.2] * 10)))
    with pytest.raises(BackendTimeout):
        read(server, silence=0.7)


def test_a_connection_that_breaks_off(server):
    server.on("POST", "/s", lambda asked: asked.stream("data: 1\n\n", cut=True))
    with pytest.raises(BackendBroken):
        read(server)


def test_what_is_no_stream(server):
    server.on("POST", "/s", lambda asked: asked.answer({"error": f"bad {SECRET}"}))
    with pytest.raises(BackendBroken, match="expected an event stream") as caught:
        read(server)
    assert SECRET not in caught.value.reason


def test_garbage_in_the_stream(server):
    server.on("POST", "/s", lambda asked: asked.stream("data: 1\n\n<html>\n\n"))
    with pytest.raises(BackendBroken, match="no event"):
        read(server)


def test_an_abandoned_stream_gives_its_connection_back(server):
    server.on("POST", "/s", lambda asked: asked.stream("data: 1\n\n", 0.2, "data: 2\n\n"))
    http = connect(server)
    events = http.events("POST", "/s", body={}, should_stop=lambda: False, silence_seconds=5)
    next(events)
    events.close()
    assert http._client._transport.inner._pool.connections == []


def test_closing_lets_a_running_answer_end(server):
    server.on("POST", "/s", lambda asked: asked.stream("data: 1\n\n", 0.2, "data: 2\n\n"))
    http = connect(server)
    events = http.events("POST", "/s", body={}, should_stop=lambda: False, silence_seconds=5)
    assert next(events).data == "1"
    http.close()
    assert [event.data for event in events] == ["2"]
    assert http._client.is_closed
    with pytest.raises(BackendUnavailable):
        http.json("GET", "/x")


def test_a_watch_belongs_to_its_thread(server):
    server.on("POST", "/s", lambda asked: asked.stream("data: 1\n\n", 60.0, "data: 2\n\n"))
    server.on("GET", "/x", lambda asked: (time.sleep(0.6), asked.answer({"fine": True})))
    http, results = connect(server), []

    def stopped() -> None:
        try:
            list(http.events("POST", "/s", body={}, should_stop=stop_after(0.1), silence_seconds=5))
        except (StopRequested, BackendError) as error:
            results.append(type(error))

    thread = threading.Thread(target=stopped)
    thread.start()
    assert http.json("GET", "/x") == {"fine": True}
    thread.join()
    assert results == [StopRequested]
