"""Any server that speaks OpenAI's API: its models are its agents (``GET /v1/models``, ``POST /v1/chat/completions``).

Two very different things answer at ``/v1/models``: a list of language models, and an agents' proxy (Letta-Matrix's on port
1416, Letta's App Server with ``--openai-api``), whose "models" are agents with a memory of their own. They are told apart by
their ids. Letta's V1 server answers there too, with a bare array of the models it may use: that address wants kind ``letta``.
"""

from __future__ import annotations

import fnmatch
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agents.backends.base import (
    AgentInfo,
    AgentListing,
    AttachedFile,
    Health,
    MemoryBlock,
    ReplyRequest,
    ServiceSpec,
    ShouldStop,
)
from agents.backends.chunks import Chunk, Finished, ReasoningDelta, RunStarted, TextDelta, ToolCall
from agents.backends.errors import (
    AgentGone,
    BackendBroken,
    BackendError,
    BackendNoCredit,
    BackendRejected,
    BackendUnavailable,
)
from agents.backends.files import Given, given
from agents.backends.history import (
    HISTORY_CHARACTERS,
    HISTORY_ITEMS,
    chosen,
    instructed,
    labelled,
    name_field,
    several_speak,
)
from agents.backends.http import HttpServer
from agents.backends.http_errors import ERROR_OF_STATUS, is_about_credit, words_of
from agents.backends.redact import short
from agents.backends.registry import kind_of
from agents.backends.watch import StopRequested
from ops.words import counted

QUICK_SECONDS = 10.0
AGENTS, MODELS = "agents", "language models"
FINISH = {"stop": "end", "length": "length", "tool_calls": "tool_calls", "function_call": "tool_calls"}
_ERROR_TYPES: dict[str, int] = {
    "rate_limit": 429,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "overloaded_error": 503,
    "server_error": 500,
    "timeout": 504,
}


