"""Ways to cause the failures of mappings, sync and storage for real."""

from __future__ import annotations

import json
import math
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.utils import timezone

from agents.doctor.mappings.lost import CODE as LOST
from agents.doctor.mappings.pace import VISIBLE_SECONDS
from agents.doctor.mappings.relay import cutting_relay
from agents.doctor.mappings.relink import move_address
from agents.doctor.mappings.runs import last_runs
from agents.doctor.mappings.storage import examine, folders
from agents.models import Agent, AgentState, Invitation, Mapping, MappingImport, Room, RoomKind, SyncRun, SyncState
from agents.services.backends import Homeserver, backend_services, homeserver_of
from agents.services.import_preparing import import_prepare
from agents.services.mappings import rows_kept, rows_put_back
from agents.services.storage_marks import MARK
from agents.services.sync import sync_agents
from agents.services.sync_pace import Pace, pace_set_by_hand, sync_pace_restore
from agents.sync.stops import SUSPICIOUS_LEAST, SUSPICIOUS_SHARE
from ops.doctor.faults import FaultRefused, register_fault
from ops.live import live_set
from ops.models import Service

ACTOR = "fault"
GHOST = "ghost-"
LOSE_AT_LEAST, LOSE_AT_MOST = SUSPICIOUS_LEAST + 1, 6


# mapping.stale: more agents than sync archives unasked are gone from their server.


def lose_agents() -> dict[str, Any]:
    """Agents that their server does not list, as after somebody deleted them there; two passes notice."""
    service = next(iter(backend_services()), None)
    made = service is None
    if service is None:
        service = Service.objects.create(name="practice", kind="demo")
    population = Agent.objects.filter(service=service).exclude(state=AgentState.ARCHIVED).count()
    # More than a fifth of all, these included.
    count = max(SUSPICIOUS_LEAST, math.floor(population * SUSPICIOUS_SHARE / (1 - SUSPICIOUS_SHARE))) + 2
    ghosts = Agent.objects.bulk_create(
        [Agent(service=service, external_id=f"{GHOST}{number}", name=f"Ghost {number}") for number in range(count)]
    )
    for _ in range(2):
        sync_agents(actor=ACTOR, trigger="fault", service_name=service.name, wait=60)
    return {"service": service.pk if made else None, "agents": [agent.pk for agent in ghosts]}


def forget_ghosts(memory: dict[str, Any]) -> None:
    """The agents that never were."""
    Mapping.objects.filter(agent__in=memory["agents"]).delete()
    Agent.objects.filter(pk__in=memory["agents"]).delete()
    if memory["service"]:
        Agent.objects.filter(service=memory["service"]).delete()
        Service.objects.filter(pk=memory["service"]).delete()


register_fault(
    "mapping.stale",
    title="Delete many agents on their server",
    cause=lose_agents,
    heal=forget_ghosts,
    evidence=("count", "services"),
)


# mapping.room_drift and mapping.duplicate_rooms: a second room of an agent.


def _a_mapping() -> tuple[Mapping, Homeserver]:
    mapping = (
        Mapping.objects.select_related("account__homeserver", "room", "agent")
        .filter(room__room_id__isnull=False, account__registered_at__isnull=False, agent__state=AgentState.ACTIVE)
        .exclude(room__alias="")
        .order_by("pk")
        .first()
    )
    if mapping is None or mapping.room is None:
        raise FaultRefused("No agent has a room on the homeserver yet: sync first.")
    return mapping, homeserver_of(mapping.account.homeserver)


def _second_room(homeserver: Homeserver, mapping: Mapping) -> str:
    return homeserver.client.create_room(
        user_id=mapping.account.user_id, name=mapping.agent.name, preset="private_chat", topic="A second room"
    )


def _kept(mapping: Mapping) -> list[dict[str, Any]]:
    rooms = Room.objects.filter(mapping=mapping)
    return rows_kept(rooms, mapping, Invitation.objects.filter(room__in=rooms))


def move_the_address() -> dict[str, Any]:
    """The agent gets another room with its address, as after an older program has made its rooms anew."""
    mapping, homeserver = _a_mapping()
    assert mapping.room is not None
    fresh = _second_room(homeserver, mapping)
    move_address(homeserver, mapping.room.alias, fresh, mapping.account.user_id)
    return {"mapping": mapping.pk, "old": mapping.room.room_id, "new": fresh, "rows": _kept(mapping)}


