"""A Letta V1 server small enough to be bent into every shape that a test needs."""

from __future__ import annotations

import json
from typing import Any

from agents.backends.base import ServiceSpec
from agents.backends.letta import LettaBackend

from .server import Asked, ScriptedServer

PASSWORD = "letta-password-4713"
AGENT = "agent-1"
RUN = "run-1"


def backend(server: ScriptedServer, **options: Any) -> LettaBackend:
    return LettaBackend(ServiceSpec("l", "letta", server.url, {"password": PASSWORD}, options))


def message(kind: str, message_id: str = "message-1", **fields: Any) -> dict[str, Any]:
    return {"id": message_id, "message_type": kind, "run_id": RUN, "date": "2026-01-01T00:00:00+00:00", **fields}


PING = message("ping", "ping-1")
STOP = {"message_type": "stop_reason", "stop_reason": "end_turn"}
USAGE = {"message_type": "usage_statistics", "prompt_tokens": 5, "completion_tokens": 6}


def says(text: str, message_id: str = "message-1") -> dict[str, Any]:
    return message("assistant_message", message_id, content=text)


def error(kind: str, words: str = "no", detail: str = "") -> str:
    body = {"message_type": "error_message", "run_id": RUN, "error_type": kind, "message": words, "detail": detail}
    return f"event: error\ndata: {json.dumps(body)}\n\n"


class FakeLetta:
    """Agents with pages and a count, no conversations, no Redis, unless a test says otherwise."""

    def __init__(self, server: ScriptedServer, agents: int = 1) -> None:
        self.server = server
        self.ids = [f"agent-{number}" for number in range(1, agents + 1)]
        self.count: int | None = None
        self.runs: list[dict[str, Any]] = []
        self.messages: list[dict[str, Any]] = []
        server.on("GET", "/v1/health/", lambda asked: asked.answer({"version": "0.16.8", "status": "ok"}))
        server.on("GET", "/v1/agents/*", self._agent)
        server.on("GET", "/v1/agents/", self._page)
        server.on("GET", "/v1/agents/count", self._count)
        server.on("GET", f"/v1/agents/{AGENT}/messages", lambda asked: asked.answer(self.messages))
        server.on("GET", "/v1/runs/*", self._run)
        server.on("GET", "/v1/runs/", lambda asked: asked.answer(self.runs))
        server.on("GET", f"/v1/runs/{RUN}/messages", lambda asked: asked.answer(self.messages))
        server.on("POST", f"/v1/agents/{AGENT}/messages/cancel", lambda asked: asked.answer({RUN: "cancelled"}))

    def streams(self, *parts: Any, cut: bool = False, path: str = f"/v1/agents/{AGENT}/messages/stream") -> None:
        self.server.on("POST", path, lambda asked: asked.stream(*parts, cut=cut))

    def sent(self) -> list[Asked]:
        return [one for one in self.server.asked if one.method == "POST" and "messages" in (one.body or {})]

    def has_redis(self) -> None:
        """Conversations and background runs, as 0.16.8 with Redis shows them."""
        self.server.on("GET", "/v1/conversations/", lambda asked: asked.answer([]))
        self.server.on(
            "POST",
            "/v1/conversations/default/stream",
            lambda asked: asked.answer({"detail": f"Run {asked.body['run_id']} not found"}, 404),
        )

    def _page(self, asked: Asked) -> None:
        start = self.ids.index(asked.query["after"]) + 1 if asked.query.get("after") in self.ids else 0
        asked.answer([state(one) for one in self.ids[start : start + int(asked.query["limit"])]])

    def _count(self, asked: Asked) -> None:
        asked.answer(len(self.ids) if self.count is None else self.count)

    def _agent(self, asked: Asked) -> None:
        agent_id = asked.path.split("/")[3]
        known = agent_id in self.ids and len(asked.path.split("/")) == 4
        asked.answer(state(agent_id) if known else {"detail": "Agent not found"}, 200 if known else 404)

    def _run(self, asked: Asked) -> None:
        found = [run for run in self.runs if run["id"] == asked.path.split("/")[3]]
        asked.answer(found[0] if found else {"detail": "Run not found"}, 200 if found else 404)


def state(agent_id: str) -> dict[str, Any]:
    return {
        "id": agent_id,
        "name": f"Name of {agent_id}",
        "description": None,
        "llm_config": {"handle": "openai/gpt"},
        "agent_type": "letta_v1_agent",
        "tags": ["b", "a"],
        "updated_at": "now",
    }
