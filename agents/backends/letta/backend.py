"""The adapter itself: what Switchboard asks, said in Letta's V1 REST."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, BinaryIO
from urllib.parse import quote

from agents.backends.base import (
    AgentInfo,
    AgentListing,
    Approval,
    Health,
    MemoryBlock,
    ReplyRequest,
    ServiceSpec,
    ShouldStop,
)
from agents.backends.chunks import Chunk, Finished, ToolCall
from agents.backends.errors import (
    AgentGone,
    BackendBroken,
    BackendBusy,
    BackendError,
    BackendNeedsApproval,
    BackendRejected,
    BackendUnavailable,
    ConversationGone,
)
from agents.backends.http import HttpServer
from agents.backends.letta.approvals import no_longer_waiting, read_waiting, refuse
from agents.backends.letta.capabilities import Capabilities
from agents.backends.letta.decode import Decoder, is_waiting_for_approval
from agents.backends.letta.encode import input_of
from agents.backends.letta.listing import PAGE_SIZE, agent_info, list_agents
from agents.backends.letta.recovery import Recovery, decode_events, is_progress
from agents.backends.registry import kind_of
from agents.backends.watch import StopRequested
from ops.words import counted

QUICK_SECONDS = 10.0
FILE_SECONDS = 180.0
TOKEN_KEYS = ("token", "password", "api_key")


class LettaBackend:
    """Letta V1 REST, ``letta==0.16.8``.

    Credentials: ``token`` (or ``password``), the server's ``LETTA_SERVER_PASSWORD``. Options: ``user_id`` (which Letta user
    acts), ``page_size`` (200), ``conversations`` (false: all talk in the agent's default thread), ``background`` (false:
    never use Redis-backed runs), ``max_steps``.
    """

    kind = "letta"
    traits = kind_of("letta").traits

    def __init__(self, spec: ServiceSpec) -> None:
        self.spec = spec
        headers: dict[str, str] = {}
        token = next((spec.credentials[key] for key in TOKEN_KEYS if spec.credentials.get(key)), "")
        if token:
            headers["Authorization"] = f"Bearer {token}"
        if spec.options.get("user_id"):
            headers["user_id"] = str(spec.options["user_id"])
        # People give the address with or without the API's prefix; both mean the same server.
        self.server = HttpServer(spec, headers, re.sub(r"/v1/?$", "", spec.base_url.strip().rstrip("/")))
        self.can = Capabilities(self.server, spec.options)

    # Who lives here

    def list_agents(self) -> AgentListing:
        try:
            return list_agents(self.server, int(self.spec.options.get("page_size") or PAGE_SIZE))
        except BackendRejected as error:
            raise self._named(error) from None

    def get_agent(self, external_id: str) -> AgentInfo | None:
        try:
            state = self.server.json("GET", _agent(external_id), params={"include_relationships": "tags"})
        except BackendRejected as error:
            # 422: not even shaped like one of the server's ids, so it has no such agent.
            if error.status in (404, 422):
                self.can.refuse_app_server()
                return None
            raise
        if not isinstance(state, dict) or "id" not in state:
            raise BackendBroken(f"{self.server.where('GET', _agent(external_id))}: the answer is not an agent.")
        return agent_info(state)

    def open_conversation(self, agent_external_id: str, *, title: str, key: str) -> str:
        """The conversation whose summary holds ``(key)``; made when there is none. "" where the server has no conversations."""
        if not self.can.conversations:
            return ""
        mark = f"({key})"
        query = {"agent_id": agent_external_id, "summary_search": mark, "order": "asc"}
        for found in self.server.json("GET", "/v1/conversations/", params=query) or []:
            # Servers before 0.16.5 ignore the search, so look for the mark here too.
            if (
                mark in str(found.get("summary") or "")
                and found.get("agent_id", agent_external_id) == agent_external_id
            ):
                return str(found["id"])
        try:
            made = self.server.json(
                "POST",
                "/v1/conversations/",
                params={"agent_id": agent_external_id},
                body={"summary": f"{title} {mark}".strip()},
            )
        except BackendRejected as error:
            raise self._agent_error(error, agent_external_id, "") from None
        except BackendBusy as error:
            # A foreign key violation is a 409 there: the agent is gone.
            if self.get_agent(agent_external_id) is None:
                raise AgentGone(error.reason) from None
            raise
        return str(made["id"])

    # Talking

    def stream_reply(self, request: ReplyRequest, *, should_stop: ShouldStop) -> Iterator[Chunk]:
        """See ``Backend``. A repeated input (``attempt`` > 1) is looked for first and never given twice."""
        recovery = Recovery(self.server, request, should_stop, background=lambda: self.can.background)
        run = request.resume_ref
        try:
            if request.approvals:
                waiting = read_waiting(self.server, request.agent_external_id, request.conversation_ref)
                begun = waiting.run_of(request.approvals)
                if begun:
                    yield from recovery.continued(begun)
                    return
                if not waiting.awaits(request.approvals):
                    if not request.unheard:
                        raise no_longer_waiting(self.server.address)
                    request = replace(request, approvals=())
            elif request.attempt > 1 or request.resume_ref:
                arrived = yield from recovery.replay()
                if arrived:
                    return
            for chunk in self._stream(request, should_stop, recovery):
                yield chunk
                run = getattr(chunk, "ref", run)
        except StopRequested:
            self._cancel_quietly(request.agent_external_id, recovery.run or run, request.conversation_ref)
            yield Finished("cancelled")

    def _stream(self, request: ReplyRequest, should_stop: ShouldStop, recovery: Recovery) -> Iterator[Chunk]:
        background = self.can.background and recovery.may_reattach and not request.approvals
        path, extra = self._path(request, background)
        body: dict[str, Any] = {
            "messages": input_of(request, self.traits, self.spec.options),
            "streaming": True,
            "stream_tokens": True,
            "include_pings": True,
            **extra,
        }
        if background:
            body["background"] = True
        if self.spec.options.get("max_steps"):
            body["max_steps"] = int(self.spec.options["max_steps"])
        where = self.server.where("POST", path)
        decoder = Decoder(where, self.server.secrets, may_be_silent=bool(request.approvals) and not request.unheard)
        try:
            events = self.server.events(
                "POST",
                path,
                body=body,
                should_stop=should_stop,
                silence_seconds=request.timeout_seconds,
                means_progress=is_progress,
            )
            yield from decode_events(events, decoder, where, recovery)
        except BackendRejected as error:
            raise self._agent_error(error, request.agent_external_id, request.conversation_ref) from None
        except BackendBusy as error:
            if is_waiting_for_approval(error.reason):
                raise BackendNeedsApproval(error.reason, calls=self._waiting_calls(request)) from None
            raise
        except BackendNeedsApproval as error:
            raise BackendNeedsApproval(error.reason, calls=self._waiting_calls(request)) from None
        except BackendUnavailable as error:
            if background and "requires Redis" in error.reason:
                self.can.no_background()
                yield from self._stream(request, should_stop, recovery)
                return
            raise

    def _waiting_calls(self, request: ReplyRequest) -> list[ToolCall]:
        try:
            return read_waiting(self.server, request.agent_external_id, request.conversation_ref).calls
        except BackendError:
            return []  # what happened is said all the same

    def refuse_calls(self, agent_external_id: str, approvals: Sequence[Approval], conversation_ref: str = "") -> None:
        """See ``Approving``. Nothing happens when the calls do not wait any more."""
        if read_waiting(self.server, agent_external_id, conversation_ref).awaits(approvals):
            refuse(self.server, agent_external_id, conversation_ref, approvals)

    def _path(self, request: ReplyRequest, background: bool) -> tuple[str, dict[str, Any]]:
        if request.conversation_ref:
            return f"/v1/conversations/{quote(request.conversation_ref, safe='')}/messages", {}
        if background and self.can.conversations:
            # Only this way does the server lock the agent and re-attach a repeated otid in the default thread.
            return "/v1/conversations/default/messages", {"agent_id": request.agent_external_id}
        return f"{_agent(request.agent_external_id)}/messages/stream", {}

    def cancel(self, agent_external_id: str, run_ref: str, conversation_ref: str = "") -> None:
        if run_ref or not conversation_ref:
            path = f"{_agent(agent_external_id)}/messages/cancel"
            body = {"run_ids": [run_ref]} if run_ref else None
        else:
            path, body = f"/v1/conversations/{quote(conversation_ref, safe='')}/cancel", None
        try:
            self.server.json("POST", path, body=body, read_seconds=QUICK_SECONDS)
        except BackendBusy:
            return  # 409 "No active runs to cancel": it has already ended
        except BackendRejected as error:
            if error.status != 404:
                raise

    def _cancel_quietly(self, agent_id: str, run: str, conversation: str) -> None:
        """The person asked us to stop and we have; a server that does not answer must not turn that into a failure."""
        try:
            self.cancel(agent_id, run, conversation)
        except BackendError:
            return

    # Models

    def list_models(self) -> list[str]:
        """Handles of the language models that this server offers its agents (``GET /v1/models/``)."""
        rows = self.server.json("GET", "/v1/models/")
        if not isinstance(rows, list):
            raise BackendBroken(f"{self.server.where('GET', '/v1/models/')}: the answer is not a list of models.")
        return sorted({str(row["handle"]) for row in rows if isinstance(row, dict) and row.get("handle")})

    def set_model(self, external_id: str, model: str) -> str:
        """``PATCH /v1/agents/{id}`` with ``{model}``; the server fills in the rest of the model's settings itself."""
        known = self.get_agent(external_id)
        if known is None:
            raise AgentGone(f"The agent {external_id} does not exist.")
        if known.model != model:
            self.server.json("PATCH", _agent(external_id), body={"model": model})
        return known.model

    # Agents as files

    def export_agent(self, external_id: str, target: BinaryIO) -> int:
        """Write the agent as an agent file (``.af``: JSON with its blocks, tools and the messages of its default thread). Returns its size."""
        try:
            return self.server.download(f"{_agent(external_id)}/export", target, read_seconds=FILE_SECONDS)
        except BackendRejected as error:
            raise self._agent_error(error, external_id, "") from None

    def import_agent(self, file: BinaryIO) -> str:
        """Make an agent from an agent file, whose tools never replace those that are there. Returns its id, which is a new one."""
        fields = {"append_copy_suffix": "false", "override_existing_tools": "false"}
        path = "/v1/agents/import"
        made = self.server.upload(path, fields=fields, name="agent.af", file=file, read_seconds=FILE_SECONDS)
        ids = made.get("agent_ids") if isinstance(made, dict) else None
        if not isinstance(ids, list) or len(ids) != 1:
            raise BackendBroken(f"{self.server.where('POST', path)}: the answer does not name the agent that was made.")
        return str(ids[0])

    def tagged(self, tag: str) -> str:
        """The id of an agent with this tag, "" when there is none."""
        found = self.server.json(
            "GET", "/v1/agents/", params={"tags": tag, "limit": 1, "include_relationships": "tags"}
        )
        rows = found if isinstance(found, list) else []
        return next((str(row["id"]) for row in rows if tag in (row.get("tags") or ())), "")

    # Health and memory

    def health(self) -> Health:
        started = time.monotonic()
        try:
            state = self.server.json("GET", "/v1/health/", read_seconds=QUICK_SECONDS)
            version = str(state.get("version") or "") if isinstance(state, dict) else ""
            # Health needs no password, so only a real call shows a wrong one.
            total = self.server.json("GET", "/v1/agents/", params={"limit": 1, "include_relationships": "tags"})
            if not isinstance(total, list):
                raise BackendBroken(f"{self.server.where('GET', '/v1/agents/')}: the answer is not a list of agents.")
            latency = (time.monotonic() - started) * 1000
            can = {"conversations": self.can.conversations, "background": self.can.background}
        except BackendError as error:
            if isinstance(error, BackendRejected):
                error = self._named(error)
            return Health(False, error.reason, latency_ms=(time.monotonic() - started) * 1000)
        return Health(True, f"Letta {version or '(unknown version)'} answers.", version, latency, can)

    def read_memory(self, agent_external_id: str) -> Sequence[MemoryBlock]:
        try:
            blocks = self.server.json("GET", f"{_agent(agent_external_id)}/core-memory/blocks", params={"limit": 1000})
        except BackendRejected as error:
            raise self._agent_error(error, agent_external_id, "") from None
        return sorted((_block(block) for block in blocks or []), key=lambda block: block.label)

    def write_memory(self, agent_external_id: str, label: str, value: str) -> MemoryBlock:
        held = {block.label: block for block in self.read_memory(agent_external_id)}
        block = held.get(label)
        if block is None:
            raise BackendRejected(f"The agent has no memory block {label!r}; it has {', '.join(held) or 'none'}.")
        if block.read_only:
            raise BackendRejected(f"The memory block {label!r} is read-only.")
        if block.limit is not None and len(value) > block.limit:
            raise BackendRejected(
                f"{counted(len(value), 'character does not fit', 'characters do not fit')} into {label!r}, which takes {block.limit}."
            )
        path = f"{_agent(agent_external_id)}/core-memory/blocks/{quote(label, safe='')}"
        if "/" in label:  # a slash in a path segment does not reach that route; the block's own id does
            path = f"/v1/blocks/{quote(block.id, safe='')}"
        return _block(self.server.json("PATCH", path, body={"value": value}))

    def close(self) -> None:
        self.server.close()

    # Errors with the right name

    def _named(self, error: BackendRejected) -> BackendRejected:
        if error.status == 404:
            try:
                self.can.refuse_app_server()
            except BackendRejected as named:
                return named
            return BackendRejected(
                f"{error.reason} Is this a Letta V1 server (package letta==0.16.8)? Give its address without a path."
            )
        return error

    def _agent_error(self, error: BackendRejected, agent_id: str, conversation: str) -> BackendError:
        """Tells a vanished agent and a vanished conversation from other refusals."""
        if error.status not in (404, 422):
            return error
        if self.get_agent(agent_id) is None:
            return AgentGone(f"{error.reason} The agent {agent_id} does not exist.")
        if conversation and error.status == 404:
            return ConversationGone(f"{error.reason} The conversation {conversation} does not exist.")
        return error


def _agent(agent_id: str) -> str:
    return f"/v1/agents/{quote(agent_id, safe='')}"


def _block(data: Any) -> MemoryBlock:
    if not isinstance(data, dict):
        raise BackendBroken("Letta answered with something that is not a memory block.")
    limit = data.get("limit")
    return MemoryBlock(
        label=str(data.get("label") or ""),
        value=str(data.get("value") or ""),
        description=str(data.get("description") or ""),
        limit=limit if isinstance(limit, int) else None,
        read_only=bool(data.get("read_only")),
        id=str(data.get("id") or ""),
    )
