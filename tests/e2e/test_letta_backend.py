"""The Letta adapter against a real Letta 0.16.8: the run's own with Redis, and one with a password and without Redis."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agents.backends.base import Backend, ReplyRequest, ServiceSpec, Speaker
from agents.backends.chunks import Chunk, Finished, RunStarted, TextDelta, ToolCall, ToolResult
from agents.backends.errors import (
    AgentGone,
    BackendBusy,
    BackendRateLimited,
    BackendRejected,
    BackendUnavailable,
    ConversationGone,
)
from agents.backends.letta import LettaBackend
from tests.peers.letta import Letta
from tests.peers.model_stub import ModelStub

pytestmark = pytest.mark.e2e

NO_AGENT = "agent-00000000-0000-4000-8000-000000000000"
NO_CONVERSATION = "conv-00000000-0000-4000-8000-000000000000"


@pytest.fixture(scope="module")
def letta_without_redis(model_stub: ModelStub) -> Iterator[Letta]:
    server = Letta(model_stub.base_url, password=secrets.token_hex(12), with_redis=False)
    try:
        yield server.start()
    finally:
        server.stop()


def connect(server: Letta, **options: Any) -> LettaBackend:
    credentials = {"password": server.password} if server.password else {}
    return LettaBackend(ServiceSpec("letta", "letta", server.url, credentials, options))


@pytest.fixture(params=["letta", "letta_without_redis"])
def server(request: pytest.FixtureRequest) -> Letta:
    """Both servers in turn: what must hold with Redis and without."""
    found: Letta = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def agent(server: Letta) -> Iterator[str]:
    made = server.create_agent(include_base_tools=True)["id"]
    yield made
    server.delete_agent(made)


def input_of(agent_id: str, text: str, **fields: Any) -> ReplyRequest:
    fields.setdefault("idempotency_id", f"otid-{secrets.token_hex(8)}")
    fields.setdefault("timeout_seconds", 60.0)
    return ReplyRequest(agent_id, text, Speaker("Bo"), **fields)


def ask(backend: Backend, asked: ReplyRequest, stop: Callable[[], bool] = lambda: False) -> list[Chunk]:
    return list(backend.stream_reply(asked, should_stop=stop))


def text_of(chunks: list[Chunk]) -> str:
    return "".join(chunk.text for chunk in chunks if isinstance(chunk, TextDelta))


def abandon_after_first_word(backend: Backend, asked: ReplyRequest) -> str:
    """Read until the first text and hang up, as a worker that was killed. Returns the run."""
    run = ""
    stream = backend.stream_reply(asked, should_stop=lambda: False)
    for chunk in stream:
        if isinstance(chunk, RunStarted):
            run = chunk.ref
        if isinstance(chunk, TextDelta):
            break
    stream.close()
    return run


def times_asked(model: ModelStub, mark: str) -> int:
    """How often the model was asked with this mark in its newest user message."""
    return sum(mark in entry["text"] for entry in model.ledger(path="/v1/chat/completions"))


def test_all_of_62_agents_over_several_pages(letta):
    letta.delete_all_agents()
    made = {one["id"]: one["name"] for one in letta.create_agents(62, "Listed")}
    listing = connect(letta, page_size=25).list_agents()
    assert listing.complete, listing.proof
    assert {one.external_id: one.name for one in listing.agents} == made
    assert [one.external_id for one in listing.agents] == list(made)
    assert (len(listing.agents), listing.pages) == (62, 3)
    assert connect(letta).list_agents().pages == 1
    letta.delete_all_agents()
    assert connect(letta).list_agents().complete


def test_a_reply_streams_word_by_word(server, agent, model_stub):
    chunks = ask(connect(server), input_of(agent, "one two three four"))
    assert isinstance(chunks[0], RunStarted)
    assert text_of(chunks).strip().endswith("Bo: one two three four")
    assert sum(isinstance(chunk, TextDelta) for chunk in chunks) > 3
    assert chunks[-1].reason == "end"
    assert chunks[-1].output_tokens > 0


def test_the_agent_is_told_who_speaks_in_text_and_by_name(server, agent, model_stub):
    mark = secrets.token_hex(4)
    ask(connect(server), input_of(agent, mark))
    entry = next(one for one in model_stub.ledger() if mark in one.get("text", ""))
    assert entry["text"] == f"Bo: {mark}"
    assert [one for one in entry["messages"] if one["role"] == "user"][-1]["name"] == "Bo"


def test_tools_are_kept_apart_from_the_answer(server, agent):
    chunks = ask(connect(server), input_of(agent, "[tool] please"))
    calls = [chunk for chunk in chunks if isinstance(chunk, ToolCall)]
    results = [chunk for chunk in chunks if isinstance(chunk, ToolResult)]
    assert len(calls) == 1
    assert calls[0].arguments.startswith("{")
    assert [result.id for result in results] == [calls[0].id]
    assert calls[0].name not in text_of(chunks)
    assert "please" in text_of(chunks)


def test_conversations_are_kept_apart(server, agent, model_stub):
    backend = connect(server)
    one = backend.open_conversation(agent, title="One", key="key-1")
    two = backend.open_conversation(agent, title="Two", key="key-2")
    assert one
    assert one != two
    assert backend.open_conversation(agent, title="One, renamed", key="key-1") == one
    secret = f"secret {secrets.token_hex(4)}"
    ask(backend, input_of(agent, secret, conversation_ref=one))
    mark = secrets.token_hex(4)
    ask(backend, input_of(agent, mark, conversation_ref=two))
    entry = next(entry for entry in model_stub.ledger() if mark in entry.get("text", ""))
    assert secret not in str(entry["messages"])
    again = secrets.token_hex(4)
    ask(backend, input_of(agent, again, conversation_ref=one))
    entry = next(entry for entry in model_stub.ledger() if again in entry.get("text", ""))
    assert secret in str(entry["messages"])


@pytest.mark.parametrize("own_conversation", [False, True])
def test_a_repeated_input_is_not_run_twice(server, agent, model_stub, own_conversation):
    backend = connect(server)
    conversation = backend.open_conversation(agent, title="R", key="r") if own_conversation else ""
    mark = secrets.token_hex(4)
    first = input_of(agent, mark, idempotency_id=f"otid-{mark}", conversation_ref=conversation)
    answer = text_of(ask(backend, first))
    second = input_of(agent, mark, idempotency_id=f"otid-{mark}", conversation_ref=conversation, attempt=2)
    assert text_of(ask(connect(server), second)) == answer
    assert times_asked(model_stub, mark) == 1


@pytest.mark.parametrize("own_conversation", [False, True])
def test_a_cut_reply_is_taken_up_by_another_worker(server, agent, model_stub, own_conversation):
    backend = connect(server)
    conversation = backend.open_conversation(agent, title="C", key="c") if own_conversation else ""
    mark = f"[slow 300] {secrets.token_hex(4)} a b c d"
    same = {"idempotency_id": f"otid-{secrets.token_hex(8)}", "conversation_ref": conversation}
    run = abandon_after_first_word(backend, input_of(agent, mark, **same))
    chunks = ask(connect(server), input_of(agent, mark, attempt=2, resume_ref=run, **same))
    assert text_of(chunks).strip().endswith("a b c d")
    assert isinstance(chunks[-1], Finished)
    assert times_asked(model_stub, mark) == 1


def test_a_cut_reply_of_an_unnamed_run_is_not_asked_again(server, agent, model_stub):
    backend = connect(server)
    mark = f"[slow 300] {secrets.token_hex(4)} a b c d"
    same = {"idempotency_id": f"otid-{secrets.token_hex(8)}"}
    abandon_after_first_word(backend, input_of(agent, mark, **same))
    until = time.monotonic() + 90
    while True:
        try:
            chunks = ask(backend, input_of(agent, mark, attempt=2, **same))
            break
        except BackendBusy as busy:  # without Redis nobody can say whose the run is
            assert time.monotonic() < until
            time.sleep(busy.retry_after or 1)
    assert text_of(chunks).strip().endswith("a b c d")
    assert times_asked(model_stub, mark) == 1


def test_a_failed_model_is_asked_again_and_given_the_input_once(server, agent, model_stub):
    backend = connect(server)
    mark = secrets.token_hex(4)
    same = {"idempotency_id": f"otid-{mark}"}
    failing = backend.stream_reply(input_of(agent, f"[error 500] {mark}", **same), should_stop=lambda: False)
    run = next(chunk.ref for chunk in failing if isinstance(chunk, RunStarted))
    with pytest.raises(BackendUnavailable, match="llm_error"):
        list(failing)
    chunks = ask(backend, input_of(agent, f"better {mark}", attempt=2, resume_ref=run, **same))
    assert "better" in text_of(chunks)
    messages = [one for one in model_stub.ledger() if f"better {mark}" in one.get("text", "")][-1]["messages"]
    assert sum(mark in str(one["content"]) for one in messages if one["role"] == "user") == 1


def test_a_rate_limit_of_the_model_is_told_apart(server, agent):
    with pytest.raises(BackendRateLimited):
        ask(connect(server), input_of(agent, "[error 429]"))


def test_a_stop_ends_the_run_on_the_server_too(server, agent, model_stub):
    backend = connect(server)
    begin, mark = time.monotonic(), secrets.token_hex(4)
    chunks = ask(backend, input_of(agent, f"[slow 300] [long 200] {mark}"), lambda: time.monotonic() - begin > 2)
    assert time.monotonic() - begin < 40
    assert chunks[-1] == Finished("cancelled")
    run = next(chunk.ref for chunk in chunks if isinstance(chunk, RunStarted))
    with server.client() as client:
        assert client.get(f"/v1/runs/{run}").json()["status"] == "cancelled"
    backend.cancel(agent, run)
    # Letta lets the call that is under way run to its end, but makes no other.
    assert times_asked(model_stub, mark) == 1


def test_a_second_input_at_the_same_time_is_busy(letta):
    agent = letta.create_agent()["id"]
    backend = connect(letta)
    abandon_after_first_word(backend, input_of(agent, "[slow 300] a b c d e f"))
    with pytest.raises(BackendBusy):
        ask(backend, input_of(agent, "me too"))
    letta.delete_agent(agent)


def test_memory_blocks_are_read_and_written(server, agent, model_stub):
    backend = connect(server)
    assert [block.label for block in backend.read_memory(agent)] == ["human", "persona"]
    value = f"likes {secrets.token_hex(4)}"
    assert backend.write_memory(agent, "human", value).value == value
    assert {block.label: block.value for block in backend.read_memory(agent)}["human"] == value
    mark = secrets.token_hex(4)
    ask(backend, input_of(agent, mark))
    entry = next(one for one in model_stub.ledger() if mark in one.get("text", ""))
    assert value in str(entry["messages"][0])
    with pytest.raises(BackendRejected, match="no memory block"):
        backend.write_memory(agent, "nowhere", "x")


def test_what_is_not_there(server, agent):
    backend = connect(server)
    assert backend.get_agent(NO_AGENT) is None
    assert backend.get_agent("nonsense") is None
    with pytest.raises(AgentGone):
        ask(backend, input_of(NO_AGENT, "x"))
    with pytest.raises(AgentGone):
        backend.open_conversation(NO_AGENT, title="x", key="x")
    with pytest.raises(AgentGone):
        backend.read_memory(NO_AGENT)
    with pytest.raises(ConversationGone):
        ask(backend, input_of(agent, "x", conversation_ref=NO_CONVERSATION))


def test_health_shows_version_and_capabilities(letta, letta_without_redis):
    plain, full = connect(letta_without_redis).health(), connect(letta).health()
    assert (plain.ok, plain.version) == (True, "0.16.8")
    assert plain.capabilities == {"conversations": True, "background": False}
    assert full.capabilities == {"conversations": True, "background": True}


def test_a_wrong_password_shows_and_is_not_repeated(letta_without_redis):
    wrong = "a-wrong-password-4714"
    backend = LettaBackend(ServiceSpec("l", "letta", letta_without_redis.url, {"password": wrong}))
    health = backend.health()
    assert not health.ok
    assert "refused our credentials" in health.detail
    assert wrong not in health.detail
    with pytest.raises(BackendRejected) as caught:
        ask(backend, input_of(NO_AGENT, "x"))
    assert wrong not in caught.value.reason
