"""An input is never given twice: what a second attempt does in each state that the first may have left."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from agents.backends.chunks import Finished, RunStarted, TextDelta
from agents.backends.errors import BackendBusy, BackendError, BackendTimeout

from .asking import ask, request, stop_after, text_of
from .fake_letta import PING, RUN, STOP, FakeLetta, backend, message, says
from .server import DONE

SECOND = {"attempt": 2}


def arrived(*more: dict) -> list[dict]:
    return [
        message("user_message", "message-0", otid="earlier", content="Before", run_id="run-0"),
        message("assistant_message", "message-00", content="Not this", run_id="run-0"),
        message("user_message", "message-1", otid="message-1", content="Hello"),
        *more,
    ]


def run(status: str = "completed", age: float = 1.0, **more) -> dict:
    made = datetime.now(UTC) - timedelta(seconds=age)
    return {"id": RUN, "status": status, "created_at": made.isoformat(), **more}


def test_an_answered_input_is_answered_from_the_store(server):
    fake = FakeLetta(server)
    fake.messages = arrived(says("Hello", "message-2"))
    fake.runs = [run(stop_reason="end_turn")]
    assert ask(backend(server), request(**SECOND)) == [RunStarted(RUN), TextDelta("Hello"), Finished("end")]
    assert fake.sent() == []


def test_newest_first_makes_no_difference(server):
    fake = FakeLetta(server)
    fake.messages = arrived(says("One", "message-2"), says("Two", "message-3"))[::-1]
    fake.runs = [run()]
    server.on("GET", f"/v1/runs/{RUN}/messages", lambda asked: asked.answer({"detail": "Not Found"}, 404))
    assert text_of(ask(backend(server), request(**SECOND))) == "One\n\nTwo"


def test_a_server_without_runs_gives_what_followed_the_input(server):
    fake = FakeLetta(server)
    later = message("user_message", "message-9", otid="later", content="Next")
    fake.messages = [{**one, "run_id": None} for one in arrived(says("Hello", "message-2"), later, says("No", "m-10"))]
    assert text_of(ask(backend(server), request(**SECOND))) == "Hello"


def test_a_run_at_work_is_waited_for(server):
    fake = FakeLetta(server)
    fake.runs = [run("running")]
    asked_for = []

    def state(asked) -> None:
        asked_for.append(1)
        if len(asked_for) > 1:
            fake.runs = [run()]
            fake.messages = arrived(says("Hello", "message-2"))
        asked.answer(fake.runs[0])

    server.on("GET", f"/v1/runs/{RUN}", state)
    chunks = ask(backend(server), request(**SECOND, resume_ref=RUN))
    assert chunks == [RunStarted(RUN), TextDelta("Hello"), Finished("end")]
    assert fake.sent() == []


def test_a_background_run_is_resumed_from_its_beginning(server):
    fake = FakeLetta(server)
    fake.has_redis()
    fake.runs = [run("running", background=True)]
    fake.streams(PING, says("Hel"), says("lo"), STOP, DONE, path=f"/v1/runs/{RUN}/stream")
    assert text_of(ask(backend(server), request(**SECOND, resume_ref=RUN))) == "Hello"
    assert server.requests("POST", f"/v1/runs/{RUN}/stream")[0].body["starting_after"] == 0
    assert fake.sent() == []


def test_what_never_arrived_is_sent(server):
    fake = FakeLetta(server)
    fake.streams(says("Hello"), STOP, DONE)
    assert text_of(ask(backend(server), request(**SECOND))) == "Hello"
    assert fake.sent()[0].body["messages"][0]["otid"] == "message-1"


def test_a_failed_run_was_rolled_back_and_is_sent_in_the_foreground(server):
    fake = FakeLetta(server)
    fake.has_redis()
    fake.runs = [run("failed", background=True)]
    fake.streams(says("Hello"), STOP, DONE)
    assert text_of(ask(backend(server), request(**SECOND, resume_ref=RUN))) == "Hello"
    assert "background" not in fake.sent()[0].body


def test_an_unnamed_run_at_work_may_be_ours(server):
    fake = FakeLetta(server)
    fake.runs = [run("running")]
    with pytest.raises(BackendBusy) as caught:
        ask(backend(server), request(**SECOND))
    assert caught.value.retry_after == 2
    assert fake.sent() == []


def test_an_unnamed_background_run_is_re_attached_by_the_server(server):
    fake = FakeLetta(server)
    fake.has_redis()
    fake.runs = [run("running", background=True)]
    fake.streams(PING, says("Hello"), STOP, DONE, path="/v1/conversations/default/messages")
    assert text_of(ask(backend(server), request(**SECOND))) == "Hello"
    assert fake.sent()[0].body["background"] is True


def test_the_run_of_a_killed_server_blocks_nothing(server):
    fake = FakeLetta(server)
    fake.runs = [run("running", age=3600)]
    fake.streams(says("Hello"), STOP, DONE)
    assert text_of(ask(backend(server), request(**SECOND))) == "Hello"


def test_an_input_whose_run_failed_later_is_not_given_again(server):
    fake = FakeLetta(server)
    fake.messages = arrived()
    fake.runs = [run("failed", stop_reason="llm_api_error", metadata={"error": "boom"})]
    with pytest.raises(BackendError, match="not sent again") as caught:
        ask(backend(server), request(**SECOND))
    assert caught.type is BackendError
    assert not caught.value.retryable
    assert fake.sent() == []


def test_waiting_ends_in_time_and_on_request(server):
    fake = FakeLetta(server)
    fake.runs = [run("running")]
    with pytest.raises(BackendTimeout):
        ask(backend(server), request(**SECOND, resume_ref=RUN, timeout_seconds=0.5))
    begin = time.monotonic()
    chunks = ask(backend(server), request(**SECOND, resume_ref=RUN), stop_after(0.3))
    assert time.monotonic() - begin < 30
    assert chunks[-1] == Finished("cancelled")
    assert server.asked[-1].body == {"run_ids": [RUN]}


def test_a_first_attempt_looks_for_nothing(server):
    fake = FakeLetta(server)
    fake.streams(says("Hello"), STOP, DONE)
    adapter = backend(server)
    ask(adapter)
    before = len(server.asked)
    ask(adapter)
    assert len(server.asked) == before + 1
