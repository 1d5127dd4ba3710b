from __future__ import annotations

import time

import pytest

from agents.backends.base import Speaker
from agents.backends.chunks import Finished, ReasoningDelta, RunStarted, TextDelta, ToolCall, ToolResult, Unrecognised
from agents.backends.errors import (
    AgentGone,
    BackendBroken,
    BackendBusy,
    BackendError,
    BackendNeedsApproval,
    BackendNoCredit,
    BackendRateLimited,
    BackendRejected,
    BackendTimeout,
    BackendUnavailable,
    ConversationGone,
    ProviderRefused,
)

from .asking import StopAtFirstWord, ask, request, stop_after, text_of
from .fake_letta import AGENT, PASSWORD, PING, RUN, STOP, USAGE, FakeLetta, backend, error, message, says
from .server import DONE


def call(arguments: str, name: str | None = None, call_id: str = "c1") -> dict:
    return message("tool_call_message", tool_call={"name": name, "arguments": arguments, "tool_call_id": call_id})


def test_text_tools_and_reasoning_are_kept_apart(server):
    fake = FakeLetta(server)
    back = message(
        "tool_return_message",
        "message-2",
        name="look",
        tool_returns=[{"tool_call_id": "c1", "status": "success", "tool_return": "found"}],
    )
    fake.streams(
        PING,
        message("reasoning_message", reasoning="hm"),
        says("I look. "),
        call("", "look"),
        call('{"a":'),
        call("1}"),
        back,
        says("Hel", "message-3"),
        says("lo", "message-3"),
        STOP,
        USAGE,
        DONE,
    )
    assert ask(backend(server)) == [
        RunStarted(RUN),
        ReasoningDelta("hm"),
        TextDelta("I look. "),
        ToolCall("c1", "look", '{"a":1}'),
        ToolResult("c1", "look", "found"),
        TextDelta("\n\n"),
        TextDelta("Hel"),
        TextDelta("lo"),
        Finished("end", 5, 6),
    ]


def test_what_is_sent(server):
    fake = FakeLetta(server)
    fake.streams(says("x"), STOP, DONE)
    adapter = backend(server, max_steps=7, user_id="user-1")
    ask(adapter, request("Hi", speaker=Speaker("Ann  O'Nym")))
    ask(adapter, request("Hi", speaker=Speaker("Robot", "agent")))
    ask(adapter, request("Hi", speaker=Speaker("Switchboard", "system")))
    person, agent, system = (asked.body for asked in fake.sent())
    assert person == {
        "messages": [{"role": "user", "content": "Ann O'Nym: Hi", "otid": "message-1", "name": "Ann_O_Nym"}],
        "streaming": True,
        "stream_tokens": True,
        "include_pings": True,
        "max_steps": 7,
    }
    assert agent["messages"][0]["content"] == "Robot (agent): Hi"
    assert system["messages"][0]["content"] == "Hi"
    assert fake.sent()[0].headers["user_id"] == "user-1"


def test_send_message_of_older_agents_is_the_answer(server):
    back = message("tool_return_message", tool_call_id="c1", status="success", tool_return="None", name="send_message")
    FakeLetta(server).streams(call('{"mess', "send_message"), call('age": "Hello"}'), back, STOP, DONE)
    assert ask(backend(server))[1:] == [TextDelta("Hello"), Finished("end")]


def test_a_stored_reply_that_was_not_streamed_is_fetched(server):
    fake = FakeLetta(server)
    fake.streams(PING, STOP, DONE)
    fake.messages = [message("user_message", otid="message-1", content="Hello"), says("from the store", "message-2")]
    assert text_of(ask(backend(server))) == "from the store"


@pytest.mark.parametrize(
    ("word", "reason"),
    [("max_steps", "max_steps"), ("requires_approval", "approval"), ("max_tokens_exceeded", "length")],
)
def test_stop_reasons(server, word, reason):
    FakeLetta(server).streams(PING, {"message_type": "stop_reason", "stop_reason": word}, DONE)
    assert ask(backend(server))[-1].reason == reason


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (error("llm_rate_limit"), BackendRateLimited),
        (error("llm_timeout"), BackendTimeout),
        (error("llm_authentication"), ProviderRefused),
        (error("llm_insufficient_credits"), BackendNoCredit),
        (error("llm_rate_limit", "insufficient_quota: you exceeded your current quota"), BackendNoCredit),
        (error("llm_error", f"key {PASSWORD} sk-abcdefghijkl"), BackendUnavailable),
        (error("llm_empty_response"), BackendBroken),
        (error("internal_error"), BackendUnavailable),
        (
            error("internal_error", "Cannot send: The agent is waiting for approval on a tool call."),
            BackendNeedsApproval,
        ),
        (DONE, BackendUnavailable),
    ],
)
def test_a_run_that_fails(server, event, kind):
    FakeLetta(server).streams(PING, {"message_type": "stop_reason", "stop_reason": "llm_api_error"}, event, DONE)
    with pytest.raises(kind) as caught:
        ask(backend(server))
    assert caught.type is kind
    assert PASSWORD not in caught.value.reason
    assert "sk-abc" not in caught.value.reason


