"""What mappings of a file mean for us. Pure: facts in, one planned row for each record out; nothing is asked, nothing written.

A room that somebody else has, a room that the account is not in, anything that is here and differs: these are for people to decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agents.importing.records import Planned, Record, rejected
from agents.importing.world import UNKNOWN, FoundAccount, ListedService, MappingFacts, StoredMapping, sides
from agents.models import AgentState, ImportAction

_NONE = StoredMapping(0, 0, "", "", "")


def plan_mappings(records: Sequence[Record], facts: MappingFacts) -> list[Planned]:
    """One row for each record, in their order."""
    rows = [_plan(record, facts) for record in records]
    _share(rows, facts)
    return rows


def _plan(record: Record, facts: MappingFacts) -> Planned:
    if record.problem is not None:
        return rejected(record)
    fields = record.fields
    server = fields["user_id"].partition(":")[2]
    if facts.server_name and server != facts.server_name:
        return _reject(
            record, "mapping.other_server",
            f"The account belongs to the server {server}; the homeserver here is {facts.server_name}. "
            "If that server was renamed, correct the ids in the file.",
        )  # fmt: skip
    service, known, why = _service(fields["agent_id"], facts)
    if service is None:
        return _reject(record, *why)
    holder = facts.accounts.get(fields["user_id"], 0)
    if holder and holder != known.agent_pk:
        return _reject(
            record, "mapping.account_taken",
            f"The account {fields['user_id']} is another agent's here. Two agents cannot speak as one account.",
        )  # fmt: skip
    found = facts.found.get(fields["user_id"], UNKNOWN)
    state = _state(fields, service, known)
    row = Planned(
        record,
        ImportAction.CREATE,
        stored=_stored_side(known),
        file=sides(
            agent_id=fields["agent_id"],
            name=fields["name"],
            user_id=fields["user_id"],
            room_id=fields["room_id"],
            state=str(AgentState.ARCHIVED) if fields["removed_at"] else "",
        ),
        homeserver=_homeserver_side(fields, found, facts),
        data={"service": service.pk, "agent": known.agent_pk, "state": state, "found": found.state},
    )
    row.data["name"] = (service.names or {}).get(fields["agent_id"]) or fields["name"] or fields["agent_id"]
    if known.mapping_pk is None:
        _first_time(row, found, facts)
    else:
        _again(row, known, found, facts)
    notes = [row.sentence, *_state_note(fields, service, state, known), *record.notes]
    row.sentence = " ".join(note for note in notes if note)[:1000]
    return row


def _service(agent_id: str, facts: MappingFacts) -> tuple[ListedService | None, StoredMapping, tuple[str, str]]:
    """On which service the agent lives: where we know it, where it is listed, or the only one there is."""
    known = facts.agents.get(agent_id, [])
    listing = [service for service in facts.services if service.names is not None and agent_id in service.names]
    if len(known) == 1 and (not listing or known[0].service_pk in {service.pk for service in listing}):
        mine = next(service for service in facts.services if service.pk == known[0].service_pk)
        if len(listing) < 2:
            return mine, known[0], ("", "")
    if len(listing) == 1:
        here = next((one for one in known if one.service_pk == listing[0].pk), _NONE)
        return listing[0], here, ("", "")
    names = " and ".join(service.name for service in (listing or facts.services)) or "none"
    if not facts.services:
        if facts.service_name:
            return None, _NONE, ("mapping.no_service", f"There is no enabled service named {facts.service_name}.")
        return None, _NONE, (
            "mapping.no_service", "There is no enabled Letta service on which the agent could live. Add one, then import again.",
        )  # fmt: skip
    if listing:
        return None, _NONE, (
            "mapping.service_ambiguous", f"The agent is listed by {names}. Say whose it is with --service NAME.",
        )  # fmt: skip
    if len(facts.services) == 1:
        return facts.services[0], _NONE, ("", "")
    silent = [service.name for service in facts.services if service.names is None]
    if silent:
        return None, _NONE, (
            "mapping.service_unknown",
            f"{' and '.join(silent)} does not answer, and the agent is not listed elsewhere. Import again later, or say whose it is "
            "with --service NAME.",
        )  # fmt: skip
    return None, _NONE, (
        "mapping.service_unknown", f"None of {names} lists the agent. Say whose it was with --service NAME.",
    )  # fmt: skip


def _state(fields: dict[str, Any], service: ListedService, known: StoredMapping) -> str:
    """``active``, or ``archived`` for an agent that its server does not list any more; what we know already stays."""
    if known.agent_pk:
        return known.state
    listed = service.names is not None and fields["agent_id"] in service.names
    if listed:
        return str(AgentState.ACTIVE)
    gone = fields["removed_at"] or (service.names is not None and service.complete)
    return str(AgentState.ARCHIVED if gone else AgentState.ACTIVE)


def _state_note(fields: dict[str, Any], service: ListedService, state: str, known: StoredMapping) -> list[str]:
    if known.agent_pk:
        return []
    if state == AgentState.ARCHIVED:
        return [f"{service.name} does not list the agent any more: it is archived, its room is kept."]
    if service.names is None:
        return [
            f"{service.name} does not answer ({service.error.rstrip('.')}); the next sync says whether the agent is still there."
        ]
    return []


def _stored_side(known: StoredMapping) -> dict[str, Any]:
    if not known.agent_pk:
        return sides()
    return sides(
        agent_id=known.external_id, name=known.name, user_id=known.user_id, room_id=known.room_id, state=known.state
    )


def _homeserver_side(fields: dict[str, Any], found: FoundAccount, facts: MappingFacts) -> dict[str, Any]:
    if found.state == "unknown":
        return {}
    if found.state == "outside":
        return sides(user_id=fields["user_id"], room_id=found.alias_room, state="needs its own session")
    if found.state == "missing":
        return sides(room_id=found.alias_room, state="no such account")
    return sides(user_id=fields["user_id"], room_id=_room_there(fields["room_id"], found, facts), state="member")


def _room_there(wanted: str, found: FoundAccount, facts: MappingFacts) -> str:
    """The room that the homeserver would name: the file's, where the account is in it; that of its address; the only one."""
    if wanted in found.joined:
        return wanted
    if found.alias_room in found.joined:
        return found.alias_room
    others = [room_id for room_id in found.joined if room_id not in facts.rooms]
    return others[0] if len(others) == 1 else ""


