"""Shapes of answers about agents, for the description of the API."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ninja import Field, Schema


class AgentRoom(Schema):
    """The agent's own room: our row's `id`, the homeserver's `room_id` (null until it exists) and its address."""

    id: int
    room_id: str | None
    alias: str


class AgentOut(Schema):
    """An agent of one service. `external_id` is that server's own id; it never changes."""

    id: int
    service: str = Field(examples=["letta"])
    external_id: str = Field(examples=["agent-0f1e2d3c"])
    name: str = Field(examples=["Ada"])
    description: str
    model: str
    avatar_url: str
    state: str = Field(description="active, missing (not in the last complete list) or archived")
    paused: bool = Field(description="Messages are kept and wait.")
    memory_policy: str = Field(description="isolated or shared")
    missing_since: datetime | None
    mapping: int | None
    account: str | None = Field(description="The Matrix user that it speaks as.")
    room: AgentRoom | None
    problem: str = Field(description='What is wrong with its account or room, "" when well.')
    created_at: datetime
    updated_at: datetime


class AgentList(Schema):
    items: list[AgentOut]
    next: str | None


class AgentDetailOut(AgentOut):
    metadata: dict[str, Any]
    definition: dict[str, Any] = Field(description="Of agents that are defined in Switchboard.")
    has_memory: bool


class MemoryBlockOut(Schema):
    label: str = Field(examples=["persona"])
    value: str
    description: str
    limit: int | None = Field(description="Characters.")
    read_only: bool


class MemoryOut(Schema):
    items: list[MemoryBlockOut]


class MemoryEditOut(Schema):
    id: int
    label: str
    before: str
    after: str
    actor: str
    at: datetime


class MemoryEditList(Schema):
    items: list[MemoryEditOut]
    next: str | None


class MappingOut(Schema):
    """An agent with its account and its room."""

    id: int
    agent: int
    agent_name: str
    service: str
    status: str = Field(description="connected, ready, incomplete, paused, missing, trouble or archived")
    account: str
    account_registered_at: datetime | None
    room: AgentRoom | None
    problem: str
    problem_since: datetime | None
    created_at: datetime
    updated_at: datetime


class MappingList(Schema):
    items: list[MappingOut]
    next: str | None


class RecreatedOut(Schema):
    """What was found and done."""

    account: str = Field(description="registered or adopted")
    room: str = Field(description="kept, rejoined, adopted or created")
    room_id: str
    former_room_id: str
    sentence: str


class RebuildOut(Schema):
    """What a rebuild would find. `doubts` need a decision; `unclaimed` are accounts of ours that no listed agent owns."""

    service: str
    space: dict[str, str] | None
    known_already: int
    found: list[dict[str, Any]]
    doubts: list[dict[str, Any]]
    absent: list[dict[str, str]]
    unclaimed: list[str]
    findings: list[FindingOut]


class RoomOut(Schema):
    """A Matrix room. `link` opens it in a Matrix client."""

    id: int
    kind: str = Field(description="agent, direct or space")
    room_id: str | None
    alias: str
    name: str
    topic: str
    in_space: bool
    quiet: bool = Field(description="Messages are kept, and answered only when the agent is mentioned.")
    encrypted: bool
    agent: int | None
    link: str
    created_at: datetime


class RoomList(Schema):
    items: list[RoomOut]
    next: str | None


class FindingOut(Schema):
    severity: str
    code: str
    sentence: str
    target: str
    evidence: dict[str, Any]


class SyncPlanOut(Schema):
    """What a sync would do. `stopped` names services whose plan looks like a mistake: it needs `force`."""

    run: int | None
    state: str
    planned: dict[str, int]
    applied: dict[str, int]
    stopped: list[str]
    looked: dict[str, Any] = Field(description="How much was compared with the homeserver; empty: nothing.")
    drift: list[dict[str, Any]] = Field(description="What differs on the homeserver: kind, mapping, sentence, mends, …")
    steps: list[dict[str, Any]]
    findings: list[FindingOut]
    error: str


class SyncRunOut(Schema):
    id: int
    state: str = Field(description="running, done, stopped (needs a decision) or failed")
    trigger: str
    actor: str
    service: str
    counts: dict[str, int]
    findings: list[FindingOut]
    looked: dict[str, Any] = Field(
        description="What was compared with the homeserver: mappings, found, mended, open; empty: nothing."
    )
    error: str
    started_at: datetime
    finished_at: datetime | None


class SyncRunList(Schema):
    items: list[SyncRunOut]
    next: str | None


class SyncRunDetailOut(SyncRunOut):
    plan: list[dict[str, Any]]
