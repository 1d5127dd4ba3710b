"""``mapping.stale``: agents that are gone from their server and that sync did not archive by itself. ``mapping.prune`` does."""

from __future__ import annotations

from typing import Any

from agents.backends.errors import BackendError
from agents.doctor.mappings.runs import Pass, passes
from agents.matrix.errors import MatrixError
from agents.models import Agent, AgentState, Mapping, Room, RoomKind
from agents.services.backends import backend_for, homeserver_of
from agents.services.mappings import agents_archive, rows_kept, rows_put_back
from agents.sync import rooms as steps
from ops.doctor.repairs import Change, Plan, RepairFailed, RepairRefused, RepairWork, register_repair
from ops.registry import Affected, CheckOutcome, register_check
from ops.words import counted, verb

CODE = "sync.suspicious"


@register_check(
    "mapping.stale",
    title="Every mapping belongs to an agent that exists",
    tags=["agents", "data"],
    interval=60,
    severity="warning",
    depends_on=["db.reachable"],
    repairs=["mapping.prune"],
)
def mapping_stale() -> CheckOutcome:
    """Agents that two complete lists in a row did not have, and that sync asks about because they are suspiciously many.

    A few that are gone are archived by sync itself, at the second complete list. Never judged by a list that failed or was
    not complete.
    """
    gone = _gone_for_sync()
    agents = list(
        Agent.objects.filter(pk__in=gone)
        .exclude(state=AgentState.ARCHIVED)
        .order_by("pk")
        .values_list("pk", "name", "service__name", "mapping__pk")
    )
    if not agents:
        return CheckOutcome("pass", "No mapping belongs to an agent that is gone.")
    services = sorted({service for _, _, service, _ in agents})
    return CheckOutcome(
        "warn",
        f"{counted(len(agents), 'agent')} of {', '.join(services)} {verb(len(agents), 'was', 'were')} not in the last two complete "
        f"lists, and still {verb(len(agents), 'has its room', 'have their rooms')}. They are too many for sync to archive "
        "unasked: look whether the address is right, then archive them.",
        {"count": len(agents), "services": services, "agents": [name for _, name, _, _ in agents[:20]]},
        affected=tuple(
            Affected(f"agent:{pk}", f"{name} is no longer in the list of {service}.", {"mapping": mapping})
            for pk, name, service, mapping in agents
        ),
    )


def _gone_for_sync() -> set[int]:
    """Ids of agents that both of the last two passes of a service stopped for."""
    found: set[int] = set()
    for runs in passes(2).values():
        if len(runs) == 2:
            found |= _named(runs[0]) & _named(runs[1])
    return found


def _named(one: Pass) -> set[int]:
    return {
        int(pk)
        for finding in one.findings
        if finding.get("code") == CODE
        for pk in (finding.get("evidence") or {}).get("agents", [])
    }


def plan(work: RepairWork) -> Plan:
    """Reads the lists anew: only what is not there now, on a list that is proven complete, may be archived."""
    wanted = _wanted(work)
    agents = list(
        Agent.objects.filter(pk__in=wanted)
        .exclude(state=AgentState.ARCHIVED)
        .select_related("service", "mapping__room")
        .order_by("pk")
    )
    listed = {service: _listed(service) for service in {agent.service for agent in agents}}
    gone = [agent for agent in agents if agent.external_id not in listed[agent.service]]
    back = len(agents) - len(gone)
    changes = [Change(f"agent:{agent.pk}", "state", str(agent.state), str(AgentState.ARCHIVED)) for agent in gone]
    rooms = [mapping.room for agent in gone if (mapping := getattr(agent, "mapping", None)) and mapping.room]
    listed_rooms = [room for room in rooms if room.in_space]
    changes += [Change(f"room:{room.pk}", "in the space", True, False) for room in listed_rooms]
    sentence = (
        f"{counted(len(gone), 'agent is archived; its', 'agents are archived; their')} accounts, rooms and conversations stay."
        if gone
        else ""
    )
    if back:
        stay = verb(back, "is in the list again and stays as it is", "are in the list again and stay as they are")
        sentence += f" {back:,} {stay}."
    mappings = Mapping.objects.filter(agent__in=gone)
    return Plan(
        sentence.strip() or "No agent is gone.",
        tuple(changes),
        {"agents": [agent.pk for agent in gone], "rooms": [room.pk for room in listed_rooms]},
        {"rows": rows_kept(gone, rooms, mappings), "rooms": [room.pk for room in listed_rooms]},
    )


def _wanted(work: RepairWork) -> set[int]:
    targets = [work.target] if work.target else list(work.affected)
    found: set[int] = set() if work.target else _gone_for_sync()
    for target in targets:
        kind, _, key = target.partition(":")
        if kind == "agent" and key.isdigit():
            found.add(int(key))
        elif kind == "mapping" and key.isdigit():
            found |= set(Mapping.objects.filter(pk=int(key)).values_list("agent_id", flat=True))
    return found


def _listed(service: Any) -> set[str]:
    try:
        listing = backend_for(service).list_agents()
    except BackendError as error:
        raise RepairRefused(
            f"The agents of {service.name} cannot be read, so nothing is archived: {error.reason}"
        ) from error
    if not listing.complete:
        raise RepairRefused(f"The list of {service.name} is not complete ({listing.proof}); nothing is archived on it.")
    return {info.external_id for info in listing.agents}


def apply(work: RepairWork) -> dict[str, Any]:
    """Archive, and take the rooms out of the space."""
    agents = list(Agent.objects.filter(pk__in=work.plan.data["agents"]))
    count = agents_archive(agents=agents, actor=work.actor, reason="Gone from its server.")
    try:
        for room in Room.objects.filter(pk__in=work.plan.data["rooms"]).select_related("homeserver"):
            space = _space(room)
            if space:
                steps.remove_from_space(homeserver_of(room.homeserver), room, space)
    except MatrixError as error:
        raise RepairFailed(error.sentence) from error
    return {"archived": count, "rooms_out_of_the_space": len(work.plan.data["rooms"])}


def _space(room: Room) -> str:
    found = Room.objects.filter(homeserver_id=room.homeserver_id, kind=RoomKind.SPACE).values_list("room_id", flat=True)
    return next((room_id for room_id in found if room_id), "")


def undo(work: RepairWork) -> None:
    """The rows as they were to the byte, and the rooms in the space again."""
    for room in Room.objects.filter(pk__in=work.snapshot["rooms"]).select_related("homeserver", "mapping__agent"):
        space = _space(room)
        if space and not room.in_space:
            homeserver = homeserver_of(room.homeserver)
            steps.add_to_space(homeserver, room, space, room.mapping.agent.name)
    rows_put_back(kept=work.snapshot["rows"], actor=work.actor, message="Archiving was undone.")


register_repair(
    "mapping.prune",
    title="Archive agents that are gone from their server",
    repair_class="C",
    button="Archive them",
    explain="Reads the server's list again and archives those of our agents that are certainly not in it. Accounts, rooms and "
    "conversations stay; rooms leave the space. An agent that comes back is taken back with all of it.",
    plan=plan,
    apply=apply,
    undo=undo,
    target_kinds=("agent", "mapping"),
)
