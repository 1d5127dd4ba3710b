"""What the stand-in for Letta holds: agents, conversations, runs, and the faults that a test switched on."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import Any

from .letta_events import DONE, Frame, new_id, now

_USER = "user-00000000-0000-4000-8000-000000000000"
_RUNS_KEPT = 10000
MODELS = ("openai-proxy/gpt-4o-mini", "openai-proxy/gpt-4o")
_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Faults:
    """What goes wrong. Counters fall by one for each request they hit; -1 lasts until it is reset.

    The list: ``half_list`` serves only the older half, ``fail_page`` answers 500 on that page (from 1), ``repeat_page`` gives
    that page again instead of the next one, ``ignore_cursor`` gives page 1 for ever, ``wrong_count`` is added to the count,
    ``count_missing`` answers 404 to the count, ``list_garbage`` sends a body that is no JSON, ``list_delay_ms`` waits.

    A message: ``busy`` answers 409, ``rate_limit`` 429 (with ``retry_after``), ``errors`` 500, ``unauthorized`` 401: none of
    them takes the input. ``lost_answers`` takes the input and works on it, but cuts the connection before any answer;
    ``garbage``, ``truncate`` and ``empty`` spoil the answer to an input that was taken. ``hang`` takes it and never answers.
    ``delay_ms`` is the time to the first token, ``tokens_per_second`` the speed after it (0: at once).
    ``only_agents`` limits the faults of messages to these agents. ``one_at_a_time`` answers 409 while an agent works.
    """

    half_list: bool = False
    fail_page: int = 0
    repeat_page: int = 0
    ignore_cursor: bool = False
    wrong_count: int = 0
    count_missing: bool = False
    list_garbage: int = 0
    list_delay_ms: float = 0.0
    busy: int = 0
    rate_limit: int = 0
    retry_after: str = "1"
    errors: int = 0
    unauthorized: int = 0
    lost_answers: int = 0
    garbage: int = 0
    truncate: int = 0
    empty: int = 0
    hang: int = 0
    delay_ms: float = 0.0
    tokens_per_second: float = 0.0
    only_agents: list[str] = field(default_factory=list)
    one_at_a_time: bool = False

    def update(self, values: dict[str, Any]) -> None:
        """Switch faults on. An unknown name is a test's mistake and raises ``ValueError``."""
        unknown = set(values) - {known.name for known in fields(self)}
        if unknown:
            raise ValueError(f"unknown faults: {', '.join(sorted(unknown))}")
        for name, value in values.items():
            setattr(self, name, value)

    def hits(self, name: str, agent: str = "") -> bool:
        """Whether the fault hits this request; counts it down."""
        left: int = getattr(self, name)
        if not left or (agent and self.only_agents and agent not in self.only_agents):
            return False
        if left > 0:
            setattr(self, name, left - 1)
        return True

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Agent:
    """One agent. Its JSON is made once and again after a change, since lists of 10,000 are asked for often."""

    __slots__ = ("_json", "blocks", "created_at", "description", "id", "messages", "model", "name", "running")

    def __init__(self, agent_id: str, name: str, created_at: str, description: str | None = None) -> None:
        self.id = agent_id
        self.name = name
        self.description = description
        self.model = MODELS[0]
        self.created_at = created_at
        self.blocks: dict[str, dict[str, Any]] | None = None
        # Everything said to it, each with its conversation (None: said to the agent directly).
        self.messages: list[tuple[str | None, dict[str, Any]]] = []
        self.running = 0
        self._json = ""

    def memory(self) -> dict[str, dict[str, Any]]:
        """Its blocks by label; made at the first look."""
        if self.blocks is None:
            self.blocks = {
                label: self._block(label, value) for label, value in (("persona", "A test agent."), ("human", ""))
            }
        return self.blocks

    def _block(self, label: str, value: str) -> dict[str, Any]:
        return {
            "value": value,
            "limit": 100000,
            "label": label,
            "read_only": False,
            "description": f"The {label} block.",
            "metadata": {},
            "hidden": None,
            "id": f"block-{self.id.partition('-')[2][:-1]}{'1' if label == 'human' else '0'}",
            "created_by_id": None,
            "last_updated_by_id": None,
            "tags": [],
        }

    def changed(self) -> None:
        self._json = ""

    def json(self) -> str:
        if not self._json:
            self._json = json.dumps(
                {
                    "id": self.id,
                    "name": self.name,
                    "description": self.description,
                    "created_at": self.created_at,
                    "updated_at": self.created_at,
                    "agent_type": "letta_v1_agent",
                    "model": self.model,
                    "embedding": "openai/text-embedding-3-small",
                    "llm_config": {"model": "gpt-4o-mini", "model_endpoint_type": "openai", "context_window": 128000},
                    "system": "You are a test agent.",
                    "memory": {"blocks": list(self.memory().values()) if self.blocks is not None else []},
                    "tools": [],
                    "tags": [],
                    "metadata": None,
                    "message_ids": [],
                }
            )
        return self._json


