"""``room.dedupe``: of several rooms of one agent one is kept; the others get a sign that leads there (``m.room.tombstone``).

Client-server API, "Room upgrades": clients show a room with a tombstone as replaced and lead to ``replacement_room``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from agents.doctor.mappings import look as looking
from agents.doctor.mappings.relink import Link, follow_space, move_address
from agents.doctor.mappings.relink import _take_back as take_back
from agents.doctor.mappings.relink import _wanted as wanted_mappings
from agents.doctor.mappings.sweep import rows
from agents.matrix.errors import MatrixError
from agents.models import Invitation, Mapping, Room
from agents.services.backends import Homeserver, homeserver_of
from agents.services.mappings import mapping_relink, rows_kept, rows_put_back
from agents.sync import rooms as steps
from ops.doctor.repairs import Change, Plan, RepairFailed, RepairRefused, RepairWork, register_repair
from ops.registry import ServiceField
from ops.services.audit import record
from ops.words import counted, verb

SIGN = "This room has been replaced: the agent is in another one."


@dataclass(frozen=True, slots=True)
class Group:
    """One agent's rooms: the one that is kept, and those that close, with the people who are to be invited over."""

    mapping: int
    agent: str
    user_id: str
    stored: str
    keeper: str
    alias: str
    close: list[str]
    people: list[str]


def plan(work: RepairWork) -> Plan:
    """Finds the rooms anew. Kept is the one in which a person spoke last; ``keeper`` names another."""
    groups: list[Group] = []
    chosen = list(Mapping.objects.filter(pk__in=wanted_mappings(work)).select_related("account__homeserver", "room"))
    wish = str(work.params.get("keeper") or "")
    for mapping in chosen:
        homeserver = homeserver_of(mapping.account.homeserver)
        try:
            group = _group(homeserver, mapping, wish)
        except MatrixError as error:
            raise RepairRefused(error.sentence) from error
        if group is not None:
            groups.append(group)
    if wish and not any(group.keeper == wish for group in groups) and groups:
        raise RepairRefused(f"{wish} is none of the rooms in question: name one of those that are listed.")
    changes: list[Change] = []
    for group in groups:
        target = f"mapping:{group.mapping}"
        if group.keeper != group.stored:
            changes.append(Change(target, "room", group.stored, group.keeper))
        changes += [Change(target, f"room {room}", "in use", f"replaced by {group.keeper}") for room in group.close]
        changes += [Change(target, f"invitation to {group.keeper}", None, person) for person in group.people]
    touched = [mapping for mapping in chosen if mapping.pk in {group.mapping for group in groups}]
    room_rows = Room.objects.filter(pk__in=[mapping.room_id for mapping in touched])
    return Plan(
        f"{counted(sum(len(group.close) for group in groups), 'room')} of {counted(len(groups), 'agent')} "
        f"{verb(sum(len(group.close) for group in groups), 'is', 'are')} closed; each keeps one."
        if groups
        else "Every agent has one room of its own.",
        tuple(changes),
        {"groups": [asdict(group) for group in groups]},
        {"rows": rows_kept(room_rows, touched, Invitation.objects.filter(room__in=room_rows)), "closed": []},
    )


def _group(homeserver: Homeserver, mapping: Mapping, wish: str) -> Group | None:
    row = next(iter(rows(mapping.account.homeserver, pks=[mapping.pk])), None)
    if row is None:
        return None
    seen = looking.look(homeserver.client, row)
    if seen.joined is None or row.room_id not in seen.joined:
        return None  # that is mapping.room_drift
    spare = looking.own_rooms(homeserver, row.user_id, row.agent_name, looking.other_rooms(seen.joined, row.room_id))
    if not spare:
        return None
    stored = looking.describe_room(homeserver, row.user_id, row.room_id)
    every = [stored, *spare]
    by_wish = [room for room in every if room.room_id == wish]
    keeper = by_wish[0] if by_wish else max(every, key=lambda room: (room.active_at, room is stored))
    people = sorted({person for room in every if room is not keeper for person in room.people} - set(keeper.people))
    return Group(
        mapping.pk, row.agent_name, row.user_id, row.room_id, keeper.room_id, row.alias,
        [room.room_id for room in every if room is not keeper], people,
    )  # fmt: skip


def apply(work: RepairWork) -> dict[str, Any]:
    """Mapping first, then people, then the signs; the agent leaves last. Each closed room is remembered before it is closed."""
    groups = [Group(**group) for group in work.plan.data["groups"]]
    closed: list[dict[str, Any]] = []
    for number, group in enumerate(groups, start=1):
        mapping = Mapping.objects.select_related("account__homeserver", "room", "agent").get(pk=group.mapping)
        homeserver = homeserver_of(mapping.account.homeserver)
        try:
            _keep(work, homeserver, mapping, group)
            for room_id in group.close:
                closed.append({"mapping": group.mapping, "room": room_id, "user": group.user_id})
                work.remember(closed=closed)
                close_room(homeserver, room_id, group.user_id, group.keeper)
        except (MatrixError, ValueError) as error:
            raise RepairFailed(error.sentence if isinstance(error, MatrixError) else str(error)) from error
        record(
            actor=work.actor,
            action="room.deduped",
            target=mapping,
            before={"rooms": [group.keeper, *group.close]},
            after={"room": group.keeper},
        )
        work.progress(number, len(groups), group.agent)
    return {"closed": len(closed), "kept": {group.agent: group.keeper for group in groups[:50]}}


