"""The stand-ins speak their protocols and fail on demand."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from .anthropic_stub import AnthropicStub
from .letta_stub import LettaStub
from .model_stub import ModelStub


def _sse(response: httpx.Response) -> Iterator[dict[str, Any]]:
    for line in response.iter_lines():
        if line.startswith("data: ") and line != "data: [DONE]":
            yield json.loads(line[6:])


def _complete(stub: ModelStub, text: str, **more: Any) -> httpx.Response:
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": text}], **more}
    return httpx.post(f"{stub.base_url}/chat/completions", json=body, timeout=20)


def test_model_stub_answers_streams_and_calls_tools(model_stub: ModelStub) -> None:
    model_stub.clear_ledger()
    whole = _complete(model_stub, "hello").json()
    assert whole["choices"][0]["message"]["content"] == "echo: hello"
    assert whole["usage"]["total_tokens"] == whole["usage"]["prompt_tokens"] + whole["usage"]["completion_tokens"]

    chunks = list(_sse(_complete(model_stub, "[long 7]", stream=True, stream_options={"include_usage": True})))
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks if chunk["choices"])
    assert text == "word1 word2 word3 word4 word5 word6 word7"
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 7

    schema = {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]}
    tool = {"type": "function", "function": {"name": "look", "parameters": schema}}
    chunks = list(_sse(_complete(model_stub, "[tool]", stream=True, tools=[tool])))
    calls = [call for chunk in chunks for call in chunk["choices"][0]["delta"].get("tool_calls", [])]
    assert calls[0]["function"]["name"] == "look"
    assert json.loads("".join(call["function"]["arguments"] for call in calls)) == {"q": "[tool]"}
    assert [entry["text"] for entry in model_stub.ledger()] == ["hello", "[long 7]", "[tool]"]
    vectors = httpx.post(f"{model_stub.base_url}/embeddings", json={"model": "e", "input": ["a", "b"]}).json()["data"]
    assert [len(vector["embedding"]) for vector in vectors] == [1536, 1536]


def test_model_stub_fails_on_demand(model_stub: ModelStub) -> None:
    limited = _complete(model_stub, "[error 429 retry 2]")
    assert (limited.status_code, limited.headers["Retry-After"]) == (429, "2")
    assert _complete(model_stub, "[error 500]").json()["error"]["type"] == "server_error"
    assert _complete(model_stub, "[empty]").json()["choices"][0]["message"]["content"] == ""
    with pytest.raises(json.JSONDecodeError):
        list(_sse(_complete(model_stub, "[garbage]", stream=True)))
    for stream in (True, False):
        with pytest.raises(httpx.RemoteProtocolError):
            _complete(model_stub, "[truncate] one two three", stream=stream)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{model_stub.base_url}/chat/completions",
            json={"messages": [{"role": "user", "content": "[hang]"}]},
            timeout=0.3,
        )


def test_anthropic_stub_streams_and_fails(anthropic_stub: AnthropicStub) -> None:
    headers = {"anthropic-version": "2023-06-01", "x-api-key": "any"}

    def ask(text: str, **more: Any) -> httpx.Response:
        body = {"model": "claude-haiku-4-5", "max_tokens": 100, "messages": [{"role": "user", "content": text}], **more}
        return httpx.post(f"{anthropic_stub.url}/v1/messages", headers=headers, json=body, timeout=20)

    events = list(_sse(ask("hi [think]", stream=True)))
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    assert "".join(delta.get("text", "") for delta in deltas) == "echo: hi [think]"
    assert "".join(delta.get("thinking", "") for delta in deltas).startswith("The person wants")
    assert [event["type"] for event in (events[0], *events[-2:])] == ["message_start", "message_delta", "message_stop"]

    tool = {"name": "look", "input_schema": {"type": "object", "required": ["q"]}}
    events = list(_sse(ask("[tool]", stream=True, tools=[tool])))
    pieces = [event["delta"]["partial_json"] for event in events if event["type"] == "content_block_delta"]
    assert json.loads("".join(pieces)) == {"q": "[tool]"}
    overloaded = ask("[error 529]")
    assert (overloaded.status_code, overloaded.json()["error"]["type"]) == (529, "overloaded_error")
    assert ask("[error 429 retry 3]").headers["Retry-After"] == "3"
    assert next(event for event in _sse(ask("[error 529 after 1] x", stream=True)) if event["type"] == "error")
    with pytest.raises(httpx.RemoteProtocolError):
        ask("[truncate] one two three", stream=True)


def _pages(stub: LettaStub, limit: int = 50, most: int = 6) -> list[list[str]]:
    pages: list[list[str]] = []
    after: dict[str, str] = {}
    while len(pages) < most:
        answer = httpx.get(f"{stub.url}/v1/agents/", params={"limit": limit, **after})
        pages.append([agent["id"] for agent in answer.raise_for_status().json()])
        if len(pages[-1]) < limit:
            break
        after = {"after": pages[-1][-1]}
    return pages


def test_letta_stub_pages_like_letta(letta_stub: LettaStub) -> None:
    letta_stub.control(agents=120)
    newest_first = letta_stub.agent_ids()[::-1]
    assert [one for page in _pages(letta_stub) for one in page] == newest_first
    assert [len(page) for page in _pages(letta_stub)] == [50, 50, 20]
    assert httpx.get(f"{letta_stub.url}/v1/agents/count").json() == 120
    unknown = {"after": "agent-ffffffff-0000-4000-8000-000000000000"}
    assert [agent["id"] for agent in httpx.get(f"{letta_stub.url}/v1/agents/", params=unknown).json()] == newest_first[
        :50
    ]


def test_letta_stub_spoils_its_list(letta_stub: LettaStub) -> None:
    letta_stub.control(agents=120, half_list=True, wrong_count=-7)
    assert sum(len(page) for page in _pages(letta_stub)) == 60
    assert httpx.get(f"{letta_stub.url}/v1/agents/count").json() == 113
    letta_stub.control(reset=True, repeat_page=1)
    first, second, *_ = _pages(letta_stub)
    assert first == second
    letta_stub.control(reset=True, fail_page=2)
    with pytest.raises(httpx.HTTPStatusError):
        _pages(letta_stub)
    with pytest.raises(ValueError, match="no_such_fault"):
        letta_stub.control(no_such_fault=1)
    gone = letta_stub.agent_ids()[3]
    letta_stub.control(reset=True, delete=[gone])
    assert gone not in letta_stub.agent_ids()
    letta_stub.control(restore=[gone])
    assert letta_stub.agent_ids()[3] == gone


def _send(stub: LettaStub, path: str, text: str, otid: str, **more: Any) -> httpx.Response:
    body = {"messages": [{"role": "user", "content": text, "otid": otid}], "stream_tokens": True, **more}
    return httpx.post(f"{stub.url}{path}", json=body, timeout=20)


def _said(response: httpx.Response) -> str:
    return "".join(event.get("content", "") for event in _sse(response) if event["message_type"] == "assistant_message")


def test_letta_stub_counts_inputs_and_honours_repeats_as_letta_does(letta_stub: LettaStub) -> None:
    agent = letta_stub.agent_ids()[0]
    answer = httpx.post(f"{letta_stub.url}/v1/conversations/", params={"agent_id": agent}, json={"summary": "a"})
    path = f"/v1/conversations/{answer.json()['id']}/messages"
    for _ in range(2):
        assert _said(_send(letta_stub, path, "once", "o-1", background=True)) == "echo: once"
    assert _said(_send(letta_stub, path, "twice", "o-2")) == "echo: twice"
    assert _said(_send(letta_stub, path, "twice", "o-2")) == "echo: twice"
    seen = [(entry["otid"], entry["accepted"], entry["repeat"], entry["honoured"]) for entry in letta_stub.ledger()]
    assert seen == [
        ("o-1", True, False, False),
        ("o-1", False, True, True),
        ("o-2", True, False, False),
        ("o-2", True, True, False),
    ]
    history = httpx.get(f"{letta_stub.url}{path}").json()
    assert [item["otid"] for item in history if item["message_type"] == "user_message"] == ["o-2", "o-2", "o-1"]
    letta_stub.kill9()
    letta_stub.restart()
    assert [entry["otid"] for entry in letta_stub.accepted()] == ["o-1", "o-2", "o-2"]


def test_letta_stub_refuses_and_spoils_messages(letta_stub: LettaStub) -> None:
    path = f"/v1/agents/{letta_stub.agent_ids()[0]}/messages/stream"
    letta_stub.control(busy=1, rate_limit=1, errors=1, retry_after="3")
    statuses = [_send(letta_stub, path, "hi", "f").status_code for _ in range(4)]
    assert statuses == [429, 500, 409, 200]
    assert [entry["accepted"] for entry in letta_stub.ledger()] == [False, False, False, True]
    letta_stub.control(truncate=1, lost_answers=1)
    for otid in ("lost", "cut"):
        with pytest.raises(httpx.RemoteProtocolError):
            _send(letta_stub, path, "one two three four", otid)
    letta_stub.control(empty=1)
    assert _said(_send(letta_stub, path, "hi", "empty")) == ""
    assert [entry["otid"] for entry in letta_stub.accepted()] == ["f", "lost", "cut", "empty"]


def test_letta_stub_locks_and_cancels_a_conversation(letta_stub: LettaStub) -> None:
    agent = letta_stub.agent_ids()[0]
    answer = httpx.post(f"{letta_stub.url}/v1/conversations/", params={"agent_id": agent}, json={})
    place = f"/v1/conversations/{answer.json()['id']}"
    letta_stub.control(tokens_per_second=20)
    answers: list[httpx.Response] = []
    slow = threading.Thread(target=lambda: answers.append(_send(letta_stub, f"{place}/messages", "[long 100]", "s")))
    slow.start()
    limit = time.monotonic() + 90
    while not letta_stub.ledger(otid="s") and time.monotonic() < limit:
        time.sleep(0.02)
    refused = _send(letta_stub, f"{place}/messages", "second", "t")
    run = letta_stub.ledger(otid="s")[0]["run"]
    assert (refused.status_code, refused.json()["run_id"]) == (409, run)
    assert httpx.post(f"{letta_stub.url}{place}/cancel").json() == {run: "cancelled"}
    slow.join(60)
    assert list(_sse(answers[0]))[-1] == {"message_type": "stop_reason", "stop_reason": "cancelled"}
