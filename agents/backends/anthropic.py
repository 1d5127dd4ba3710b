"""Anthropic's Messages API (``POST /v1/messages``, version 2023-06-01).

A model is no agent, so the agents of this kind are defined here: a name, a system prompt, a model.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

from agents.backends.base import AgentInfo, AgentListing, Health, MemoryBlock, ReplyRequest, ServiceSpec, ShouldStop
from agents.backends.chunks import Chunk, Finished, ReasoningDelta, RunStarted, TextDelta, ToolCall
from agents.backends.errors import (
    AgentGone,
    BackendBroken,
    BackendError,
    BackendNoCredit,
    BackendRateLimited,
    BackendRejected,
    BackendTimeout,
    BackendUnavailable,
)
from agents.backends.files import Given, given
from agents.backends.history import HISTORY_CHARACTERS, HISTORY_ITEMS, chosen, instructed, labelled, several_speak
from agents.backends.http import HttpServer
from agents.backends.http_errors import words_of
from agents.backends.redact import short
from agents.backends.registry import kind_of
from agents.backends.sse import SseEvent
from agents.backends.watch import StopRequested
from ops.words import counted

ADDRESS = "https://api.anthropic.com"
VERSION = "2023-06-01"
DEFAULT_MODEL = "claude-sonnet-4-5"
DEFAULT_MAX_TOKENS = 4096
QUICK_SECONDS = 10.0
STOPS = {
    "end_turn": "end",
    "stop_sequence": "end",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
}
_ERRORS: dict[str, type[BackendError]] = {
    "rate_limit_error": BackendRateLimited,
    "overloaded_error": BackendUnavailable,
    "api_error": BackendUnavailable,
    "timeout_error": BackendTimeout,
    "authentication_error": BackendRejected,
    "permission_error": BackendRejected,
    "billing_error": BackendNoCredit,
    "invalid_request_error": BackendRejected,
    "not_found_error": BackendRejected,
    "request_too_large": BackendRejected,
}


class AnthropicBackend:
    """Credentials: ``api_key``. Options: ``agents`` (list of ``{id, name, description, system_prompt, model, max_tokens}``),
    ``model`` and ``max_tokens`` (defaults for them), ``instead`` (``{agent: model}``, ``*`` for all: failover), ``history_items``, ``history_characters``, ``thinking_tokens`` (a budget).
    """

    kind = "anthropic"
    traits = kind_of("anthropic").traits

    def __init__(self, spec: ServiceSpec) -> None:
        self.spec = spec
        key = spec.credentials.get("api_key") or spec.credentials.get("token") or ""
        headers = {"anthropic-version": VERSION}
        if key:
            headers["x-api-key"] = key
        self.server = HttpServer(spec, headers, re.sub(r"/v1/?$", "", spec.base_url.strip().rstrip("/") or ADDRESS))
        self.model = str(spec.options.get("model") or DEFAULT_MODEL)

    def list_agents(self) -> AgentListing:
        agents = [self._info(definition) for definition in self._definitions()]
        ids = [agent.external_id for agent in agents]
        twice = sorted({agent_id for agent_id in ids if ids.count(agent_id) > 1})
        if twice:
            return AgentListing(agents, False, f"the definition names {', '.join(twice)} twice")
        return AgentListing(agents, True, f"{counted(len(agents), 'agent')} defined here")

    def get_agent(self, external_id: str) -> AgentInfo | None:
        return next((agent for agent in self.list_agents().agents if agent.external_id == external_id), None)

    def open_conversation(self, agent_external_id: str, *, title: str, key: str) -> str:
        return ""

    def stream_reply(self, request: ReplyRequest, *, should_stop: ShouldStop) -> Iterator[Chunk]:
        where = self.server.where("POST", "/v1/messages")
        reply = MessageReply(where, self.server.secrets)
        try:
            events = self.server.events(
                "POST",
                "/v1/messages",
                body=self._body(request),
                should_stop=should_stop,
                silence_seconds=request.timeout_seconds,
                means_progress=lambda event: event.event not in ("comment", "ping"),
            )
            for event in events:
                yield from reply.feed(event)
                if reply.ended:
                    return
            raise BackendBroken(f"{where}: the stream ended without its end marker.")
        except StopRequested:
            # Closing the connection is all that this API has for it; what the input took was said at the beginning.
            yield Finished("cancelled", reply.input_tokens)

    def cancel(self, agent_external_id: str, run_ref: str, conversation_ref: str = "") -> None:
        """There is no such call: a reply ends when its connection is closed."""

    def health(self) -> Health:
        started = time.monotonic()
        try:
            # The model list costs nothing and needs the key.
            self.server.json("GET", "/v1/models", params={"limit": 1}, read_seconds=QUICK_SECONDS)
        except BackendError as error:
            return Health(False, error.reason, latency_ms=(time.monotonic() - started) * 1000)
        latency = (time.monotonic() - started) * 1000
        detail = f"{self.server.address} accepts the key."
        try:
            self.server.json("GET", f"/v1/models/{quote(self.model, safe='')}", read_seconds=QUICK_SECONDS)
        except BackendError as error:
            # Gateways that imitate this API often cannot be asked for one model, so this is a remark and no failure.
            if error.status == 404:
                detail += f" It does not list the model {self.model!r}."
        return Health(True, detail, VERSION, latency, {"model": self.model})

    def read_memory(self, agent_external_id: str) -> Sequence[MemoryBlock]:
        return []

    def write_memory(self, agent_external_id: str, label: str, value: str) -> MemoryBlock:
        raise BackendRejected("Agents defined here have a system prompt and no memory blocks.")

    def close(self) -> None:
        self.server.close()

    def _definitions(self) -> list[dict[str, Any]]:
        given = self.spec.options.get("agents") or []
        if not isinstance(given, list) or not all(isinstance(one, dict) and one.get("id") for one in given):
            raise BackendRejected(
                f"Option 'agents' of service {self.spec.name} must be a list of objects with an 'id'."
            )
        return given

    def _info(self, definition: dict[str, Any]) -> AgentInfo:
        agent_id = str(definition["id"])
        return AgentInfo(
            external_id=agent_id,
            name=str(definition.get("name") or agent_id),
            description=str(definition.get("description") or ""),
            avatar_url=str(definition.get("avatar_url") or ""),
            model=str(definition.get("model") or self.model),
            metadata={"defined_here": True},
        )

    def _definition(self, request: ReplyRequest) -> dict[str, Any]:
        if request.definition:
            return request.definition
        for definition in self._definitions():
            if str(definition["id"]) == request.agent_external_id:
                return definition
        raise AgentGone(f"Service {self.spec.name} defines no agent {request.agent_external_id!r}.")

    def _body(self, request: ReplyRequest) -> dict[str, Any]:
        definition, options = self._definition(request), self.spec.options
        thinking = int(definition.get("thinking_tokens") or options.get("thinking_tokens") or 0)
        limit = int(definition.get("max_tokens") or options.get("max_tokens") or DEFAULT_MAX_TOKENS)
        body: dict[str, Any] = {
            "model": self._model_of(request.agent_external_id, definition),
            "max_tokens": limit + thinking,
            "messages": self._messages(request),
            "stream": True,
        }
        if system := instructed(definition.get("system_prompt"), request):
            body["system"] = system
        if thinking:
            body["thinking"] = {"type": "enabled", "budget_tokens": max(1024, thinking)}
        if request.speaker.id:
            # Stable and opaque: their abuse detection asks for it and must not get names or addresses.
            body["metadata"] = {"user_id": _opaque(request.speaker.id)}
        return body

    def _model_of(self, agent_id: str, definition: dict[str, Any]) -> str:
        """The agent's model, or the one that an operator put in its place (option ``instead``, by agent or ``*``)."""
        instead = self.spec.options.get("instead")
        other = (instead.get(agent_id) or instead.get("*")) if isinstance(instead, dict) else ""
        return str(other or definition.get("model") or self.model)

    def _messages(self, request: ReplyRequest) -> list[dict[str, Any]]:
        """Alternating roles, beginning with ``user``: neighbours of one role are merged, as the API wants them."""
        options = self.spec.options
        history = chosen(
            request,
            int(options.get("history_items", HISTORY_ITEMS)),
            int(options.get("history_characters", HISTORY_CHARACTERS)),
        )
        while history and history[0].role == "assistant":
            history.pop(0)
        show = several_speak(request, history)
        said: list[tuple[str, str, Given]] = []
        for item in history:
            name = item.name if item.role == "user" else ""
            said.append((item.role, name, given(item.text, item.attachments, self.traits, options)))
        said.append(("user", request.speaker.name, given(request.text, request.attachments, self.traits, options)))
        messages: list[dict[str, Any]] = []
        for role, name, what in said:
            # Trailing white space of an assistant's message is refused.
            text = labelled(name, what.text, show).strip()
            content = text if what.is_plain else [*_blocks(what), *([{"type": "text", "text": text}] if text else [])]
            if messages and messages[-1]["role"] == role:
                messages[-1]["content"] = _joined(messages[-1]["content"], content)
            elif content:
                messages.append({"role": role, "content": content})
        return messages


