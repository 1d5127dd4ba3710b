"""``mapping.lost``: the last sync stopped, since it would have made rooms for accounts that have rooms. ``mapping.rebuild`` finds them."""

from __future__ import annotations

from typing import Any

from agents.backends.errors import BackendError
from agents.doctor.mappings import look as looking
from agents.doctor.mappings.relink import move_address
from agents.doctor.mappings.runs import last_runs
from agents.matrix.errors import MatrixError, Refused, TokenRefused
from agents.models import Agent, Invitation, Mapping, Room, SyncState
from agents.services.backends import Homeserver, NoHomeserver, backend_for, open_homeserver
from agents.services.mappings import mapping_relink, rows_kept, rows_put_back
from agents.services.sync import SyncBusy, sync_agents
from agents.sync import rooms as steps
from agents.sync.lost import account_id
from agents.sync.observe import ServiceView
from agents.sync.rows import create_agent, reserve_mapping
from ops.doctor.repairs import Change, Plan, RepairFailed, RepairRefused, RepairWork, register_repair
from ops.models import Service
from ops.registry import CheckOutcome, register_check
from ops.services.audit import record
from ops.words import counted

CODE = "sync.state_lost"


@register_check(
    "mapping.lost",
    title="Sync knows the rooms that the homeserver has",
    tags=["agents", "data"],
    interval=60,
    severity="critical",
    depends_on=["db.reachable"],
    repairs=["mapping.rebuild"],
)
def mapping_lost() -> CheckOutcome:
    """Red when a pass stopped because rooms would have been made twice: for accounts that are in rooms already.

    A pass that would make many rooms is nothing strange by itself (a first one does, and so does a server that was just
    connected); what is strange is that the homeserver has the accounts already and no address of ours leads to their rooms.
    Rooms with their address are taken over by sync itself.
    """
    stopped = {name: found for name, run in last_runs().items() for found in run.findings if found.get("code") == CODE}
    if not stopped:
        return CheckOutcome("pass", "The last sync found nothing on the homeserver that our rows have forgotten.")
    rooms = sum(int((found.get("evidence") or {}).get("rooms_to_make", 0)) for found in stopped.values())
    first = next(iter(stopped.values()))
    return CheckOutcome(
        "fail",
        f"Sync has stopped: it would make {counted(rooms, 'room')} although "
        "the homeserver has accounts and rooms of these agents. Our rows "
        "look lost. Rebuild the mappings from the homeserver; to make new rooms all the same, sync with force.",
        {"services": sorted(stopped), "rooms_to_make": rooms, **(first.get("evidence") or {})},
    )


def plan(work: RepairWork) -> Plan:
    """Each listed agent without a room: the room that its account is in, if it has one of its own there."""
    try:
        homeserver = open_homeserver()
    except (NoHomeserver, MatrixError) as error:
        raise RepairRefused(error.sentence) from error
    found: list[dict[str, Any]] = []
    changes: list[Change] = []
    for service in _services(work):
        for external_id, name in _without_room(service):
            one = _find(homeserver, service, external_id, name)
            if one is not None:
                found.append(one)
                changes.append(Change(f"account:{one['user_id']}", "room", None, one["room_id"]))
    room_rows = Room.objects.filter(pk__in=[one["room_pk"] for one in found if one["room_pk"]])
    return Plan(
        f"{counted(len(found), 'agent gets back the room that its account is', 'agents get back the rooms that their accounts are')} in. No room is made."
        if found
        else "No account of an agent without a room is in a room of its own.",
        tuple(changes),
        {"found": found, "services": sorted({one["service"] for one in found})},
        {"rows": rows_kept(room_rows, Invitation.objects.filter(room__in=room_rows)), "made": [], "addresses": []},
    )


def _services(work: RepairWork) -> list[Service]:
    from agents.services.backends import backend_services

    name = work.target.partition(":")[2] or work.target
    return [service for service in backend_services() if not name or service.name == name]


def _without_room(service: Service) -> list[tuple[str, str]]:
    """Listed agents (id, name) for which we have no room. Raises ``RepairRefused`` when the list cannot be read."""
    try:
        listing = backend_for(service).list_agents()
    except BackendError as error:
        raise RepairRefused(f"The agents of {service.name} could not be read: {error.reason}") from error
    roomed = set(
        Mapping.objects.filter(agent__service=service, room__room_id__isnull=False).values_list(
            "agent__external_id", flat=True
        )
    )
    return [(info.external_id, info.name) for info in listing.agents if info.external_id not in roomed]


