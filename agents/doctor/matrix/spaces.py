"""Whether the space is there, is the only one, and lists the agents' rooms. Read in one request for all rooms."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.utils import timezone

from agents.doctor.matrix.common import GONE, SPOKEN_WITH, homeservers, service_named
from agents.doctor.matrix.rotation import next_slice
from agents.matrix.errors import MatrixError
from agents.models import AgentState, Mapping, Room, RoomKind
from agents.services.backends import Homeserver, homeserver_of
from agents.services.spaces import (
    listed_mappings,
    other_spaces,
    parent_of,
    same_purpose,
    space_alias,
    space_name,
    space_row,
    space_view,
)
from ops.models import Service
from ops.registry import Affected, CheckOutcome, Fix, register_check
from ops.side_by_side import side_by_side
from ops.words import counted, verb

# Rooms that are asked in one run whether they name the space; the other direction is one request for all.
PARENTS = 50
# Sync lists a room a moment after it has made it.
_GRACE = timedelta(minutes=2)


def has_rooms(service: Service) -> bool:
    """Whether agents have rooms there: before that nobody misses the space."""
    return Room.objects.filter(homeserver=service, kind=RoomKind.AGENT, room_id__isnull=False).exists()


def _unanswered(error: MatrixError) -> CheckOutcome:
    return CheckOutcome(
        "fail", f"The homeserver could not be asked about the space. {error.sentence}", {"errcode": error.code}
    )


@register_check(
    "space.lost",
    title="The space that lists the agents is there",
    tags=("matrix", "agents"),
    interval=300,
    severity="error",
    timeout=30,
    scope="service",
    targets=homeservers,
    depends_on=SPOKEN_WITH,
    repairs=("space.relink",),
)
def space_lost(target: str) -> CheckOutcome:
    """Red when the row names no space, or one that is none, that we are not in, that was replaced, or that its alias does not lead to.

    The space is found by its alias, which derives from the prefix of our accounts; a lost row alone never makes a second space.
    """
    service = service_named(target)
    if service is None:
        return GONE
    if not has_rooms(service):
        return CheckOutcome("pass", "There are no rooms yet that a space could list.")
    try:
        homeserver = homeserver_of(service)
        return _space(homeserver, space_row(homeserver))
    except MatrixError as error:
        return _unanswered(error)


def _space(homeserver: Homeserver, row: Room | None) -> CheckOutcome:
    alias = space_alias(homeserver)
    leads_to = homeserver.client.resolve_alias(alias)
    evidence: dict[str, Any] = {
        "alias": alias,
        "alias_leads_to": leads_to,
        "room_id": row.room_id if row is not None else None,
    }
    if row is None or not row.room_id:
        there = f"{alias} leads to one: take it." if leads_to else "None has its address."
        return _red("Agents have rooms, but which space lists them is not known (any more).", there, evidence)
    view = space_view(homeserver, row.room_id)
    if view is None:
        return _red(
            f"Switchboard's account is not in the space {row.room_id}, or it is gone.",
            "Nobody can change it.",
            evidence,
        )
    evidence |= {"children": len(view.children), "name": view.name}
    if not view.is_space:
        return _red(f"{row.room_id} is a room, not a space.", "Clients list nothing in it.", evidence)
    if view.replaced_by:
        return _red(
            f"The space was replaced by {view.replaced_by}.",
            "Clients show the new one, and agents are listed in the old one.",
            {**evidence, "replaced_by": view.replaced_by},
        )
    if leads_to != row.room_id:
        where = f"leads to {leads_to}" if leads_to else "leads nowhere"
        return _red(
            f"The space's address {alias} {where}.", "After a loss of our rows another space would be made.", evidence
        )
    return CheckOutcome("pass", f"“{view.name}” lists {counted(len(view.children), 'room')}.", evidence)


def _red(what: str, meaning: str, evidence: dict[str, Any]) -> CheckOutcome:
    return CheckOutcome("fail", f"{what} {meaning} Link it again: a new one is made only when none is found.", evidence)


@register_check(
    "space.duplicates",
    title="There is one space, not several",
    tags=("matrix", "agents"),
    interval=900,
    severity="warning",
    timeout=60,
    scope="service",
    targets=homeservers,
    depends_on=(*SPOKEN_WITH, "space.lost"),
    repairs=("space.dedupe",),
)
def space_duplicates(target: str) -> CheckOutcome:
    """Red when Switchboard's account is in more spaces of the same name that it made, or that list its agents' rooms.

    Looks at those rooms of its account of which we know nothing (at most 60): usually none. Merged spaces (tombstone) do not count.
    """
    service = service_named(target)
    if service is None:
        return GONE
    try:
        homeserver = homeserver_of(service)
        row = space_row(homeserver)
        if row is None or not row.room_id:
            return CheckOutcome("skip", "There is no space yet.")
        found = [view for view in other_spaces(homeserver, row.room_id) if same_purpose(homeserver, view)]
    except MatrixError as error:
        return _unanswered(error)
    if not found:
        return CheckOutcome("pass", "There is one space.", {"keeper": row.room_id})
    listed = [{"room_id": view.room_id, "children": len(view.children), "creator": view.creator} for view in found]
    return CheckOutcome(
        "fail",
        f"{verb(len(found), 'There is', 'There are')} {counted(len(found), 'more space')} named “{space_name(homeserver)}” besides the one in use. "
        "People may look into the wrong one. "
        "Merge them: what they list moves into the one in use, and they lead there.",
        {"keeper": row.room_id, "duplicates": listed},
        (Affected(f"room:{row.pk}", f"{counted(len(found), 'duplicate')}."),),
    )


@register_check(
    "space.rooms_missing",
    title="The space lists every agent's room",
    tags=("matrix", "agents"),
    interval=300,
    severity="warning",
    timeout=60,
    scope="service",
    targets=homeservers,
    depends_on=(*SPOKEN_WITH, "space.lost"),
    repairs=("space.reconcile",),
)
def rooms_missing(target: str) -> CheckOutcome:
    """Red when the space and the mappings differ: rooms that it does not list, rooms of archived agents that it still lists, rooms
    that do not name it as their parent.

    What the space lists is read in one request, whatever the number of rooms; 50 rooms in a run are asked about their parent.
    """
    service = service_named(target)
    if service is None:
        return GONE
    try:
        homeserver = homeserver_of(service)
        row = space_row(homeserver)
        if row is None or not row.room_id:
            return CheckOutcome("skip", "There is no space yet.")
        children = homeserver.client.space_children(row.room_id, homeserver.sender_id)
        settled = listed_mappings(homeserver).filter(room__created_at__lt=timezone.now() - _GRACE)
        missing, total = _missing(homeserver, children)
        part = next_slice("space.rooms_missing", target, settled, size=PARENTS)
        orphans = _orphans(homeserver, part.keys, row.room_id)
    except MatrixError as error:
        return _unanswered(error)
    stale = stale_children(homeserver, children)
    evidence = {
        **part.evidence(orphans),
        "space": row.room_id,
        "children": len(children),
        "rooms": total,
        "not_listed": len(missing),
        "without_parent": len(orphans),
        "listed_but_archived": len(stale),
    }
    if not (missing or orphans or stale):
        return CheckOutcome("pass", f"{verb(total, 'The one room is', f'All {total} rooms are')} listed.", evidence)
    affected = [
        *(Affected(f"room:{room}", "The space does not list it.") for room in missing),
        *(Affected(f"room:{room}", "It does not name the space.") for room in orphans.values() if room not in missing),
        *(Affected(f"room:{room}", "Its agent is archived, and the space still lists it.") for room in stale.values()),
    ]
    parts = [
        f"{len(missing):,} of {counted(total, 'room')} {verb(len(missing), 'is', 'are')} not listed in the space"
        if missing
        else "",
        f"{counted(len(orphans), 'room does', 'rooms do')} not name it" if orphans else "",
        f"{counted(len(stale), 'room of an archived agent is', 'rooms of archived agents are')} still listed"
        if stale
        else "",
    ]
    return CheckOutcome(
        "fail",
        f"{', '.join(filter(None, parts))}. People do not find these agents in the space. Bring it in line.",
        evidence,
        tuple(affected),
        Fix("space.reconcile", f"service:{service.name}"),
    )


def _missing(homeserver: Homeserver, children: dict[str, Any]) -> tuple[list[int], int]:
    """Keys of rooms that are not listed, and how many ought to be."""
    missing, total = [], 0
    fresh = timezone.now() - _GRACE
    rows = listed_mappings(homeserver).values_list("room_id", "room__room_id", "room__created_at", "room__in_space")
    for pk, room_id, made, inside in rows.iterator(chunk_size=2000):
        total += 1
        # Made a moment ago and not listed yet as far as our rows know: sync is at it.
        if room_id not in children and (inside or made < fresh):
            missing.append(pk)
    return missing, total


def stale_children(homeserver: Homeserver, children: dict[str, Any]) -> dict[str, int]:
    """Rooms of archived agents that the space still lists: ``{room id: key}``."""
    rows = Mapping.objects.filter(account__homeserver=homeserver.service, agent__state=AgentState.ARCHIVED)
    found = rows.filter(room__room_id__isnull=False).values_list("room__room_id", "room_id")
    return {str(room_id): pk for room_id, pk in found.iterator(chunk_size=2000) if room_id in children}


def _orphans(homeserver: Homeserver, keys: tuple[int, ...], space_id: str) -> dict[int, int]:
    """Mappings whose room does not name the space: ``{mapping: room}``. Rooms that cannot be read are left to other checks."""
    rows = listed_mappings(homeserver).filter(pk__in=keys)
    known = {
        str(pk): (str(room_id), user, room)
        for pk, room_id, user, room in rows.values_list("pk", "room__room_id", "account__user_id", "room_id")
    }
    said = side_by_side(lambda key: parent_of(homeserver, *known[key][:2], space_id), list(known))
    return {int(key): known[key][2] for key, named in zip(known, said, strict=True) if named is False}
