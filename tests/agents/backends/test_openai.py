from __future__ import annotations

import time

import pytest

from agents.backends.base import HistoryItem, ServiceSpec, Speaker
from agents.backends.chunks import Finished, ReasoningDelta, RunStarted, TextDelta, ToolCall
from agents.backends.errors import (
    AgentGone,
    BackendBroken,
    BackendBusy,
    BackendRateLimited,
    BackendRejected,
    BackendTimeout,
    BackendUnavailable,
)
from agents.backends.history import bounded, name_field
from agents.backends.openai import OpenAIBackend

from .asking import StopAtFirstWord, ask, request, text_of
from .server import DONE, ScriptedServer

KEY = "not-a-key-shape-4711"
CHAT = "/v1/chat/completions"


def connect(server: ScriptedServer, path: str = "", **options) -> OpenAIBackend:
    return OpenAIBackend(ServiceSpec("o", "openai", server.url + path, {"api_key": KEY}, options))


def models(server: ScriptedServer, *rows: dict | str, path: str = "/v1/models") -> None:
    data = [row if isinstance(row, dict) else {"id": row, "object": "model"} for row in rows]
    server.on("GET", path, lambda asked: asked.answer({"object": "list", "data": data}))


def chunk(finish: str | None = None, **delta) -> dict:
    return {"id": "chatcmpl-1", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def chats(server: ScriptedServer, *parts, cut: bool = False) -> None:
    server.on("POST", CHAT, lambda asked: asked.stream(*parts, cut=cut))


# Who lives there


def test_language_models_become_agents(server):
    models(server, "gpt-4o", "text-embedding-3")
    listing = connect(server).list_agents()
    assert listing.complete
    assert [agent.external_id for agent in listing.agents] == ["gpt-4o", "text-embedding-3"]
    assert {agent.metadata["lists"] for agent in listing.agents} == {"language models"}
    assert server.asked[0].headers["Authorization"] == f"Bearer {KEY}"


def test_an_allow_list_narrows_models_and_names_what_matches_nothing(server):
    models(server, "gpt-4o", "gpt-4o-mini", "dall-e")
    listing = connect(server, models=["gpt-*", "o9"]).list_agents()
    assert [agent.external_id for agent in listing.agents] == ["gpt-4o", "gpt-4o-mini"]
    assert "nothing matches o9" in listing.proof
    assert [agent.external_id for agent in connect(server, models="dall-e").list_agents().agents] == ["dall-e"]


def test_the_agents_proxy_is_told_apart(server):
    models(server, {"id": "agent-7659b796", "name": "Huly"}, {"id": "agent-1"})
    listing = connect(server, models=["gpt-*"]).list_agents()
    assert [(agent.external_id, agent.name) for agent in listing.agents] == [
        ("agent-7659b796", "Huly"),
        ("agent-1", "agent-1"),
    ]
    assert {agent.metadata["lists"] for agent in listing.agents} == {"agents"}
    assert {agent.model for agent in listing.agents} == {""}


def test_an_app_servers_agents_are_agents_whatever_their_names(server):
    models(server, {"id": "probe", "object": "model", "owned_by": "letta"})
    assert connect(server).list_agents().agents[0].metadata["lists"] == "agents"


def test_a_bare_array_points_to_the_letta_kind(server):
    server.on("GET", "/v1/models", lambda asked: asked.answer([{"handle": "openai/gpt-4o"}]))
    backend = connect(server)
    with pytest.raises(BackendRejected, match="kind 'letta'"):
        backend.list_agents()
    assert not backend.health().ok
    assert "kind 'letta'" in backend.health().detail


def test_a_name_given_twice_makes_the_list_incomplete(server):
    models(server, "a", "a")
    listing = connect(server).list_agents()
    assert not listing.complete
    assert "twice" in listing.proof


@pytest.mark.parametrize("body", [{"data": None}, {"data": [{"name": "x"}]}, {"models": []}, 7])
def test_another_shape_is_broken(server, body):
    server.on("GET", "/v1/models", lambda asked: asked.answer(body))
    with pytest.raises(BackendBroken):
        connect(server).list_agents()


@pytest.mark.parametrize(("base", "path"), [("", "/v1/models"), ("/v1", "/v1/models"), ("/api/v1/", "/api/v1/models")])
def test_the_address_may_hold_the_version(server, base, path):
    models(server, "m", path=path)
    assert connect(server, base).get_agent("m").name == "m"
    assert connect(server, base).get_agent("n") is None


def test_health_and_a_wrong_key(server):
    models(server, "m")
    assert connect(server).health().capabilities == {"lists": "language models", "count": 1}
    server.on("GET", "/v1/models", lambda asked: asked.answer({"error": {"message": f"Bad key {KEY}"}}, 401))
    health = connect(server).health()
    assert not health.ok
    assert "refused our credentials" in health.detail
    assert KEY not in health.detail


# Talking


def test_text_reasoning_tools_and_usage(server):
    call = {"index": 0, "id": "c1", "function": {"name": "look", "arguments": ""}}
    chats(
        server,
        ": processing\n\n",
        chunk(role="assistant", content=""),
        chunk(reasoning_content="hm "),
        chunk(reasoning="well"),
        chunk(content="Hel"),
        chunk(content="lo"),
        chunk(tool_calls=[call]),
        chunk(tool_calls=[{"index": 0, "function": {"arguments": '{"a":'}}]),
        chunk(tool_calls=[{"index": 0, "function": {"arguments": "1}"}}]),
        chunk("stop"),
        {"id": "chatcmpl-1", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}},
        DONE,
    )
    assert ask(connect(server), request(agent="gpt")) == [
        RunStarted("chatcmpl-1"),
        ReasoningDelta("hm "),
        ReasoningDelta("well"),
        TextDelta("Hel"),
        TextDelta("lo"),
        ToolCall("c1", "look", '{"a":1}'),
        Finished("end", 3, 2),
    ]
    asked = server.requests("POST", CHAT)[0]
    assert asked.body["model"] == "gpt"
    assert asked.body["stream_options"] == {"include_usage": True}
    assert asked.headers["Idempotency-Key"] == "message-1"


