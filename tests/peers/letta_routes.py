"""The REST surface of the stand-in for Letta, V1 of release 0.16.8."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

from aiohttp import web

from .letta_turns import Turns, detail
from .letta_world import MODELS, Agent, Conversation, Faults, World
from .stub import Ledger

_AGENT_ID = re.compile(r"^agent-[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")
VERSION = "0.16.8"


def _problem(status: int, words: str) -> web.HTTPException:
    kind = {404: web.HTTPNotFound, 422: web.HTTPUnprocessableEntity, 400: web.HTTPBadRequest, 409: web.HTTPConflict}[
        status
    ]
    return kind(text=json.dumps({"detail": words}), content_type="application/json")


def _page(items: list[dict[str, Any]], query: Any, default_limit: int) -> list[dict[str, Any]]:
    """One page of ``items`` (oldest first) as the query orders them; an unknown cursor is ignored, as Letta does."""
    ordered = items if query.get("order", "desc") == "asc" else items[::-1]
    places = {item["id"]: place for place, item in enumerate(ordered)}
    if query.get("after") in places:
        ordered = ordered[places[query["after"]] + 1 :]
    elif query.get("before") in places:
        ordered = ordered[: places[query["before"]]]
    return ordered[: int(query.get("limit", default_limit))]


class Routes:
    """The handlers. ``password`` is asked for everywhere but at the health address."""

    def __init__(self, world: World, ledger: Ledger, password: str = "") -> None:
        self.world = world
        self.ledger = ledger
        self.password = password
        self.turns = Turns(world, ledger)

    def application(self) -> web.Application:
        app = web.Application(client_max_size=64 * 2**20, middlewares=[self._guard] if self.password else [])
        agent, conversation = "/v1/agents/{agent}", "/v1/conversations/{conversation}"
        app.add_routes(
            [
                web.get("/v1/health/", self.health),
                web.get("/v1/agents/", self.list_agents),
                web.get("/v1/agents", self.redirect),
                web.post("/v1/agents/", self.create_agent),
                web.get("/v1/agents/count", self.count_agents),
                web.get(agent, self.read_agent),
                web.patch(agent, self.change_agent),
                web.delete(agent, self.delete_agent),
                web.get(agent + "/core-memory/blocks", self.list_blocks),
                web.get(agent + "/core-memory/blocks/{label}", self.read_block),
                web.patch(agent + "/core-memory/blocks/{label}", self.change_block),
                web.get(agent + "/messages", self.agent_messages),
                web.post(agent + "/messages", self.send_to_agent),
                web.post(agent + "/messages/stream", self.send_to_agent),
                web.post(agent + "/messages/cancel", self.cancel_agent),
                web.get("/v1/conversations/", self.list_conversations),
                web.post("/v1/conversations/", self.create_conversation),
                web.get(conversation, self.read_conversation),
                web.patch(conversation, self.change_conversation),
                web.delete(conversation, self.delete_conversation),
                web.get(conversation + "/messages", self.conversation_messages),
                web.post(conversation + "/messages", self.send_to_conversation),
                web.post(conversation + "/stream", self.resume_conversation),
                web.post(conversation + "/cancel", self.cancel_conversation),
                web.get("/v1/models/", self.models),
                web.get("/v1/runs/", self.list_runs),
                web.get("/v1/runs/{run}", self.read_run),
                web.post("/v1/runs/{run}/stream", self.resume_run),
                web.get("/control", self.read_control),
                web.get("/control/agents", self.all_ids),
                web.post("/control", self.control),
                *self.ledger.routes(),
            ]
        )
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        open_to_all = not request.path.startswith("/v1/") or request.path == "/v1/health/"
        if not open_to_all and request.headers.get("Authorization") != f"Bearer {self.password}":
            return detail(401, "Unauthorized")
        answer: web.StreamResponse = await handler(request)
        return answer

    async def health(self, request: web.Request) -> web.Response:
        return web.json_response({"version": VERSION, "status": "ok"})

    async def redirect(self, request: web.Request) -> web.Response:
        raise web.HTTPTemporaryRedirect(
            location=str(request.rel_url.with_path("/v1/agents/").with_query(request.query))
        )

    # Agents

    async def list_agents(self, request: web.Request) -> web.Response:
        query, faults = request.query, self.world.faults
        if faults.list_delay_ms:
            await asyncio.sleep(faults.list_delay_ms / 1000)
        if faults.hits("list_garbage"):
            return web.Response(text='[{"id": "agent-', content_type="application/json")
        limit = int(query.get("limit", 50))
        ids = self.world.ids()
        if faults.half_list:
            ids = ids[: len(ids) // 2]
        if query.get("name"):
            ids = [one for one in ids if self.world.agents[one].name == query["name"]]
        ordered = ids if query.get("order", "desc") == "asc" or query.get("ascending") == "true" else ids[::-1]
        start, cursor = 0, query.get("after")
        # A cursor that the server does not know is ignored: page 1 again.
        if cursor in self.world.agents and not faults.ignore_cursor:
            start = ordered.index(cursor) + 1 if cursor in ordered else 0
        page = start // limit + 1
        if faults.fail_page == page:
            return detail(500, "An internal server error occurred")
        if faults.repeat_page and page == faults.repeat_page + 1:
            start = max(0, start - limit)
        agents = [self.world.agents[one].json() for one in ordered[start : start + limit]]
        return web.Response(text="[" + ",".join(agents) + "]", content_type="application/json")

    async def count_agents(self, request: web.Request) -> web.Response:
        if self.world.faults.count_missing:
            return detail(404, "Not Found")
        return web.json_response(max(0, len(self.world.agents) + self.world.faults.wrong_count))

    def _agent(self, agent_id: str) -> Agent:
        if not _AGENT_ID.match(agent_id):
            raise _problem(
                422, f"[{{'type': 'string_pattern_mismatch', 'loc': ('path', 'agent_id'), 'input': '{agent_id}'}}]"
            )
        if agent_id not in self.world.agents:
            raise _problem(404, f"Agent with ID {agent_id} not found")
        return self.world.agents[agent_id]

    async def create_agent(self, request: web.Request) -> web.Response:
        body = await request.json() if request.can_read_body else {}
        made = self.world.make_agent(body.get("name") or "", body.get("description"))
        return web.Response(text=made.json(), content_type="application/json")

    async def read_agent(self, request: web.Request) -> web.Response:
        agent = self._agent(request.match_info["agent"])
        agent.memory()
        agent.changed()
        return web.Response(text=agent.json(), content_type="application/json")

    async def change_agent(self, request: web.Request) -> web.Response:
        agent = self._agent(request.match_info["agent"])
        body = await request.json()
        agent.name = body.get("name", agent.name)
        agent.description = body.get("description", agent.description)
        if body.get("model") and body["model"] not in MODELS:
            raise _problem(404, f"NOT_FOUND: Handle {body['model']} not found, must be one of []")
        agent.model = body.get("model") or agent.model
        agent.changed()
        return web.Response(text=agent.json(), content_type="application/json")

    async def models(self, request: web.Request) -> web.Response:
        return web.json_response([{"handle": handle, "provider_name": "openai"} for handle in MODELS])

    async def delete_agent(self, request: web.Request) -> web.Response:
        self.world.remove_agent(self._agent(request.match_info["agent"]).id)
        return web.json_response(None)

    # Memory

    async def list_blocks(self, request: web.Request) -> web.Response:
        return web.json_response(list(self._agent(request.match_info["agent"]).memory().values()))

    def _block(self, request: web.Request) -> tuple[Agent, dict[str, Any]]:
        agent, label = self._agent(request.match_info["agent"]), request.match_info["label"]
        block = agent.memory().get(label)
        if block is None:
            raise _problem(404, f"No block with label '{label}' found for agent '{agent.id}'")
        return agent, block

    async def read_block(self, request: web.Request) -> web.Response:
        return web.json_response(self._block(request)[1])

    async def change_block(self, request: web.Request) -> web.Response:
        agent, block = self._block(request)
        known = {"value", "description", "limit", "read_only", "metadata"}
        block.update(
            {key: value for key, value in (await request.json()).items() if key in known and value is not None}
        )
        agent.changed()
        return web.json_response(block)

    # Messages of an agent

    async def send_to_agent(self, request: web.Request) -> web.StreamResponse:
        agent = self._agent(request.match_info["agent"])
        body = await request.json()
        streaming = request.path.endswith("/stream") or bool(body.get("streaming"))
        return await self.turns.take(request, body, agent, None, lock_key=None, streaming=streaming)

    async def agent_messages(self, request: web.Request) -> web.Response:
        agent, wanted = self._agent(request.match_info["agent"]), request.query.get("conversation_id")
        where = None if wanted == "default" else wanted
        kept = [item for place, item in agent.messages if wanted is None or place == where]
        page = _page(kept, request.query, 100)
        # Letta gives the newest ones for "desc", yet in the order in which they were said.
        return web.json_response(page if request.query.get("order", "desc") == "asc" else page[::-1])

    async def cancel_agent(self, request: web.Request) -> web.Response:
        agent = self._agent(request.match_info["agent"])
        body = (await request.json() if request.can_read_body else None) or {}
        return self._cancel(agent.id, None, body.get("run_ids"), f"agent {agent.id}")

    def _cancel(self, agent_id: str, conversation_id: str | None, run_ids: list[str] | None, what: str) -> web.Response:
        runs = self.world.active_runs(agent_id, conversation_id)
        if run_ids:
            runs = [run for run in runs if run.id in run_ids]
        if not runs:
            return detail(409, f"CONFLICT: No active runs to cancel for {what}")
        for run in runs:
            run.cancelled.set()
        return web.json_response({run.id: "cancelled" for run in runs})

    # Conversations

    def _conversation(self, conversation_id: str) -> Conversation:
        if conversation_id not in self.world.conversations:
            raise _problem(404, f"Conversation not found with id='['{conversation_id}']'")
        return self.world.conversations[conversation_id]

    async def create_conversation(self, request: web.Request) -> web.Response:
        agent_id = request.query.get("agent_id", "")
        if agent_id not in self.world.agents:
            return detail(404, "Agent not found")
        body = (await request.json() if request.can_read_body else None) or {}
        return web.json_response(self.world.open_conversation(agent_id, body.get("summary")).as_dict())

    async def list_conversations(self, request: web.Request) -> web.Response:
        wanted, search = request.query.get("agent_id"), request.query.get("summary_search", "")
        found = [
            one.as_dict()
            for one in self.world.conversations.values()
            if (not wanted or one.agent_id == wanted) and search.lower() in (one.summary or "").lower()
        ]
        return web.json_response(_page(found, request.query, 50))

    async def read_conversation(self, request: web.Request) -> web.Response:
        return web.json_response(self._conversation(request.match_info["conversation"]).as_dict())

    async def change_conversation(self, request: web.Request) -> web.Response:
        conversation = self._conversation(request.match_info["conversation"])
        conversation.summary = (await request.json()).get("summary", conversation.summary)
        return web.json_response(conversation.as_dict())

    async def delete_conversation(self, request: web.Request) -> web.Response:
        del self.world.conversations[self._conversation(request.match_info["conversation"]).id]
        return web.json_response(None)

    def _place(self, request: web.Request, agent_id: str | None) -> tuple[Agent, Conversation | None]:
        """Who is meant: a conversation, or an agent directly (``default`` with an agent id, or the agent's id itself)."""
        name = request.match_info["conversation"]
        if name == "default" and agent_id:
            return self._agent(agent_id), None
        if name.startswith("agent-"):
            return self._agent(name), None
        conversation = self._conversation(name)
        return self._agent(conversation.agent_id), conversation

    async def send_to_conversation(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        agent, conversation = self._place(request, body.get("agent_id"))
        lock, streaming = conversation.id if conversation else agent.id, body.get("streaming", True) is not False
        return await self.turns.take(request, body, agent, conversation, lock_key=lock, streaming=streaming)

    async def conversation_messages(self, request: web.Request) -> web.Response:
        agent, conversation = self._place(request, request.query.get("agent_id"))
        kept = conversation.messages if conversation else [item for place, item in agent.messages if place is None]
        return web.json_response(_page(kept, request.query, 100))

    async def cancel_conversation(self, request: web.Request) -> web.Response:
        agent, conversation = self._place(request, request.query.get("agent_id"))
        what = f"conversation {conversation.id}" if conversation else f"agent {agent.id}"
        return self._cancel(agent.id, conversation.id if conversation else None, None, what)

    async def resume_conversation(self, request: web.Request) -> web.StreamResponse:
        body = (await request.json() if request.can_read_body else None) or {}
        if body.get("run_id"):
            return await self._resume(request, body["run_id"], body)
        if body.get("otid"):
            run_id = self.world.run_of_otid.get(body["otid"])
            if not run_id:
                words = f"No run found for otid={body['otid']}. The run may have expired or never existed."
                return detail(404, words)
            return await self._resume(request, run_id, body)
        agent, conversation = self._place(request, body.get("agent_id"))
        active = self.world.active_runs(agent.id, conversation.id if conversation else None)
        if not active:
            return detail(400, "INVALID_ARGUMENT: No active runs found for this conversation.")
        return await self._resume(request, active[-1].id, body)

    # Runs

    async def list_runs(self, request: web.Request) -> web.Response:
        query = request.query
        found = [
            run.as_dict()
            for run in self.world.runs.values()
            if query.get("agent_id") in (None, run.agent_id)
            and query.get("conversation_id") in (None, run.conversation_id)
        ]
        return web.json_response(_page(found, query, 100))

    async def read_run(self, request: web.Request) -> web.Response:
        run = self.world.runs.get(request.match_info["run"])
        return web.json_response(run.as_dict()) if run else detail(404, "Run not found")

    async def resume_run(self, request: web.Request) -> web.StreamResponse:
        body = (await request.json() if request.can_read_body else None) or {}
        return await self._resume(request, request.match_info["run"], body)

    async def _resume(self, request: web.Request, run_id: str, body: dict[str, Any]) -> web.StreamResponse:
        run = self.world.runs.get(run_id)
        if run is None:
            return detail(404, f"Run {run_id} not found.")
        if not run.background:
            return detail(400, "INVALID_ARGUMENT: Run was not created in background mode, so it cannot be retrieved.")
        after = int(body.get("starting_after") or 0)
        start = max((place + 1 for place, number in enumerate(run.numbers) if number and number <= after), default=0)
        return await self.turns.follow(request, run, start=start)

    # What tests change

    async def read_control(self, request: web.Request) -> web.Response:
        state = {"agents": len(self.world.agents), "conversations": len(self.world.conversations)}
        return web.json_response({"faults": self.world.faults.as_dict(), **state, "runs": len(self.world.runs)})

    async def all_ids(self, request: web.Request) -> web.Response:
        return web.json_response(self.world.ids())

    async def control(self, request: web.Request) -> web.Response:
        """``{"fresh": N, "reset": true, "agents": N, "rename": {id: name}, "delete": [id], "restore": [id], FAULT: VALUE ...}``."""
        body: dict[str, Any] = await request.json()
        if "fresh" in body:
            self.world.begin_anew(int(body.pop("fresh")))
        if body.pop("reset", False):
            self.world.faults = Faults()
        if "agents" in body:
            self.world.populate(int(body.pop("agents")))
        for agent_id, name in body.pop("rename", {}).items():
            self.world.agents[agent_id].name = name
            self.world.agents[agent_id].changed()
        for agent_id in body.pop("delete", []):
            self.world.remove_agent(agent_id)
        for agent_id in body.pop("restore", []):
            self.world.restore_agent(agent_id)
        try:
            self.world.faults.update(body)
        except ValueError as error:
            return detail(422, str(error))
        return await self.read_control(request)
