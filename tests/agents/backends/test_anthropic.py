from __future__ import annotations

import json
import time

import pytest

from agents.backends.anthropic import AnthropicBackend
from agents.backends.base import HistoryItem, ServiceSpec, Speaker
from agents.backends.chunks import Finished, ReasoningDelta, RunStarted, TextDelta, ToolCall
from agents.backends.errors import (
    AgentGone,
    BackendBroken,
    BackendRateLimited,
    BackendRejected,
    BackendTimeout,
    BackendUnavailable,
)

from .asking import StopAtFirstWord, ask, request
from .server import ScriptedServer

KEY = "not-a-key-shape-4712"
AGENTS = [
    {"id": "a1", "name": "Poet", "description": "Rhymes", "system_prompt": "Rhyme.", "model": "claude-x"},
    {"id": "a2"},
]


def connect(server: ScriptedServer, **options) -> AnthropicBackend:
    options.setdefault("agents", AGENTS)
    return AnthropicBackend(ServiceSpec("a", "anthropic", server.url, {"api_key": KEY}, options))


def event(kind: str, **data) -> str:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n"


def delta(index: int = 0, **data) -> str:
    return event("content_block_delta", index=index, delta=data)


def text(words: str) -> str:
    return delta(type="text_delta", text=words)


START = event("message_start", message={"id": "msg_1", "usage": {"input_tokens": 5, "cache_read_input_tokens": 2}})
END = event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 9}) + event("message_stop")


def says(server: ScriptedServer, *parts, cut: bool = False) -> None:
    server.on("POST", "/v1/messages", lambda asked: asked.stream(*parts, cut=cut))


def test_its_agents_are_defined_here(server):
    listing = connect(server, model="claude-default").list_agents()
    assert listing.complete
    assert [(one.external_id, one.name, one.model) for one in listing.agents] == [
        ("a1", "Poet", "claude-x"),
        ("a2", "a2", "claude-default"),
    ]
    assert connect(server).get_agent("a1").description == "Rhymes"
    assert connect(server).get_agent("a3") is None
    assert not connect(server, agents=[{"id": "a"}, {"id": "a"}]).list_agents().complete
    assert connect(server, agents=[]).list_agents().complete
    with pytest.raises(BackendRejected, match="agents"):
        connect(server, agents=[{"name": "no id"}]).list_agents()


def test_text_thinking_tools_and_usage(server):
    says(
        server,
        START,
        event("ping"),
        event("content_block_start", index=0, content_block={"type": "thinking"}),
        delta(type="thinking_delta", thinking="hm"),
        delta(type="signature_delta", signature="xyz"),
        event("content_block_stop", index=0),
        text("Hel"),
        text("lo"),
        event("content_block_start", index=2, content_block={"type": "tool_use", "id": "t1", "name": "look"}),
        delta(2, type="input_json_delta", partial_json='{"a":'),
        delta(2, type="input_json_delta", partial_json="1}"),
        event("content_block_stop", index=2),
        END,
    )
    assert ask(connect(server), request(agent="a1")) == [
        RunStarted("msg_1"),
        ReasoningDelta("hm"),
        TextDelta("Hel"),
        TextDelta("lo"),
        ToolCall("t1", "look", '{"a":1}'),
        Finished("end", 7, 9),
    ]
    asked = server.asked[-1]
    assert asked.headers["x-api-key"] == KEY
    assert asked.headers["anthropic-version"] == "2023-06-01"
    assert (asked.body["model"], asked.body["system"], asked.body["max_tokens"]) == ("claude-x", "Rhyme.", 4096)


def test_roles_alternate_and_speakers_are_named(server):
    says(server, START, text("x"), END)
    history = [
        HistoryItem("assistant", "too early"),
        HistoryItem("user", "one", "Bo"),
        HistoryItem("user", "two", "Ann"),
        HistoryItem("assistant", "three "),
        HistoryItem("user", "four", "Ann"),
    ]
    ask(connect(server), request("five", "a1", history=history, speaker=Speaker("Bo", id="@bo:example.org")))
    body = server.asked[-1].body
    assert body["messages"] == [
        {"role": "user", "content": "Bo: one\n\nAnn: two"},
        {"role": "assistant", "content": "three"},
        {"role": "user", "content": "Ann: four\n\nBo: five"},
    ]
    assert "bo" not in body["metadata"]["user_id"]