class MessageReply:
    """Reads the events ``message_start … content_block_delta … message_delta, message_stop`` (and ``ping``, ``error``)."""

    def __init__(self, where: str, secrets: tuple[str, ...] = ()) -> None:
        self.ended = False
        self._where = where
        self._secrets = secrets
        self._said = False
        self._stop = ""
        self._tools: dict[int, dict[str, str]] = {}
        self.input_tokens: int | None = None
        self._output: int | None = None

    def feed(self, event: SseEvent) -> Iterator[Chunk]:
        if event.event == "comment" or not event.data:
            return
        try:
            data = json.loads(event.data)
        except ValueError:
            data = None
        if not isinstance(data, dict) or "type" not in data:
            raise BackendBroken(f"{self._where}: the stream holds garbage: {short(event.data, self._secrets, 80)!r}.")
        kind = data["type"]
        if kind == "error":
            raise self._error(data.get("error"))
        if kind == "message_start":
            message = data.get("message") or {}
            self._count(message.get("usage"))
            if message.get("id"):
                yield RunStarted(str(message["id"]))
        elif kind == "content_block_start":
            block = data.get("content_block") or {}
            if block.get("type") == "tool_use":
                tool = {"id": str(block.get("id") or ""), "name": str(block.get("name") or ""), "arguments": ""}
                self._tools[int(data.get("index") or 0)] = tool
        elif kind == "content_block_delta":
            yield from self._delta(data.get("delta") or {}, int(data.get("index") or 0))
        elif kind == "content_block_stop":
            done = self._tools.pop(int(data.get("index") or 0), None)
            if done:
                self._said = True
                yield ToolCall(done["id"], done["name"], done["arguments"])
        elif kind == "message_delta":
            self._stop = str((data.get("delta") or {}).get("stop_reason") or self._stop)
            self._count(data.get("usage"))
        elif kind == "message_stop":
            yield from self._finish()

    def _delta(self, delta: dict[str, Any], index: int) -> Iterator[Chunk]:
        kind = delta.get("type")
        if kind == "text_delta" and delta.get("text"):
            self._said = self._said or bool(str(delta["text"]).strip())
            yield TextDelta(str(delta["text"]))
        elif kind == "thinking_delta" and delta.get("thinking"):
            yield ReasoningDelta(str(delta["thinking"]))
        elif kind == "input_json_delta" and index in self._tools:
            self._tools[index]["arguments"] += str(delta.get("partial_json") or "")

    def _finish(self) -> Iterator[Chunk]:
        self.ended = True
        if self._stop == "refusal" and not self._said:
            raise BackendRejected(
                f"{self._where}: the model refused to answer (stop reason refusal).",
                public="The agent's model declined to answer this.",
            )
        if not self._said:
            raise BackendBroken(f"{self._where}: an empty reply (stop reason {self._stop or 'none'}).")
        yield Finished(STOPS.get(self._stop, self._stop or "end"), self.input_tokens, self._output)

    def _count(self, usage: Any) -> None:
        if not isinstance(usage, dict):
            return
        if isinstance(usage.get("input_tokens"), int):
            cached = (usage.get(key) or 0 for key in ("cache_read_input_tokens", "cache_creation_input_tokens"))
            self.input_tokens = usage["input_tokens"] + sum(cached)
        if isinstance(usage.get("output_tokens"), int):
            self._output = usage["output_tokens"]

    def _error(self, error: Any) -> BackendError:
        kind = str(error.get("type")) if isinstance(error, dict) else ""
        made = _ERRORS.get(kind, BackendUnavailable)
        return made(f"{self._where}: the answer failed on its way: {short(words_of({'error': error}), self._secrets)}")


def _opaque(speaker_id: str) -> str:
    return hashlib.sha256(speaker_id.encode()).hexdigest()[:32]


def _blocks(what: Given) -> list[dict[str, Any]]:
    """Pictures and documents as content blocks; they stand before the text that speaks of them."""
    return [
        {"type": kind, "source": {"type": "base64", "media_type": file.media_type, "data": data}}
        for kind, files in (("image", what.images), ("document", what.documents))
        for file, data in files
    ]


def _joined(before: Any, more: Any) -> Any:
    """The contents of two messages as one."""
    if isinstance(before, str) and isinstance(more, str):
        return f"{before}\n\n{more}"
    parts = [[{"type": "text", "text": one}] if isinstance(one, str) else one for one in (before, more) if one]
    return [block for blocks in parts for block in blocks]
