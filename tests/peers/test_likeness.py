"""The stand-in for Letta sends what the real Letta sends: the same events, with the same fields, in the same order."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from .letta import Letta
from .letta_stub import LettaStub

pytestmark = pytest.mark.e2e

_UNKNOWN = "00000000-0000-4000-8000-000000000000"


# What a tool wrote while it ran is the tool's own matter: a list of lines, or nothing.
_WRITTEN = frozenset({"stdout", "stderr"})


def _shape(value: Any) -> Any:
    """A value without its contents: field names in order, and the shapes of nested objects."""
    if isinstance(value, dict):
        return {name: "lines or nothing" if name in _WRITTEN else _shape(inner) for name, inner in value.items()}
    return [_shape(value[0])] if isinstance(value, list) and value else type(value).__name__


class _Server:
    """One of the two, with an agent and a conversation."""

    def __init__(self, client: httpx.Client, agent: str) -> None:
        self.client, self.agent = client, agent
        answer = client.post("/v1/conversations/", params={"agent_id": agent}, json={"summary": "likeness"})
        self.opened = _shape(answer.json())
        self.conversation: str = answer.json()["id"]

    def events(self, text: str, otid: str, **more: Any) -> list[tuple[str, str]]:
        """The kinds and shapes of a stream's events; repetitions of one kind count once."""
        body = {"messages": [{"role": "user", "content": text, "otid": otid}], "stream_tokens": True, **more}
        path = f"/v1/conversations/{self.conversation}/messages"
        with self.client.stream("POST", path, json=body) as answer:
            assert answer.status_code == 200
            return [key for key, _ in itertools.groupby(self._kinds(answer.iter_lines()))]

    @staticmethod
    def _kinds(lines: Iterator[str]) -> Iterator[tuple[str, str]]:
        for line in filter(None, lines):
            if line.startswith("data: {"):
                data = json.loads(line[6:])
                yield data["message_type"], json.dumps(_shape(data))
            else:
                yield "line", line

    def answers(self) -> dict[str, Any]:
        """Statuses and shapes of what is not a stream."""
        get, post = self.client.get, self.client.post
        history = get(f"/v1/conversations/{self.conversation}/messages").json()
        direct = get(f"/v1/agents/{self.agent}/messages", params={"conversation_id": "default"}).json()
        kinds = [item["message_type"] for item in history if item["message_type"] != "system_message"]
        return {
            "opened": self.opened,
            "history": kinds,
            "said": [_shape(item) for item in history if item["message_type"] in ("user_message", "assistant_message")],
            "direct": [item["message_type"] for item in direct if item["message_type"] != "system_message"],
            "unknown agent": (
                get(f"/v1/agents/agent-{_UNKNOWN}").status_code,
                get(f"/v1/agents/agent-{_UNKNOWN}").json(),
            ),
            "no agent id": get("/v1/agents/nobody").status_code,
            "unknown conversation": get(f"/v1/conversations/conv-{_UNKNOWN}").status_code,
            "blocks": sorted(item["label"] for item in get(f"/v1/agents/{self.agent}/core-memory/blocks").json()),
            "unknown block": get(f"/v1/agents/{self.agent}/core-memory/blocks/nope").status_code,
            "nothing to cancel": post(f"/v1/conversations/{self.conversation}/cancel").status_code,
            "without slash": get("/v1/agents", follow_redirects=False).status_code,
            "empty": post(f"/v1/conversations/{self.conversation}/messages", json={"messages": []}).status_code,
            "health": get("/v1/health/").json(),
            "whole": _shape(post(f"/v1/agents/{self.agent}/messages", json={"input": "whole"}).json()["messages"]),
            "rate limit": post(f"/v1/agents/{self.agent}/messages", json={"input": "[error 429 retry 1]"}).status_code,
        }


def test_the_stand_in_is_like_letta(letta: Letta, letta_stub: LettaStub) -> None:
    agent = letta.create_agent("Likeness", include_base_tools=True)["id"]
    with letta.client() as real_client, httpx.Client(base_url=letta_stub.url, timeout=20) as stub_client:
        real, stub = _Server(real_client, agent), _Server(stub_client, letta_stub.agent_ids()[0])
        for number, (text, more) in enumerate(
            (
                ("hello there", {}),
                ("hello again", {"stream_tokens": False}),
                ("[tool] look", {}),
                ("in the background", {"background": True}),
                ("in the background", {"background": True}),
                ("[empty]", {}),
                ("[error 500]", {}),
            )
        ):
            otid = f"{min(number, 3) if number == 4 else number:08d}-0000-4000-8000-000000000000"
            assert stub.events(text, otid, **more) == real.events(text, otid, **more), (number, text)
        assert stub.answers() == real.answers()
    letta.delete_agent(agent)
