"""Agents, their mappings and their memory keep versions; bringing one back goes through the services that operators use."""

from __future__ import annotations

from typing import Any

from agents.backends.base import ModelChoice
from agents.backends.errors import BackendError
from agents.backends.registry import BACKENDS
from agents.matrix.errors import MatrixError
from agents.models import Account, Agent, Mapping, Room
from ops.history.registry import CannotBringBack, Done, Wanted, register_versioned

MEMORY = "agents.memoryblock"


def memory_key(agent: Agent, label: str) -> str:
    """By what the versions of a memory block are found."""
    return f"{agent.pk}:{label}"[:255]


def _defined_here(agent: Agent) -> bool:
    kind = BACKENDS.get(agent.service.kind)
    return kind is not None and kind.traits.defined_here


def _more_of_agents(rows: list[Agent]) -> dict[int, dict[str, Any]]:
    from ops.models import Service

    services = Service.objects.in_bulk({row.service_id for row in rows})
    found: dict[int, dict[str, Any]] = {}
    for row in rows:
        row.service = services[row.service_id]
        found[row.pk] = {"server": f"{row.service.name}: {row.external_id}"}
        # What it is called is an operator's word where it is defined, and its server's elsewhere.
        names = ("name", "description") if _defined_here(row) else ("said_name", "said_description")
        found[row.pk] |= dict(zip(names, (row.name, row.description), strict=True))
    return found


def _agent(wanted: Wanted) -> Done:
    from agents.services.agents import agent_define, agent_pause, agent_resume, agent_set_memory_policy
    from agents.services.backends import backend_for
    from agents.services.models import agent_set_model

    state, agent = wanted.state, wanted.present
    if agent is None:
        raise CannotBringBack(
            f"{wanted.label} has no row any more. Sync makes one as soon as its server lists it; bring it back then.",
            code="version.agent_gone",
        )
    said = []
    if _defined_here(agent) and state.get("definition") and "name" in state:
        agent_define(
            service=agent.service,
            name=state["name"],
            description=state["description"],
            system_prompt=state["definition"].get("system_prompt", ""),
            model=state["definition"].get("model", ""),
            max_tokens=state["definition"].get("max_tokens"),
            agent=agent,
            actor=wanted.actor,
        )
    elif state["model"] and state["model"] != agent.model:
        try:
            if isinstance(backend_for(agent.service), ModelChoice):
                agent_set_model(agent=agent, model=state["model"], actor=wanted.actor)
                said.append(f"Its model is {state['model']} again.")
        except BackendError as error:
            raise CannotBringBack(
                f"The model of {agent.name} could not be changed on {agent.service.name}: {error.reason}",
                code=error.code,
            ) from error
    agent_set_memory_policy(agent=agent, policy=state["memory_policy"], actor=wanted.actor)
    (agent_pause if state["paused"] else agent_resume)(agent=agent, actor=wanted.actor)
    said.insert(0, f"{agent.name} is set as it was.")
    if "server" in state and state["server"] != f"{agent.service.name}: {agent.external_id}":
        said.append(f"It lived on {state['server']} then; move it there if it is to be answered from there again.")
    return Done(" ".join(said))


def _more_of_mappings(rows: list[Mapping]) -> dict[int, dict[str, Any]]:
    agents = Agent.objects.in_bulk({row.agent_id for row in rows})
    accounts = Account.objects.in_bulk({row.account_id for row in rows})
    rooms = Room.objects.in_bulk({row.room_id for row in rows if row.room_id})
    found: dict[int, dict[str, Any]] = {}
    for row in rows:
        room = rooms.get(row.room_id) if row.room_id else None
        found[row.pk] = {
            "agent_name": agents[row.agent_id].name,
            "user_id": accounts[row.account_id].user_id,
            "matrix_room": (room.room_id or "") if room is not None else "",
            "quiet": room.quiet if room is not None else False,
        }
    return found


def _mapping(wanted: Wanted) -> Done:
    from agents.services.mapping_versions import mapping_bring_back

    try:
        return mapping_bring_back(wanted=wanted)
    except MatrixError as error:
        raise CannotBringBack(f"The homeserver was asked, in vain: {error.sentence}", code=error.code) from error
    except ValueError as error:
        raise CannotBringBack(str(error), code="version.room_in_use") from error


def _memory(wanted: Wanted) -> Done:
    from agents.services.memory import memory_write

    key, _, label = wanted.object_id.partition(":")
    agent = Agent.objects.select_related("service").filter(pk=int(key)).first()
    if agent is None:
        raise CannotBringBack(f"{wanted.label}: the agent has no row any more.", code="version.agent_gone")
    label = wanted.state.get("label", label)
    try:
        memory_write(agent=agent, label=label, value=wanted.state["text"], actor=wanted.actor)
    except BackendError as error:
        raise CannotBringBack(f"{agent.name} was not given its memory back: {error.reason}", code=error.code) from error
    return Done(f"The memory block {label} of {agent.name} says what it said.")


register_versioned(
    "agents.Agent",
    label="Agent",
    fields=("paused", "memory_policy", "definition", "state", "model"),
    more=_more_of_agents,
    observed=("state", "model", "said_name", "said_description", "server"),
    deliberate=("agent.model_set", "agent.moved"),
    labels={"said_name": "name", "said_description": "description"},
    bring_back=_agent,
)
register_versioned(
    "agents.Mapping",
    label="Mapping",
    fields=("agent", "account", "room"),
    more=_more_of_mappings,
    observed=("agent_name", "account", "room"),
    gone_by=("mapping.removed",),
    through={"agents.Account": "account_id", "agents.Room": "room_id"},
    labels={
        "user_id": "Matrix account",
        "matrix_room": "Matrix room",
        "account": "account's row",
        "room": "room's row",
    },
    bring_back=_mapping,
)
register_versioned(MEMORY, label="Memory block", bring_back=_memory)