def _find(homeserver: Homeserver, service: Service, external_id: str, name: str) -> dict[str, Any] | None:
    agent = Agent.objects.filter(service=service, external_id=external_id).select_related("mapping__account").first()
    account = agent.account if agent is not None else None
    view = ServiceView(service.pk, service.name, service.kind, None)
    user_id = account.user_id if account is not None else account_id(homeserver, view, external_id)
    try:
        joined = homeserver.client.joined_rooms(user_id)
        own = looking.own_rooms(homeserver, user_id, name, looking.other_rooms(joined, ""))
        if not own:
            return None
        alias = f"#{user_id[1:]}"
        by_address = homeserver.client.resolve_alias(alias)
    except Refused as error:
        if isinstance(error, TokenRefused):
            raise RepairRefused(error.sentence) from error
        return None  # an account that was never registered
    except MatrixError as error:
        raise RepairRefused(error.sentence) from error
    chosen = next((room for room in own if room.room_id == by_address), own[0])
    row = Room.objects.filter(homeserver=homeserver.service, alias=alias, mapping__isnull=True).first()
    return {
        "service": service.name,
        "external_id": external_id,
        "user_id": user_id,
        "room_id": chosen.room_id,
        "alias": "" if by_address == chosen.room_id else alias,
        "alias_before": by_address or "",
        "room_pk": row.pk if row is not None else 0,
    }


def apply(work: RepairWork) -> dict[str, Any]:
    """Row by row, then a pass of sync, which finds nothing left to make."""
    homeserver = open_homeserver()
    made: list[int] = []
    addresses: list[dict[str, str]] = []
    found = work.plan.data["found"]
    for number, one in enumerate(found, start=1):
        try:
            if one["alias"]:
                addresses.append({"alias": one["alias"], "room": one["room_id"], "before": one["alias_before"]})
                work.remember(addresses=addresses)
                move_address(homeserver, one["alias"], one["room_id"], one["user_id"])
            mapping = _take_up(homeserver, one, work.actor)
        except MatrixError as error:
            raise RepairFailed(error.sentence) from error
        except (ValueError, LookupError) as error:
            raise RepairFailed(f"{one['user_id']}: {error}") from error
        made.append(mapping.pk)
        work.remember(made=made)
        work.progress(number, len(found), one["user_id"])
    return {"rebuilt": len(made), **_pass(work)}


def _take_up(homeserver: Homeserver, one: dict[str, Any], actor: str) -> Mapping:
    service = Service.objects.get(name=one["service"])
    agent = Agent.objects.filter(service=service, external_id=one["external_id"]).first()
    if agent is None:
        listing = backend_for(service).list_agents()
        info = next((info for info in listing.agents if info.external_id == one["external_id"]), None)
        if info is None:
            raise LookupError("the agent is not in the list any more")
        agent = create_agent(service.name, info, actor=actor)
    mapping = reserve_mapping(homeserver, agent)
    steps.register_account(homeserver, mapping.account)
    mapping = mapping_relink(
        mapping=mapping, room_id=one["room_id"], homeserver=homeserver, actor=actor, reason="Found on the homeserver."
    )
    record(actor=actor, action="mapping.rebuilt", target=mapping, after={"room_id": one["room_id"]})
    return mapping


def _pass(work: RepairWork) -> dict[str, Any]:
    """One pass for each service: the space lists the rooms again, people are invited, and the stop is over."""
    counts: dict[str, int] = {}
    for name in work.plan.data["services"]:
        try:
            report = sync_agents(actor=work.actor, trigger="repair", service_name=name, wait=120)
        except SyncBusy as error:
            raise RepairFailed(f"{error} Start the repair again when it has ended.") from error
        if report.state != SyncState.DONE:
            why = report.error or " ".join(finding.sentence for finding in report.findings[:2])
            raise RepairFailed(f"The sync after it did not end well: {why}")
        for kind, count in report.applied.items():
            counts[kind] = counts.get(kind, 0) + count
    return {"rooms_made": counts.get("room.create", 0)}


def undo(work: RepairWork) -> None:
    """The mappings that were made go; the rooms' rows are as they were. On the homeserver only addresses had changed."""
    kept = work.snapshot
    homeserver = open_homeserver()
    for one in kept.get("addresses", []):
        mapping = Mapping.objects.filter(room__room_id=one["room"]).select_related("account").first()
        owner = mapping.account.user_id if mapping is not None else homeserver.sender_id
        if homeserver.client.resolve_alias(one["alias"]) == one["room"]:
            homeserver.client.delete_alias(one["alias"], owner)
            if one["before"]:
                homeserver.client.put_alias(one["alias"], one["before"], owner)
    for mapping in Mapping.objects.filter(pk__in=kept.get("made", [])).select_related("room"):
        record(actor=work.actor, action="mapping.removed", target=mapping, message="Rebuilding was undone.")
        room = mapping.room
        mapping.delete()
        if room is not None:
            Invitation.objects.filter(room=room).delete()
            room.room_id, room.in_space, room.child_order = None, False, ""
            room.save(update_fields=["room_id", "in_space", "child_order"])
    rows_put_back(kept=kept["rows"], actor=work.actor, message="Rebuilding was undone.")


register_repair(
    "mapping.rebuild",
    title="Rebuild mappings from the homeserver",
    repair_class="C",
    button="Rebuild",
    explain="Looks up the account of every agent without a room: the room of its own that it is in becomes its room again. "
    "Addresses, the rooms themselves and what is said in them are used as they are; no room is made. Ends with a sync.",
    plan=plan,
    apply=apply,
    undo=undo,
    long=True,
)