class OpenAIBackend:
    """OpenAI, OpenRouter, vLLM, Ollama, LM Studio, llama.cpp, LiteLLM, the agents' proxy, ...

    Credentials: ``api_key`` (or ``token``). Options: ``models`` (list of names or globs, narrows a list of language models),
    ``history_items``, ``history_characters``, ``max_tokens``, ``temperature``, ``system_prompt`` (for all its models),
    ``instead`` (``{model: another}``, ``*`` for all: failover), ``organization``, ``usage`` (false: do not ask for token counts, for servers that refuse ``stream_options``),
    ``images`` (false: the models see no pictures), ``files`` (true: they take PDF documents).
    """

    kind = "openai"
    traits = kind_of("openai").traits

    def __init__(self, spec: ServiceSpec) -> None:
        self.spec = spec
        headers: dict[str, str] = {}
        key = spec.credentials.get("api_key") or spec.credentials.get("token") or spec.credentials.get("password")
        if key:
            headers["Authorization"] = f"Bearer {key}"
        if spec.options.get("organization"):
            headers["OpenAI-Organization"] = str(spec.options["organization"])
        self.server = HttpServer(spec, headers)
        # People give the address with or without "/v1"; some servers have another version there.
        self.prefix = "" if re.search(r"/v\d+(beta)?$", self.server.address) else "/v1"

    def list_agents(self) -> AgentListing:
        rows = self._models()
        is_proxy = what_it_lists(rows) == AGENTS
        wanted = [] if is_proxy else _patterns(self.spec.options.get("models"))
        found: dict[str, AgentInfo] = {}
        for row in rows:
            info = self._info(row, AGENTS if is_proxy else MODELS)
            if info.external_id in found:
                where = self.server.where("GET", f"{self.prefix}/models")
                return AgentListing(list(found.values()), False, f"{where} names {info.external_id!r} twice")
            if not wanted or any(fnmatch.fnmatchcase(info.external_id, pattern) for pattern in wanted):
                found[info.external_id] = info
        what = counted(len(rows), "agent") + " of a proxy" if is_proxy else counted(len(rows), "language model")
        proof = f"{what} in one unpaged list"
        if wanted:
            missing = [p for p in wanted if not any(fnmatch.fnmatchcase(str(row.get("id")), p) for row in rows)]
            proof += f", {len(found)} of them wanted" + (f"; nothing matches {', '.join(missing)}" if missing else "")
        return AgentListing(list(found.values()), True, proof)

    def get_agent(self, external_id: str) -> AgentInfo | None:
        # Many servers have no /models/{id}, and ids hold slashes; the list is one request as well.
        return next((info for info in self.list_agents().agents if info.external_id == external_id), None)

    def open_conversation(self, agent_external_id: str, *, title: str, key: str) -> str:
        return ""

    def stream_reply(self, request: ReplyRequest, *, should_stop: ShouldStop) -> Iterator[Chunk]:
        path = f"{self.prefix}/chat/completions"
        where = self.server.where("POST", path)
        reply = ChatReply(where, self.server.secrets)
        headers = {"Idempotency-Key": request.idempotency_id} if request.idempotency_id else {}
        try:
            for event in self.server.events(
                "POST",
                path,
                body=self._body(request),
                headers=headers,
                should_stop=should_stop,
                silence_seconds=request.timeout_seconds,
            ):
                if event.event == "comment" or not event.data:
                    continue
                if event.data.strip() == "[DONE]":
                    yield from reply.finish()
                    return
                yield from reply.feed(event.data)
            if not reply.finish_reason:
                raise BackendBroken(f"{where}: the stream ended without its end marker.")
            yield from reply.finish()  # some servers leave out [DONE] after a finish reason
        except StopRequested:
            yield Finished("cancelled")  # closing the connection is all that this API has for it
        except BackendRejected as error:
            if error.status == 404 and self._unknown(request.agent_external_id):
                raise AgentGone(f"{error.reason} The server has no {request.agent_external_id!r}.") from None
            raise

    def cancel(self, agent_external_id: str, run_ref: str, conversation_ref: str = "") -> None:
        """There is no such call: a reply ends when its connection is closed."""

    def health(self) -> Health:
        started = time.monotonic()
        try:
            listing = self.list_agents()
        except BackendError as error:
            return Health(False, error.reason, latency_ms=(time.monotonic() - started) * 1000)
        latency = (time.monotonic() - started) * 1000
        lists = next((str(info.metadata["lists"]) for info in listing.agents), MODELS)
        detail = f"{self.server.address} answers: {listing.proof}."
        return Health(True, detail, latency_ms=latency, capabilities={"lists": lists, "count": len(listing.agents)})

    def read_memory(self, agent_external_id: str) -> Sequence[MemoryBlock]:
        return []

    def write_memory(self, agent_external_id: str, label: str, value: str) -> MemoryBlock:
        raise BackendRejected("Agents behind an OpenAI-compatible server have no memory blocks that could be written.")

    def close(self) -> None:
        self.server.close()

    def _models(self) -> list[dict[str, Any]]:
        path = f"{self.prefix}/models"
        body = self.server.json("GET", path, read_seconds=QUICK_SECONDS)
        where = self.server.where("GET", path)
        if isinstance(body, list):
            raise BackendRejected(
                f"{where} answers with a bare array, as Letta's V1 server does for the models it may use. Use kind 'letta' for "
                "this address to reach its agents."
            )
        rows = body.get("data") if isinstance(body, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) and row.get("id") for row in rows):
            raise BackendBroken(f'{where}: expected {{"object": "list", "data": [{{"id": …}}]}}.')
        return rows

    def _info(self, row: dict[str, Any], lists: str) -> AgentInfo:
        model_id = str(row["id"])
        owner = str(row.get("owned_by") or "")
        return AgentInfo(
            external_id=model_id,
            name=str(row.get("name") or row.get("display_name") or model_id),
            description=str(row.get("description") or ""),
            model="" if lists == AGENTS else model_id,
            metadata={"lists": lists, "owned_by": owner},
        )

    def _unknown(self, model_id: str) -> bool:
        try:
            return self.get_agent(model_id) is None
        except BackendError:
            return False

    def _body(self, request: ReplyRequest) -> dict[str, Any]:
        options, definition = self.spec.options, request.definition
        history = chosen(
            request,
            int(options.get("history_items", HISTORY_ITEMS)),
            int(options.get("history_characters", HISTORY_CHARACTERS)),
        )
        show = several_speak(request, history)
        messages: list[dict[str, Any]] = []
        system = instructed(definition.get("system_prompt") or options.get("system_prompt"), request)
        if system:
            messages.append({"role": "system", "content": system})
        for item in history:
            if item.role == "assistant":
                messages.append({"role": "assistant", "content": item.text})
            else:
                messages.append(_user(item.name, self._given(item.text, item.attachments), show))
        messages.append(_user(request.speaker.name, self._given(request.text, request.attachments), show))
        body: dict[str, Any] = {
            "model": instead_of(request.agent_external_id, options),
            "messages": messages,
            "stream": True,
        }
        if options.get("usage", True):
            body["stream_options"] = {"include_usage": True}
        for setting in ("max_tokens", "temperature"):
            value = definition.get(setting, options.get(setting))
            if value is not None:
                body[setting] = value
        return body

    def _given(self, text: str, files: Sequence[AttachedFile]) -> Given:
        return given(text, files, self.traits, self.spec.options)