@pytest.mark.parametrize(
    "parts",
    [(PING, says("half")), (PING, STOP, DONE), ("data: {nope\n\n",), ("data: 7\n\n",), ("<html>\n\n",)],
    ids=["half", "empty", "garbage", "number", "html"],
)
def test_broken_replies(server, parts):
    FakeLetta(server).streams(*parts)
    with pytest.raises(BackendBroken):
        ask(backend(server))


def test_a_connection_that_breaks_off(server):
    FakeLetta(server).streams(PING, says("half"), cut=True)
    with pytest.raises(BackendBroken):
        ask(backend(server))


@pytest.mark.parametrize(
    ("status", "detail", "kind"),
    [
        (409, "CONFLICT: Another request is currently being processed", BackendBusy),
        (409, {"code": "PENDING_APPROVAL", "message": "wait", "pending_request_id": "m"}, BackendNeedsApproval),
        (429, "slow down", BackendRateLimited),
        (500, "boom", BackendUnavailable),
        (401, f"Unauthorized {PASSWORD}", BackendRejected),
    ],
)
def test_refusals_before_it_begins(server, status, detail, kind):
    FakeLetta(server)
    path = f"/v1/agents/{AGENT}/messages/stream"
    server.on("POST", path, lambda asked: asked.answer({"detail": detail}, status, {"Retry-After": "1"}))
    with pytest.raises(kind) as caught:
        ask(backend(server))
    assert caught.type is kind
    assert PASSWORD not in caught.value.reason
    if kind is BackendBusy:
        assert caught.value.retry_after == 1


def test_gone_agents_and_gone_conversations(server):
    FakeLetta(server)
    with pytest.raises(AgentGone):
        ask(backend(server), request(agent="agent-9"))
    with pytest.raises(ConversationGone):
        ask(backend(server), request(conversation_ref="conv-9"))
    with pytest.raises(AgentGone):
        ask(backend(server), request(agent="agent-9", conversation_ref="conv-9"))


def test_pings_do_not_hide_a_silence(server):
    FakeLetta(server).streams(*([PING, 0.2] * 20))
    with pytest.raises(BackendTimeout):
        ask(backend(server), request(timeout_seconds=0.7))


def test_a_stop_is_passed_on(server):
    FakeLetta(server).streams(PING, says("x"), 60.0)
    begin = time.monotonic()
    chunks = ask(backend(server), stop=StopAtFirstWord())
    assert time.monotonic() - begin < 30
    assert chunks == [RunStarted(RUN), TextDelta("x"), Finished("cancelled")]
    assert server.requests("POST", f"/v1/agents/{AGENT}/messages/cancel")[0].body == {"run_ids": [RUN]}


def test_a_stop_holds_even_when_the_server_will_not_cancel(server):
    FakeLetta(server).streams(PING, 5.0)
    server.on("POST", f"/v1/agents/{AGENT}/messages/cancel", lambda asked: asked.answer({}, 500))
    assert ask(backend(server), stop=stop_after(0.3))[-1] == Finished("cancelled")


def test_cancelling_what_has_ended_is_no_error(server):
    FakeLetta(server)
    path = f"/v1/agents/{AGENT}/messages/cancel"
    server.on("POST", path, lambda asked: asked.answer({"detail": "CONFLICT: No active runs to cancel"}, 409))
    backend(server).cancel(AGENT, RUN)
    backend(server).cancel(AGENT, "", "conv-1")
    assert [asked.path for asked in server.asked if asked.method == "POST"] == [path, "/v1/conversations/conv-1/cancel"]
    server.on("POST", path, lambda asked: asked.answer({}, 500))
    with pytest.raises(BackendError):
        backend(server).cancel(AGENT, RUN)