def put_the_address_back(memory: dict[str, Any]) -> None:
    """Row, address and space as they were; the agent leaves the other room."""
    rows_put_back(kept=memory["rows"], actor=ACTOR, message="A fault was healed.")
    mapping = Mapping.objects.select_related("account__homeserver", "room", "agent").get(pk=memory["mapping"])
    homeserver = homeserver_of(mapping.account.homeserver)
    assert mapping.room is not None
    move_address(homeserver, mapping.room.alias, memory["old"], mapping.account.user_id)
    space = Room.objects.filter(homeserver=homeserver.service, kind=RoomKind.SPACE).first()
    if space is not None and space.room_id:
        children = homeserver.client.space_children(space.room_id, homeserver.sender_id)
        if memory["new"] in children:
            homeserver.client.remove_from_space(space.room_id, memory["new"], user_id=homeserver.sender_id)
        if mapping.room.in_space and memory["old"] not in children:
            homeserver.client.add_to_space(
                space.room_id, memory["old"], user_id=homeserver.sender_id, order=mapping.room.child_order
            )
    _leave(homeserver, memory["new"], mapping.account.user_id)


def _leave(homeserver: Homeserver, room_id: str, *users: str) -> None:
    for user_id in (*users, homeserver.sender_id):
        if room_id in homeserver.client.joined_rooms(user_id):
            homeserver.client.leave(room_id, user_id)


register_fault(
    "mapping.room_drift",
    title="Give an agent another room with its address",
    cause=move_the_address,
    heal=put_the_address_back,
    needs=("homeserver",),
    evidence=("examples", "asked"),
)


def make_a_second_room() -> dict[str, Any]:
    """The agent makes another room of the same name, as after a program that forgot the first one."""
    mapping, homeserver = _a_mapping()
    assert mapping.room is not None
    fresh = _second_room(homeserver, mapping)
    return {"mapping": mapping.pk, "old": mapping.room.room_id, "new": fresh, "rows": _kept(mapping)}


register_fault(
    "mapping.duplicate_rooms",
    title="Make a second room for an agent",
    cause=make_a_second_room,
    heal=put_the_address_back,
    needs=("homeserver",),
    evidence=("examples",),
)


# mapping.lost: our rows are gone, the homeserver's rooms are not, and no address leads to them.


def lose_mappings() -> dict[str, Any]:
    """The rows of several agents are gone, and their addresses, as after starting with an empty database on an older server."""
    for service in backend_services():
        chosen = list(
            Mapping.objects.select_related("account__homeserver", "room", "agent")
            .filter(agent__service=service, agent__state=AgentState.ACTIVE, room__room_id__isnull=False)
            .exclude(room__alias="")
            .order_by("pk")[:LOSE_AT_MOST]
        )
        if len(chosen) >= LOSE_AT_LEAST:
            break
    else:
        raise FaultRefused(f"No server has {LOSE_AT_LEAST} agents with rooms.")
    rooms = Room.objects.filter(pk__in=[mapping.room_id for mapping in chosen])
    addresses: list[dict[str, str | None]] = []
    memory = {
        "service": service.name,
        "agents": [mapping.agent_id for mapping in chosen],
        "rows": rows_kept(rooms, chosen, Invitation.objects.filter(room__in=rooms)),
        "addresses": addresses,
    }
    for mapping in chosen:
        assert mapping.room is not None
        homeserver = homeserver_of(mapping.account.homeserver)
        homeserver.client.delete_alias(mapping.room.alias, mapping.account.user_id)
        addresses.append({"alias": mapping.room.alias, "room": mapping.room.room_id, "user": mapping.account.user_id})
    Mapping.objects.filter(pk__in=[mapping.pk for mapping in chosen]).delete()
    rooms.update(room_id=None, in_space=False, child_order="")
    sync_agents(actor=ACTOR, trigger="fault", service_name=service.name, wait=60)
    return memory


def find_mappings(memory: dict[str, Any]) -> None:
    """The rows and addresses as they were, and a pass that sees it."""
    Mapping.objects.filter(agent__in=memory["agents"]).delete()
    rows_put_back(kept=memory["rows"], actor=ACTOR, message="A fault was healed.")
    homeserver = homeserver_of(
        Service.objects.get(pk=Room.objects.get(room_id=memory["addresses"][0]["room"]).homeserver_id)
    )
    for one in memory["addresses"]:
        move_address(homeserver, one["alias"], one["room"], one["user"])
    last = last_runs().get(memory["service"])
    if last is not None and any(found.get("code") == LOST for found in last.findings):
        sync_agents(actor=ACTOR, trigger="fault", service_name=memory["service"], wait=60)


register_fault(
    "mapping.lost",
    title="Lose the mappings of several agents",
    cause=lose_mappings,
    heal=find_mappings,
    needs=("homeserver", "backend"),
    evidence=("services", "rooms_to_make"),
)


# letta.list_truncated