def _keep(work: RepairWork, homeserver: Homeserver, mapping: Mapping, group: Group) -> None:
    if group.keeper != group.stored:
        links = [
            *work.snapshot.get("links", []),
            asdict(Link(group.mapping, group.keeper, group.stored, address=group.alias, address_before=group.stored)),
        ]
        work.remember(links=links)
        if group.alias:
            move_address(homeserver, group.alias, group.keeper, group.user_id)
        mapping_relink(
            mapping=mapping,
            room_id=group.keeper,
            homeserver=homeserver,
            actor=work.actor,
            reason="Of several rooms this is the one that people use.",
        )
        follow_space(homeserver, mapping.pk, former=group.stored)
        mapping.refresh_from_db()
    room = mapping.room
    if room is None:
        raise ValueError(f"{mapping} has no room any more.")
    for person in group.people:
        # One whom the homeserver refuses is invited again later by sync; see ``steps.invite``.
        steps.invite(homeserver, room, person, group.user_id)


def close_room(homeserver: Homeserver, room_id: str, user_id: str, replacement: str) -> None:
    """Set the sign and leave. Switchboard's own account stays behind, so that the agent can be invited back."""
    client = homeserver.client
    steps.register_sender(homeserver)
    if room_id not in client.joined_rooms(homeserver.sender_id):
        client.invite(room_id, homeserver.sender_id, user_id)
        client.join(room_id, homeserver.sender_id)
    _let_invite(homeserver, room_id, user_id)
    client.put_state(room_id, "m.room.tombstone", "", {"body": SIGN, "replacement_room": replacement}, user_id)
    client.leave(room_id, user_id, reason="Replaced by another room")


def _let_invite(homeserver: Homeserver, room_id: str, user_id: str) -> None:
    """Whoever stays behind must be able to invite the agent back; most rooms let every member do that."""
    levels = homeserver.client.get_state(room_id, "m.room.power_levels", "", user_id) or {}
    users = dict(levels.get("users") or {})
    needed = levels.get("invite", 0)
    if isinstance(needed, int) and users.get(homeserver.sender_id, levels.get("users_default", 0)) < needed:
        users[homeserver.sender_id] = needed
        homeserver.client.put_state(room_id, "m.room.power_levels", "", {**levels, "users": users}, user_id)


def reopen_room(homeserver: Homeserver, room_id: str, user_id: str) -> None:
    """The agent comes back and takes the sign away. May be repeated, also when closing stopped half way."""
    client = homeserver.client
    if room_id not in client.joined_rooms(user_id):
        client.invite(room_id, user_id, homeserver.sender_id)
        client.join(room_id, user_id)
    for event in client.full_state(room_id, user_id):
        content, event_id = event.get("content"), str(event.get("event_id") or "")
        if event.get("type") == "m.room.tombstone" and isinstance(content, dict) and content.get("replacement_room"):
            # Servers accept no sign that leads nowhere, so it is taken back.
            client.redact(room_id, event_id, txn_id=f"reopen-{event_id[-40:]}", user_id=user_id)
    if room_id in client.joined_rooms(homeserver.sender_id):
        client.leave(room_id, homeserver.sender_id)


def undo(work: RepairWork) -> None:
    """Closed rooms are open again, the mapping names the former room. Invitations that were sent stay."""
    kept = work.snapshot
    for one in kept.get("closed", []):
        mapping = Mapping.objects.select_related("account__homeserver").filter(pk=one["mapping"]).first()
        if mapping is not None:
            reopen_room(homeserver_of(mapping.account.homeserver), one["room"], one["user"])
    for data in kept.get("links", []):
        link = Link(**data)
        mapping = Mapping.objects.select_related("account__homeserver", "agent").filter(pk=link.mapping).first()
        if mapping is not None:
            take_back(homeserver_of(mapping.account.homeserver), mapping, link)
    rows_put_back(kept=kept["rows"], actor=work.actor, message="Closing rooms was undone.")


def confirm_word(work: RepairWork) -> str:
    """The agent's name for one mapping; else a word."""
    chosen = wanted_mappings(work)
    if len(chosen) == 1:
        name = Mapping.objects.filter(pk=chosen[0]).values_list("agent__name", flat=True).first()
        return " ".join(str(name or "close rooms").split())
    return "close rooms"


register_repair(
    "room.dedupe",
    title="Keep one room of an agent and close the others",
    repair_class="D",
    button="Close the others",
    explain="Keeps the room in which a person spoke last (or the one you name), lets the mapping name it, invites everybody "
    "from the others, and puts a sign into those that leads there. The agent leaves them; Switchboard's own account stays, so "
    "that it can be undone. No room is deleted.",
    plan=plan,
    apply=apply,
    undo=undo,
    confirm_word=confirm_word,
    target_kinds=("mapping", "agent"),
    fields=(
        ServiceField(
            "keeper",
            "Room to keep",
            help="The room's id. Empty: the one in which a person spoke last.",
        ),
    ),
)
