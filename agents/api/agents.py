"""Agents and their memory."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from ninja import Field, Query, Router

from agents.api.schemas import AgentDetailOut, AgentList, MemoryBlockOut, MemoryEditList, MemoryOut
from agents.backends.base import MemoryBlock
from agents.models import Agent, AgentState, MemoryEdit, MemoryPolicy
from agents.services.agents import agent_pause, agent_resume, agent_set_memory_policy
from agents.services.memory import has_memory, memory_read, memory_write
from ops.api.answers import answer
from ops.api.inputs import Body, Id, Text
from ops.api.iso import IsoTime
from ops.api.paging import Paging, page, tuples
from ops.api.principals import principal_of
from ops.api.problems import not_found
from ops.redaction import redact

router = Router(tags=["Agents"])

# In the order in which ``_row`` reads them.
COLUMNS = (
    "id", "service__name", "external_id", "name", "description", "model", "avatar_url", "state", "paused", "memory_policy",
    IsoTime("missing_since"), "mapping__id", "mapping__account__user_id", "mapping__room_id", "mapping__room__room_id",
    "mapping__room__alias", "mapping__problem",
    IsoTime("created_at"), IsoTime("updated_at"),
)  # fmt: skip
_ROWS = tuples(Agent, COLUMNS)


class AgentFilter(Paging):
    service: Text = Field("", description="Only agents of the service of this name.")
    state: AgentState | None = None
    paused: bool | None = None
    external_id: Text = Field("", description="The id on its own server.")
    search: Text = Field("", max_length=200, description="Part of the name, or the whole id or Matrix id.")


class AgentPatch(Body):
    """What is left out stays."""

    paused: bool | None = None
    memory_policy: MemoryPolicy | None = Field(None, description="isolated or shared")


class MemoryIn(Body):
    value: Text = Field(max_length=1_000_000, examples=["I am a patient librarian."])


def _row(row: tuple[Any, ...]) -> dict[str, Any]:
    return {
        "id": row[0],
        "service": row[1],
        "external_id": row[2],
        "name": row[3],
        "description": row[4],
        "model": row[5],
        "avatar_url": row[6],
        "state": row[7],
        "paused": row[8],
        "memory_policy": row[9],
        "missing_since": row[10],
        "mapping": row[11],
        "account": row[12],
        "room": {"id": row[13], "room_id": row[14], "alias": row[15]} if row[13] else None,
        "problem": row[16] or "",
        "created_at": row[17],
        "updated_at": row[18],
    }


def agent_of(agent_id: int) -> Agent:
    """The agent with what writes about it need. Raises ``Problem``."""
    agent = Agent.objects.select_related("service", "mapping__account", "mapping__room").filter(pk=agent_id).first()
    if agent is None:
        raise not_found("agent", agent_id)
    return agent


def detail_dict(agent: Agent) -> dict[str, Any]:
    """An agent with what a list leaves out, as JSON."""
    mapping = getattr(agent, "mapping", None)
    room = mapping.room if mapping else None
    values = (
        agent.pk, agent.service.name, agent.external_id, agent.name, agent.description, agent.model, agent.avatar_url,
        agent.state, agent.paused, agent.memory_policy, agent.missing_since, mapping and mapping.pk,
        mapping and mapping.account.user_id, room and room.pk, room and room.room_id, room and room.alias,
        mapping and mapping.problem, agent.created_at, agent.updated_at,
    )  # fmt: skip
    return {
        **_row(values),
        "metadata": redact(agent.metadata),
        "definition": agent.definition,
        "has_memory": has_memory(agent),
    }


@router.get("", response=AgentList, operation_id="agents_list", summary="List agents")
def agents_list(request: HttpRequest, query: Query[AgentFilter]) -> HttpResponse:
    rows = _ROWS.all()
    if query.service:
        rows = rows.filter(service__name=query.service)
    if query.state:
        rows = rows.filter(state=query.state)
    if query.paused is not None:
        rows = rows.filter(paused=query.paused)
    if query.external_id:
        rows = rows.filter(external_id=query.external_id)
    if query.search:
        exact = Q(external_id=query.search) | Q(mapping__account__user_id=query.search)
        rows = rows.filter(exact | Q(name__icontains=query.search))
    return page(request, rows, query, render=_row)


@router.get("/{agent_id}", response=AgentDetailOut, operation_id="agents_get", summary="Get an agent")
def agents_get(request: HttpRequest, agent_id: Id) -> HttpResponse:
    return answer(detail_dict(agent_of(agent_id)))


@router.patch(
    "/{agent_id}", response=AgentDetailOut, operation_id="agents_update", summary="Pause an agent, set its policy"
)
def agents_update(request: HttpRequest, agent_id: Id, body: AgentPatch) -> HttpResponse:
    """A paused agent's messages are kept and answered when it is resumed."""
    agent, actor = agent_of(agent_id), principal_of(request).actor
    if body.memory_policy is not None:
        agent_set_memory_policy(agent=agent, policy=body.memory_policy, actor=actor)
    if body.paused is not None:
        (agent_pause if body.paused else agent_resume)(agent=agent, actor=actor)
    return answer(detail_dict(agent_of(agent_id)))


def _block(block: MemoryBlock) -> dict[str, Any]:
    values = asdict(block)
    values.pop("id")
    return values


@router.get(
    "/{agent_id}/memory", response=MemoryOut, operation_id="memory_list", summary="Read an agent's memory blocks"
)
def memory_list(request: HttpRequest, agent_id: Id) -> HttpResponse:
    """Asks the agent's server now. Empty where the kind of server keeps none."""
    return answer({"items": [_block(block) for block in memory_read(agent=agent_of(agent_id))]})


@router.put(
    "/{agent_id}/memory/{path:label}",
    response=MemoryBlockOut,
    operation_id="memory_put",
    summary="Replace a memory block's text",
)
def memory_put(request: HttpRequest, agent_id: Id, label: Text, body: MemoryIn) -> HttpResponse:
    """The text that was there before is kept in the agent's memory edits."""
    block = memory_write(agent=agent_of(agent_id), label=label, value=body.value, actor=principal_of(request).actor)
    return answer(_block(block))


_EDIT = ("id", "label", "before", "after", "actor", "at")
_EDITS = tuples(MemoryEdit, _EDIT, order=("-id",))


def _edit(row: tuple[Any, ...]) -> dict[str, Any]:
    return dict(zip(_EDIT, row, strict=False))


@router.get(
    "/{agent_id}/memory-edits",
    response=MemoryEditList,
    operation_id="memory_edits",
    summary="Who changed what in its memory",
)
def memory_edits(request: HttpRequest, agent_id: Id, query: Query[Paging]) -> HttpResponse:
    return page(request, _EDITS.filter(agent=agent_of(agent_id)), query, render=_edit, order=("-id",))