def cut_the_list() -> dict[str, Any]:
    """One pass reads the list through a proxy that cuts it in half. The proxy is gone afterwards, the pass is on record."""
    service = next((one for one in backend_services() if one.kind == "letta"), None)
    if service is None:
        raise FaultRefused("No Letta server is set up.")
    try:
        with cutting_relay(service.base_url) as address:
            Service.objects.filter(pk=service.pk).update(base_url=address)
            report = sync_agents(actor=ACTOR, trigger="fault", service_name=service.name, wait=60)
    finally:
        Service.objects.filter(pk=service.pk).update(base_url=service.base_url)
    return {"service": service.name, "run": report.run_id}


def read_the_list(memory: dict[str, Any]) -> None:
    """A pass without the proxy."""
    last = last_runs().get(memory["service"])
    if last is not None and last.pk == memory["run"]:
        sync_agents(actor=ACTOR, trigger="fault", service_name=memory["service"], wait=60)


register_fault(
    "letta.list_truncated",
    title="Cut the list of agents in half",
    cause=cut_the_list,
    heal=read_the_list,
    needs=("letta",),
    target=lambda memory: str(memory["service"]),
    evidence=("proof", "agents_known"),
)


# sync.slow and sync.too_frequent


def note_slow_passes() -> dict[str, Any]:
    """Three passes on record that took three times as long as they may."""
    now = timezone.now()
    made = []
    for number in range(3, 0, -1):
        run = SyncRun.objects.create(state=SyncState.DONE, trigger="fault", actor=ACTOR)
        ended = now - timedelta(seconds=number)
        SyncRun.objects.filter(pk=run.pk).update(
            started_at=ended - timedelta(seconds=3 * VISIBLE_SECONDS), finished_at=ended
        )
        made.append(run.pk)
    return {"runs": made}


def forget_slow_passes(memory: dict[str, Any]) -> None:
    """The passes that never were."""
    SyncRun.objects.filter(pk__in=memory["runs"]).delete()


register_fault(
    "sync.slow",
    title="Note three slow passes",
    cause=note_slow_passes,
    heal=forget_slow_passes,
    evidence=("p95_seconds", "last_seconds"),
)


def sync_too_often() -> dict[str, Any]:
    """The interval is set far below the floor, past the form that refuses it."""
    pace = pace_set_by_hand()
    live_set(key="SYNC_INTERVAL", value=5, actor=ACTOR)
    return {"interval": pace.interval, "below_floor": pace.below_floor}


def sync_as_before(memory: dict[str, Any]) -> None:
    """The former values."""
    sync_pace_restore(pace=Pace(memory["interval"], memory["below_floor"]), actor=ACTOR)


register_fault(
    "sync.too_frequent",
    title="Sync every five seconds",
    cause=sync_too_often,
    heal=sync_as_before,
    evidence=("interval_seconds", "floor_seconds"),
)


# storage.volume_ephemeral


def lose_the_mark() -> dict[str, Any]:
    """The mark in the data folder vanishes, as with everything else in a folder that was not kept."""
    folder = folders()[0]
    examine(folder)
    path = folder / MARK
    text = path.read_text(encoding="utf-8")
    path.unlink()
    return {"path": str(path), "text": text}


def put_the_mark_back(memory: dict[str, Any]) -> None:
    """As after the folder was put on a volume with what was saved."""
    Path(memory["path"]).write_text(memory["text"], encoding="utf-8")


register_fault(
    "storage.volume_ephemeral",
    title="Lose what was in the data folder",
    cause=lose_the_mark,
    heal=put_the_mark_back,
    evidence=("places",),
)


# mapping.import_invalid: a file of mappings that ends in the middle.


def import_a_cut_file() -> dict[str, Any]:
    """What a crash while writing leaves of the predecessor's file: an agent of ours that is whole, and half of another."""
    mapping, homeserver = _a_mapping()
    assert mapping.room is not None
    entry = {
        "agent_id": mapping.agent.external_id,
        "agent_name": mapping.agent.name,
        "matrix_user_id": mapping.account.user_id,
        "room_id": mapping.room.room_id,
    }
    text = json.dumps({mapping.agent.external_id: entry, "agent-of-a-fault": entry}, indent=2)
    run = import_prepare(
        files=[("agent_user_mappings.json", text[: text.rindex("matrix_user_id") - 4].encode())],
        homeserver=homeserver,
        service_name=mapping.agent.service.name,
        actor=ACTOR,
    )
    return {"run": run.pk}


def forget_the_cut_file(memory: dict[str, Any]) -> None:
    """The import is gone, with its rows."""
    MappingImport.objects.filter(pk=memory["run"]).delete()


register_fault(
    "mapping.import_invalid",
    title="Import a file that ends in the middle",
    cause=import_a_cut_file,
    heal=forget_the_cut_file,
    evidence=("imports", "rejected", "file", "line"),
)