@dataclass(slots=True)
class Conversation:
    """One conversation of an agent, with its messages, oldest first."""

    id: str
    agent_id: str
    summary: str | None
    created_at: str
    messages: list[dict[str, Any]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return {
            "created_by_id": _USER,
            "last_updated_by_id": _USER,
            "created_at": self.created_at,
            "updated_at": self.created_at,
            "id": self.id,
            "agent_id": self.agent_id,
            "summary": self.summary,
            "in_context_message_ids": [],
            "isolated_block_ids": [],
            "model": None,
            "model_settings": None,
            "last_message_at": self.messages[-1]["date"] if self.messages else None,
        }


class Run:
    """One turn on the server's side. It goes on when the client hangs up, as Letta's does."""

    def __init__(self, agent_id: str, conversation_id: str | None, background: bool) -> None:
        self.id = new_id("run")
        self.agent_id = agent_id
        self.conversation_id = conversation_id
        self.background = background
        self.status = "running"
        self.created_at = now()
        self.cancelled = asyncio.Event()
        self.pieces: list[str] = []
        self.numbers: list[int | None] = []
        self._next = 1
        self._changed = asyncio.Event()

    @property
    def is_over(self) -> bool:
        return self.status != "running"

    def add(self, frame: Frame) -> None:
        """Append a frame to the stream; background runs number their messages from 1."""
        number = None
        if self.background and frame.seq:
            number = self._next
            self._next += 1
            frame.data["seq_id"] = number
        self.pieces.append(frame.text())
        self.numbers.append(number)
        self.wake()

    def add_raw(self, text: str) -> None:
        self.pieces.append(text)
        self.numbers.append(None)
        self.wake()

    def end(self, status: str) -> None:
        self.status = status
        self.wake()

    def wake(self) -> None:
        self._changed.set()

    async def more(self, seen: int) -> None:
        """Wait until there are more than ``seen`` pieces or the run is over."""
        while len(self.pieces) <= seen and not self.is_over:
            self._changed.clear()
            await self._changed.wait()

    async def ended(self) -> None:
        """Wait until the run is over."""
        while not self.is_over:
            await self.more(len(self.pieces))

    def finish(self, status: str) -> None:
        """The end of a run that was not cancelled."""
        self.add_raw(DONE)
        self.end(status)

    def as_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "status": self.status,
            "created_at": self.created_at,
            "agent_id": self.agent_id,
            "conversation_id": self.conversation_id,
            "background": self.background,
            "stop_reason": {"completed": "end_turn", "cancelled": "cancelled"}.get(self.status),
        }


class World:
    """All of it. Agents are kept in the order in which they were made."""

    def __init__(self, agents: int = 0) -> None:
        self.begin_anew(agents)

    def begin_anew(self, agents: int) -> None:
        """Forget everything and make ``agents`` agents, with the same ids as ever."""
        self.faults = Faults()
        self.agents: dict[str, Agent] = {}
        self.conversations: dict[str, Conversation] = {}
        self.runs: dict[str, Run] = {}
        self.run_of_otid: dict[str, str] = {}
        self.taken_otids: set[str] = set()
        self.locks: dict[str, Run] = {}
        self._made = 0
        self._order: list[str] | None = None
        self._graves: dict[str, Agent] = {}
        self.populate(agents)

    def populate(self, count: int) -> None:
        """Make or remove the newest agents until there are ``count``."""
        while len(self.agents) < count:
            self.make_agent()
        for agent_id in list(self.agents)[count:]:
            self.remove_agent(agent_id)

    def make_agent(self, name: str = "", description: str | None = None) -> Agent:
        self._made += 1
        number = self._made
        created = (_EPOCH + timedelta(seconds=number)).isoformat().replace("+00:00", "Z")
        agent = Agent(
            f"agent-{number:08x}-0000-4000-8000-{number:012x}", name or f"Agent {number:05d}", created, description
        )
        self.agents[agent.id] = agent
        self._order = None
        return agent

    def remove_agent(self, agent_id: str) -> None:
        self._graves[agent_id] = self.agents.pop(agent_id)
        self._order = None

    def restore_agent(self, agent_id: str) -> None:
        """An agent that was removed is back, with its old id and age."""
        self.agents[agent_id] = self._graves.pop(agent_id)
        self.agents = dict(sorted(self.agents.items(), key=lambda item: item[1].created_at))
        self._order = None

    def ids(self) -> list[str]:
        """Oldest first."""
        if self._order is None:
            self._order = list(self.agents)
        return self._order

    def remember(self, run: Run, otid: str) -> None:
        """Keep the run for cancelling and resuming; the oldest are forgotten, as Letta's expire."""
        self.runs[run.id] = run
        if otid:
            self.taken_otids.add(otid)
            self.run_of_otid[otid] = run.id
        if len(self.runs) > _RUNS_KEPT:
            for run_id in list(self.runs)[: _RUNS_KEPT // 2]:
                if self.runs[run_id].is_over:
                    del self.runs[run_id]

    def active_runs(self, agent_id: str, conversation_id: str | None) -> list[Run]:
        """Runs that still work, of one conversation, or of the agent when none is named."""
        return [
            run
            for run in self.runs.values()
            if not run.is_over
            and run.agent_id == agent_id
            and (conversation_id is None or run.conversation_id == conversation_id)
        ]

    def open_conversation(self, agent_id: str, summary: str | None) -> Conversation:
        conversation = Conversation(new_id("conv"), agent_id, summary, now())
        self.conversations[conversation.id] = conversation
        return conversation