def test_one_speaker_needs_no_label_and_several_do(server):
    chats(server, chunk("stop", content="ok"), DONE)
    backend = connect(server, system_prompt="Be kind.")
    history = [HistoryItem("user", "one", "Bo"), HistoryItem("assistant", "two", "GPT")]
    ask(backend, request("three", history=history))
    ask(backend, request("three", history=history, speaker=Speaker("Ann O'Nym")))
    ask(backend, request("three", speaker=Speaker("Robot", "agent")))
    alone, several, agent = (asked.body["messages"] for asked in server.requests("POST", CHAT))
    assert alone == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "three"},
    ]
    assert several[1] == {"role": "user", "content": "Bo: one", "name": "Bo"}
    assert several[3] == {"role": "user", "content": "Ann O'Nym: three", "name": "Ann_O_Nym"}
    assert agent[1]["content"] == "Robot: three"


def test_history_is_bounded_and_begins_with_a_person():
    history = [HistoryItem("user" if n % 2 == 0 else "assistant", f"message {n}") for n in range(10)]
    assert [item.text for item in bounded(history, 4, 1000)] == ["message 6", "message 7", "message 8", "message 9"]
    assert [item.text for item in bounded(history, 3, 1000)] == ["message 8", "message 9"]
    assert [item.text for item in bounded(history, 10, 25)] == ["message 8", "message 9"]
    assert bounded(history, 0, 1000) == []
    assert name_field("Zoë <x>/1") == "Zo_x_1"
    assert name_field("你好") == ""


@pytest.mark.parametrize(("finish", "reason"), [("stop", "end"), ("length", "length"), ("odd", "odd")])
def test_finish_reasons(server, finish, reason):
    chats(server, chunk(content="x"), chunk(finish), DONE)
    assert ask(connect(server))[-1].reason == reason


def test_a_finish_reason_is_an_end_marker_too(server):
    chats(server, chunk(content="x"), chunk("stop"))
    assert ask(connect(server))[-1] == Finished("end")


def test_half_a_stream_in_both_ways(server):
    for cut in (False, True):
        chats(server, chunk(content="half"), cut=cut)
        with pytest.raises(BackendBroken):
            ask(connect(server))


def test_an_empty_reply(server):
    chats(server, chunk(role="assistant", content=""), chunk("stop", content=" "), DONE)
    with pytest.raises(BackendBroken, match="empty reply"):
        ask(connect(server))


@pytest.mark.parametrize("garbage", ["data: {not json\n\n", "data: 7\n\n", "<html>\n\n"])
def test_garbage(server, garbage):
    chats(server, chunk(content="x"), garbage, DONE)
    with pytest.raises(BackendBroken):
        ask(connect(server))


def test_the_content_filter(server):
    chats(server, chunk("content_filter"), DONE)
    with pytest.raises(BackendRejected, match="content filter"):
        ask(connect(server))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"message": "slow down", "type": "rate_limit_exceeded"}, BackendRateLimited),
        ({"message": "boom", "type": "server_error", "code": 500}, BackendUnavailable),
        ({"message": "no", "code": 400}, BackendRejected),
        ("just words", BackendUnavailable),
    ],
)
def test_a_failure_on_the_way(server, error, kind):
    chats(server, chunk(content="x"), {"error": error})
    with pytest.raises(kind) as caught:
        ask(connect(server))
    assert caught.type is kind


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, BackendRejected), (409, BackendBusy), (429, BackendRateLimited), (500, BackendUnavailable)],
)
def test_a_failure_before_it_begins(server, status, kind):
    said = {"error": {"message": f"no {KEY}", "type": "x"}}
    server.on("POST", CHAT, lambda asked: asked.answer(said, status, {"Retry-After": "3"}))
    with pytest.raises(kind) as caught:
        ask(connect(server))
    assert caught.type is kind
    assert caught.value.retry_after == 3
    assert KEY not in str(caught.value)


def test_an_unknown_model_is_gone(server):
    models(server, "other")
    server.on("POST", CHAT, lambda asked: asked.answer({"error": {"code": "model_not_found"}}, 404))
    with pytest.raises(AgentGone):
        ask(connect(server), request(agent="gpt-9"))
    with pytest.raises(BackendRejected) as caught:
        ask(connect(server), request(agent="other"))
    assert caught.type is BackendRejected


def test_a_timeout_and_a_stop(server):
    chats(server, chunk(content="x"), 60.0)
    with pytest.raises(BackendTimeout):
        ask(connect(server), request(timeout_seconds=0.4))
    begin = time.monotonic()
    chunks = ask(connect(server), stop=StopAtFirstWord())
    assert time.monotonic() - begin < 30
    assert text_of(chunks) == "x"
    assert chunks[-1] == Finished("cancelled")


def test_it_has_no_memory_and_no_conversations(server):
    backend = connect(server)
    assert list(backend.read_memory("x")) == []
    assert backend.open_conversation("x", title="t", key="k") == ""
    with pytest.raises(BackendRejected):
        backend.write_memory("x", "a", "b")