def test_conversations_are_found_again_by_their_key(server):
    fake = FakeLetta(server)
    assert backend(server).open_conversation(AGENT, title="Room", key="k1") == ""
    held: list[dict] = []

    def make(asked) -> None:
        held.append({"id": f"conv-{len(held) + 1}", "agent_id": AGENT, **asked.body})
        asked.answer(held[-1])

    server.on("GET", "/v1/conversations/", lambda asked: asked.answer(held))
    server.on("POST", "/v1/conversations/", make)
    adapter = backend(server)
    assert adapter.open_conversation(AGENT, title="Room", key="k1") == "conv-1"
    assert adapter.open_conversation(AGENT, title="Room, renamed", key="k1") == "conv-1"
    assert adapter.open_conversation(AGENT, title="Room", key="k2") == "conv-2"
    fake.streams(says("x"), STOP, DONE, path="/v1/conversations/conv-2/messages")
    assert text_of(ask(adapter, request(conversation_ref="conv-2"))) == "x"


def test_with_redis_runs_go_on_in_the_background(server):
    fake = FakeLetta(server)
    fake.has_redis()
    fake.streams(PING, says("x"), STOP, DONE, path="/v1/conversations/default/messages")
    assert text_of(ask(backend(server))) == "x"
    assert fake.sent()[0].body["background"] is True
    assert fake.sent()[0].body["agent_id"] == AGENT


def test_redis_that_went_away_is_no_failure(server):
    fake = FakeLetta(server)
    fake.has_redis()
    fake.streams(says("x"), STOP, DONE)
    detail = {"detail": "Background streaming requires Redis to be running."}
    server.on("POST", "/v1/conversations/default/messages", lambda asked: asked.answer(detail, 503))
    assert text_of(ask(backend(server))) == "x"
    assert "background" not in fake.sent()[-1].body


# Memory

BLOCKS = [
    {"id": "block-1", "label": "human", "value": "Bo", "limit": 10, "read_only": False, "description": "who"},
    {"id": "block-2", "label": "law", "value": "x", "limit": 10, "read_only": True},
    {"id": "block-3", "label": "a/b", "value": "y", "limit": None},
]


def test_memory_is_read_and_written(server):
    FakeLetta(server)
    server.on("GET", f"/v1/agents/{AGENT}/core-memory/blocks", lambda asked: asked.answer(BLOCKS))
    server.on("PATCH", "/v1/*", lambda asked: asked.answer({**BLOCKS[0], **asked.body}))
    adapter = backend(server)
    assert [block.label for block in adapter.read_memory(AGENT)] == ["a/b", "human", "law"]
    assert adapter.write_memory(AGENT, "human", "Cy").value == "Cy"
    adapter.write_memory(AGENT, "a/b", "z")
    written = [asked.path for asked in server.asked if asked.method == "PATCH"]
    assert written == [f"/v1/agents/{AGENT}/core-memory/blocks/human", "/v1/blocks/block-3"]
    for label, value in (("law", "x"), ("nothing", "x"), ("human", "x" * 11)):
        with pytest.raises(BackendRejected):
            adapter.write_memory(AGENT, label, value)
    with pytest.raises(AgentGone):
        adapter.read_memory("agent-9")


def test_a_message_of_an_unknown_type_is_named_once_and_dropped_by_nobody(server):
    news = message("mood_message", mood="sunny", id="m-9")
    FakeLetta(server).streams(PING, news, news, says("hello", "message-1"), STOP, USAGE, DONE)
    chunks = ask(backend(server))
    named = [chunk for chunk in chunks if isinstance(chunk, Unrecognised)]
    assert [chunk.type for chunk in named] == ["mood_message"]
    assert "mood" in named[0].sample
    assert "sunny" not in named[0].sample
    assert text_of(chunks) == "hello"


def test_text_of_an_unknown_type_is_the_answer_when_no_other_comes(server):
    parts = [message("answer_message", content=text, id="m-9") for text in ("The answer ", "is 42.")]
    FakeLetta(server).streams(PING, *parts, STOP, USAGE, DONE)
    assert text_of(ask(backend(server))) == "The answer is 42."


@pytest.mark.parametrize("kind", ["hidden_reasoning_message", "summary_message", "event_message", "system_message"])
def test_known_types_without_words_for_the_person_are_passed_over(server, kind):
    FakeLetta(server).streams(PING, message(kind, content="inner"), says("hello", "message-1"), STOP, USAGE, DONE)
    chunks = ask(backend(server))
    assert text_of(chunks) == "hello"
    assert not [chunk for chunk in chunks if isinstance(chunk, Unrecognised)]