def test_the_definition_of_the_request_wins(server):
    says(server, START, text("x"), END)
    definition = {"system_prompt": "Now.", "model": "claude-y", "max_tokens": 10, "thinking_tokens": 2000}
    ask(connect(server), request(agent="unlisted", definition=definition))
    body = server.asked[-1].body
    assert (body["model"], body["system"], body["max_tokens"]) == ("claude-y", "Now.", 2010)
    assert body["thinking"] == {"type": "enabled", "budget_tokens": 2000}
    with pytest.raises(AgentGone):
        ask(connect(server), request(agent="unlisted"))


@pytest.mark.parametrize(
    ("stop", "reason"), [("end_turn", "end"), ("max_tokens", "length"), ("pause_turn", "pause_turn")]
)
def test_stop_reasons(server, stop, reason):
    says(server, START, text("x"), event("message_delta", delta={"stop_reason": stop}), event("message_stop"))
    assert ask(connect(server), request(agent="a1"))[-1].reason == reason


def test_a_refusal_is_said_plainly(server):
    says(server, START, event("message_delta", delta={"stop_reason": "refusal"}), event("message_stop"))
    with pytest.raises(BackendRejected) as caught:
        ask(connect(server), request(agent="a1"))
    assert "declined" in caught.value.public


@pytest.mark.parametrize(
    "parts",
    [
        (START, text("half")),
        (START, END),
        (START, "data: {nope\n\n"),
        (START, 'data: {"a": 1}\n\n'),
        ("<html>\n\n",),
    ],
    ids=["half", "empty", "garbage", "no type", "html"],
)
def test_broken_replies(server, parts):
    says(server, *parts)
    with pytest.raises(BackendBroken):
        ask(connect(server), request(agent="a1"))


def test_a_connection_that_breaks_off(server):
    says(server, START, text("half"), cut=True)
    with pytest.raises(BackendBroken):
        ask(connect(server), request(agent="a1"))


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("overloaded_error", BackendUnavailable),
        ("rate_limit_error", BackendRateLimited),
        ("invalid_request_error", BackendRejected),
        ("new_error", BackendUnavailable),
    ],
)
def test_errors_on_the_way(server, kind, error):
    says(server, START, event("error", error={"type": kind, "message": f"no {KEY}"}))
    with pytest.raises(error) as caught:
        ask(connect(server), request(agent="a1"))
    assert caught.type is error
    assert kind in caught.value.reason
    assert KEY not in caught.value.reason


@pytest.mark.parametrize(
    ("status", "error"),
    [(401, BackendRejected), (429, BackendRateLimited), (500, BackendUnavailable), (529, BackendUnavailable)],
)
def test_errors_before_it_begins(server, status, error):
    said = {"type": "error", "error": {"type": "x", "message": f"no {KEY}"}}
    server.on("POST", "/v1/messages", lambda asked: asked.answer(said, status, {"retry-after": "11"}))
    with pytest.raises(error) as caught:
        ask(connect(server), request(agent="a1"))
    assert caught.type is error
    assert caught.value.retry_after == 11
    assert KEY not in caught.value.reason


def test_a_timeout_and_a_stop(server):
    says(server, START, text("x"), *([event("ping"), 0.2] * 300))
    with pytest.raises(BackendTimeout):
        ask(connect(server), request(agent="a1", timeout_seconds=0.6))
    begin = time.monotonic()
    assert ask(connect(server), request(agent="a1"), StopAtFirstWord())[-1] == Finished("cancelled", 7)
    assert time.monotonic() - begin < 30


def test_health(server):
    server.on("GET", "/v1/models", lambda asked: asked.answer({"data": []}))
    health = connect(server).health()
    assert health.ok
    assert "does not list the model" in health.detail
    server.on("GET", "/v1/models/*", lambda asked: asked.answer({"id": "m"}))
    assert "does not list" not in connect(server).health().detail
    server.on("GET", "/v1/models", lambda asked: asked.answer({"error": {"message": f"no {KEY}"}}, 401))
    health = connect(server).health()
    assert not health.ok
    assert KEY not in health.detail


def test_without_an_address_it_is_anthropics_own():
    backend = AnthropicBackend(ServiceSpec("a", "anthropic", "", {"api_key": KEY}))
    assert backend.server.address == "https://api.anthropic.com"
    backend.close()