class ChatReply:
    """Assembles ``chat.completion.chunk`` objects. Tool calls come in pieces by ``index`` and go out whole."""

    def __init__(self, where: str, secrets: tuple[str, ...] = ()) -> None:
        self.finish_reason = ""
        self._where = where
        self._secrets = secrets
        self._id = ""
        self._said = False
        self._calls: dict[int, dict[str, str]] = {}
        self._usage: tuple[int | None, int | None] = (None, None)

    def feed(self, data: str) -> Iterator[Chunk]:
        try:
            chunk = json.loads(data)
        except ValueError:
            chunk = None
        if not isinstance(chunk, dict):
            raise BackendBroken(f"{self._where}: the stream holds garbage: {short(data, self._secrets, 80)!r}.")
        if chunk.get("error"):
            raise self._error(chunk["error"])
        if chunk.get("id") and not self._id:
            self._id = str(chunk["id"])
            yield RunStarted(self._id)
        usage = chunk.get("usage")
        if isinstance(usage, dict):
            self._usage = (_count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")))
        for choice in (chunk.get("choices") or [])[:1]:
            if not isinstance(choice, dict):
                raise BackendBroken(f"{self._where}: a choice of the stream is no object.")
            yield from self._delta(choice.get("delta") or choice.get("message") or {})
            self.finish_reason = str(choice.get("finish_reason") or self.finish_reason)

    def finish(self) -> Iterator[Chunk]:
        for index in sorted(self._calls):
            call = self._calls[index]
            yield ToolCall(call["id"], call["name"], call["arguments"])
        if self.finish_reason == "content_filter" and not self._said:
            raise BackendRejected(
                f"{self._where}: the model's content filter stopped the answer.",
                public="The model's content filter stopped the answer.",
            )
        if not self._said and not self._calls:
            raise BackendBroken(f"{self._where}: an empty reply (finish reason {self.finish_reason or 'none'}).")
        yield Finished(FINISH.get(self.finish_reason, self.finish_reason or "end"), *self._usage)

    def _delta(self, delta: dict[str, Any]) -> Iterator[Chunk]:
        reasoning = delta.get("reasoning_content") or delta.get("reasoning")
        if isinstance(reasoning, str) and reasoning:
            yield ReasoningDelta(reasoning)
        text = delta.get("content") or delta.get("refusal")
        if isinstance(text, list):
            text = "".join(str(part.get("text") or "") for part in text if isinstance(part, dict))
        if text:
            self._said = self._said or bool(str(text).strip())
            yield TextDelta(str(text))
        for position, piece in enumerate(delta.get("tool_calls") or []):
            function = piece.get("function") or {}
            held = self._calls.setdefault(piece.get("index", position), {"id": "", "name": "", "arguments": ""})
            held["id"] = held["id"] or str(piece.get("id") or "")
            held["name"] = held["name"] or str(function.get("name") or "")
            held["arguments"] += str(function.get("arguments") or "")

    def _error(self, error: Any) -> BackendError:
        """A failure after the 200: its type or code stands for the status that it would have had."""
        said = short(words_of({"error": error}), self._secrets)
        code = error.get("code") if isinstance(error, dict) else None
        kind = str(error.get("type") or code) if isinstance(error, dict) else ""
        status = code if isinstance(code, int) else _ERROR_TYPES.get(kind, 500)
        if is_about_credit(f"{kind} {said}"):
            return BackendNoCredit(f"{self._where}: the answer failed on its way: {said}")
        made = ERROR_OF_STATUS.get(status) or (BackendUnavailable if status >= 500 else BackendRejected)
        return made(f"{self._where}: the answer failed on its way: {said}")


def instead_of(model: str, options: Mapping[str, Any]) -> str:
    """The model to ask: ``model``, or the one that an operator put in its place (option ``instead``)."""
    instead = options.get("instead")
    if not isinstance(instead, dict):
        return model
    return str(instead.get(model) or instead.get("*") or model)


def what_it_lists(rows: Sequence[dict[str, Any]]) -> str:
    """``agents`` when most ids are agents' ids, or the owner is Letta; else ``language models``."""
    if not rows:
        return MODELS
    agents = sum(str(row["id"]).startswith("agent-") or row.get("owned_by") == "letta" for row in rows)
    return AGENTS if agents * 2 > len(rows) else MODELS


def _patterns(value: Any) -> list[str]:
    if isinstance(value, str):
        value = value.split(",")
    return [str(pattern).strip() for pattern in value or [] if str(pattern).strip()]


def _user(name: str, said: Given, show: bool) -> dict[str, Any]:
    text = labelled(name, said.text, show)
    content: Any = text
    if not said.is_plain:
        # Pictures as data URIs; documents as files, which only some servers take (option ``files``).
        content = [{"type": "text", "text": text}] if text else []
        for file, data in said.images:
            content.append({"type": "image_url", "image_url": {"url": f"data:{file.media_type};base64,{data}"}})
        for file, data in said.documents:
            uri = f"data:{file.media_type};base64,{data}"
            content.append({"type": "file", "file": {"filename": file.name, "file_data": uri}})
    message: dict[str, Any] = {"role": "user", "content": content}
    if show and name_field(name):
        message["name"] = name_field(name)
    return message


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) else None