def _first_time(row: Planned, found: FoundAccount, facts: MappingFacts) -> None:
    """No mapping is here yet: it is taken over as it stands, unless the homeserver contradicts it."""
    user_id, room_id = row.file["user_id"], row.file["room_id"]
    taken = facts.rooms.get(room_id) if room_id else None
    if taken is not None and (taken[0] or taken[1] != "agent"):
        _conflict(row, "mapping.room_taken", f"The room {room_id} is in use here already.")
    elif found.state == "missing":
        if room_id:
            _conflict(
                row, "mapping.account_missing",
                f"The homeserver has no account {user_id}. It would be made again, and may not get into its room.",
            )  # fmt: skip
        else:
            row.sentence = "The homeserver has no such account; it is made again."
    elif found.state == "ours" and room_id and room_id not in found.joined:
        there = row.homeserver["room_id"]
        _conflict(
            row, "mapping.not_in_room",
            f"The account is not in the room {room_id}" + (f"; it is in {there}." if there else "."),
        )  # fmt: skip
    elif found.state == "outside":
        how = "the password in the file" if row.record.fields["password"] else "an administrator of the homeserver"
        row.sentence = f"The appservice may not speak as it: it gets a session of its own, with {how}."
    elif found.state == "unknown":
        row.sentence = "The homeserver was not asked about it yet; it is when this is applied."
    else:
        row.sentence = "Account and room are there and are taken over." if room_id else "The account is taken over."


def _again(row: Planned, known: StoredMapping, found: FoundAccount, facts: MappingFacts) -> None:
    """A mapping is here: nothing to do, something to complete, or a contradiction."""
    user_id, room_id = row.file["user_id"], row.file["room_id"]
    if known.user_id != user_id:
        _conflict(row, "mapping.differs", f"Here the agent speaks as {known.user_id}, in the file as {user_id}.")
    elif room_id and known.room_id and known.room_id != room_id:
        _conflict(row, "mapping.differs", f"Here its room is {known.room_id}, in the file {room_id}.")
    elif room_id and not known.room_id:
        taken = facts.rooms.get(room_id)
        if taken is not None and (taken[0] not in {0, known.agent_pk} or taken[1] != "agent"):
            _conflict(row, "mapping.room_taken", f"The room {room_id} is in use here already.")
        elif found.state == "ours" and room_id not in found.joined:
            _conflict(row, "mapping.not_in_room", f"The account is not in the room {room_id}.")
        else:
            row.action, row.sentence = (
                ImportAction.UPDATE,
                "The agent is here without a room; the file's is taken over.",
            )
    elif not known.registered and found.state in {"ours", "outside"}:
        row.action, row.sentence = ImportAction.UPDATE, "The account is on the homeserver already and is taken over."
    else:
        row.action = ImportAction.UNCHANGED


def _share(rows: Sequence[Planned], facts: MappingFacts) -> None:
    """Accounts and rooms that the file gives to two agents."""
    by_room: dict[str, list[Planned]] = {}
    by_user: dict[str, list[Planned]] = {}
    for row in rows:
        if row.action == ImportAction.REJECT:
            continue
        by_user.setdefault(row.file["user_id"], []).append(row)
        if row.file["room_id"]:
            by_room.setdefault(row.file["room_id"], []).append(row)
    for user_id, sharing in by_user.items():
        for row in sharing[1:]:
            row.action, row.code = ImportAction.REJECT, "mapping.account_twice"
            row.sentence = f"The file gives the account {user_id} to {sharing[0].record.label} as well."
    for room_id, sharing in by_room.items():
        sharing = [row for row in sharing if row.action != ImportAction.REJECT]
        if len(sharing) < 2:
            continue
        # Whoever has it here keeps it; else whoever alone is in it.
        holder = [row for row in sharing if row.stored.get("room_id") == room_id] or [
            row for row in sharing if room_id in facts.found.get(row.file["user_id"], UNKNOWN).joined
        ]
        for row in sharing:
            if len(holder) == 1 and row is holder[0]:
                continue
            others = ", ".join(other.record.label for other in sharing if other is not row)[:200]
            if room_id == row.homeserver.get("room_id") and len(holder) != 1:
                row.homeserver["room_id"] = ""
            _conflict(row, "mapping.room_shared", f"The file gives the room {room_id} to {others} as well.")


def _conflict(row: Planned, code: str, sentence: str) -> None:
    row.action, row.code, row.sentence = ImportAction.CONFLICT, code, sentence


def _reject(record: Record, code: str, sentence: str) -> Planned:
    return Planned(
        record,
        ImportAction.REJECT,
        code,
        sentence,
        file=sides(
            agent_id=record.fields["agent_id"],
            name=record.fields["name"],
            user_id=record.fields["user_id"],
            room_id=record.fields["room_id"],
        ),
    )
