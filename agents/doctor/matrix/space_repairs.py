"""Repairs of the space: find it again, merge duplicates, bring what it lists in line with the mappings."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet

from agents.doctor.matrix.common import key_of, opened
from agents.doctor.matrix.spaces import stale_children
from agents.matrix.errors import MatrixError, Refused
from agents.models import Mapping, Room, RoomKind
from agents.services.backends import Homeserver
from agents.services.spaces import (
    child_set,
    listed_mappings,
    note_children,
    other_spaces,
    parent_of,
    parent_set,
    point_alias,
    same_purpose,
    space_alias,
    space_find,
    space_merge,
    space_name,
    space_relink,
    space_row,
    space_unmerge,
    space_view,
)
from agents.sync.rooms import remove_from_space
from ops.doctor.repairs import Change, Plan, RepairFailed, RepairRefused, RepairWork, register_repair
from ops.side_by_side import side_by_side
from ops.words import counted, verb

_HOW = {
    "row": "it is the one that is known",
    "successor": "it replaces the one that is known",
    "alias": "found by its address",
    "creator": "found among the spaces that Switchboard made",
    "none": "none was found",
}


def _plan_relink(work: RepairWork) -> Plan:
    homeserver = opened(work.target)
    row, alias = space_row(homeserver), space_alias(homeserver)
    try:
        found = space_find(homeserver)
        leads_to = homeserver.client.resolve_alias(alias)
    except MatrixError as error:
        raise RepairRefused(error.sentence) from error
    known = row.room_id if row is not None else None
    target = f"room:{row.pk}" if row is not None else f"service:{homeserver.service.pk}"
    changes = []
    if not found.room_id:
        changes.append(Change(target, "space", known, f"a new one, “{space_name(homeserver)}”: {_HOW['none']}"))
    elif found.room_id != known:
        changes.append(
            Change(target, "space", known, f"{found.room_id}, {counted(found.children, 'room')} ({_HOW[found.how]})")
        )
    if found.room_id and leads_to != found.room_id:
        changes.append(Change(target, f"address {alias}", leads_to, found.room_id))
    if not changes:
        return Plan("The space is there, and its address leads to it.")
    snapshot = {"room_id": known, "alias": alias, "leads_to": leads_to, "row": row is not None}
    if row is not None:
        snapshot |= {"name": row.name, "row_alias": row.alias}
    return Plan(
        f"Link the space again: {_HOW[found.how]}."
        if found.room_id
        else "Make a new space: none was found by address, maker or name.",
        tuple(changes),
        {"room_id": found.room_id},
        snapshot,
    )


def _apply_relink(work: RepairWork) -> dict[str, Any]:
    homeserver = opened(work.target)
    try:
        row = space_relink(homeserver=homeserver, room_id=work.plan.data["room_id"], actor=work.actor)
    except MatrixError as error:
        raise RepairFailed(error.sentence) from error
    return {"space": row.room_id, "alias": row.alias, "made": not work.plan.data["room_id"]}


def _undo_relink(work: RepairWork) -> None:
    homeserver, kept = opened(work.target), work.snapshot
    row = space_row(homeserver)
    if row is None:
        return
    if not kept.get("row"):
        row.delete()
    else:
        row.room_id, row.name, row.alias = kept["room_id"], kept["name"], kept["row_alias"]
        row.save(update_fields=["room_id", "name", "alias"])
    if kept.get("leads_to"):
        point_alias(homeserver, kept["alias"], kept["leads_to"])
    else:
        homeserver.client.delete_alias(kept["alias"], homeserver.sender_id)
    if kept.get("room_id"):
        view = space_view(homeserver, kept["room_id"])
        note_children(homeserver, view.children if view is not None else {})


register_repair(
    "space.relink",
    title="Link the space again",
    repair_class="C",
    button="Find and link",
    explain=(
        "Looks for the space by its row, its address, and among the spaces that Switchboard made, and takes it. Its address is put right. "
        "Only when none is found a new one is made; the next sync lists the rooms in it."
    ),
    plan=_plan_relink,
    apply=_apply_relink,
    undo=_undo_relink,
    target_kinds=("service", "room"),
)


def _plan_dedupe(work: RepairWork) -> Plan:
    homeserver = opened(work.target)
    keeper = _space_id(homeserver)
    found = [view for view in other_spaces(homeserver, keeper) if same_purpose(homeserver, view)]
    if not found:
        return Plan("There is one space.")
    present = homeserver.client.space_children(keeper, homeserver.sender_id)
    changes, listed = [], set(present)
    for view in found:
        fresh = [child for child in view.children if child not in listed]
        listed |= set(fresh)
        changes.append(
            Change(
                f"space {view.room_id}",
                "space",
                f"“{view.name}” lists {counted(len(view.children), 'room')}",
                f"leads to {keeper}, which lists {counted(len(fresh), 'room')} more",
            )
        )
    return Plan(
        f"Merge {counted(len(found), 'space')} into {keeper}. People who are in {verb(len(found), 'it', 'them')} are invited to it; "
        f"{verb(len(found), 'the old one stays, empty of use, and leads', 'the old ones stay, empty of use, and lead')} there.",
        tuple(changes),
        {"keeper": keeper, "duplicates": [view.room_id for view in found]},
        {"keeper": keeper, "merged": []},
    )


def _apply_dedupe(work: RepairWork) -> dict[str, Any]:
    homeserver, data = opened(work.target), work.plan.data
    merged: list[dict[str, Any]] = []
    for number, room_id in enumerate(data["duplicates"], start=1):
        view = space_view(homeserver, room_id)
        if view is None or view.replaced_by:
            continue
        try:
            merged.append(space_merge(homeserver, view, data["keeper"], actor=work.actor))
        except Refused as error:
            raise RepairFailed(f"{room_id} could not be merged. {error.sentence}") from error
        work.remember(merged=merged)
        work.progress(number, len(data["duplicates"]), room_id)
    note_children(homeserver, homeserver.client.space_children(data["keeper"], homeserver.sender_id))
    return {
        "keeper": data["keeper"],
        "merged": [{"room_id": one["room_id"], "added": len(one["added"])} for one in merged],
    }


def _undo_dedupe(work: RepairWork) -> None:
    homeserver, kept = opened(work.target), work.snapshot
    for undo in reversed(kept.get("merged") or []):
        space_unmerge(homeserver, kept["keeper"], undo, actor=work.actor)
    note_children(homeserver, homeserver.client.space_children(kept["keeper"], homeserver.sender_id))


register_repair(
    "space.dedupe",
    title="Merge duplicate spaces",
    repair_class="D",
    button="Merge",
    explain=(
        "Lists in the space in use what the duplicates list, invites their people, and sets a tombstone in each duplicate that leads to "
        "the one in use. Undoing takes all of that back."
    ),
    plan=_plan_dedupe,
    apply=_apply_dedupe,
    undo=_undo_dedupe,
    confirm_word=lambda work: "merge",
    target_kinds=("service", "room"),
)


def _space_id(homeserver: Homeserver) -> str:
    row = space_row(homeserver)
    if row is None or not row.room_id:
        raise RepairRefused("Which space is in use is not known. Link it again first (space.relink).")
    return row.room_id


def _aimed(work: RepairWork, homeserver: Homeserver) -> QuerySet[Mapping]:
    rows = listed_mappings(homeserver)
    room, mapping, agent = key_of(work.target, "room"), key_of(work.target, "mapping"), key_of(work.target, "agent")
    if room is not None:
        space = Room.objects.filter(pk=room, kind=RoomKind.SPACE).exists()
        return rows if space else rows.filter(room_id=room)
    if mapping is not None:
        return rows.filter(pk=mapping)
    return rows.filter(agent_id=agent) if agent is not None else rows


def _plan_reconcile(work: RepairWork) -> Plan:
    homeserver = opened(work.target)
    space_id = _space_id(homeserver)
    try:
        children = homeserver.client.space_children(space_id, homeserver.sender_id)
        rows = _aimed(work, homeserver)
        known = {
            str(pk): (str(room_id), user, room)
            for pk, room_id, user, room in rows.values_list("pk", "room__room_id", "account__user_id", "room_id")
        }
        named = side_by_side(lambda key: parent_of(homeserver, *known[key][:2], space_id), list(known))
    except MatrixError as error:
        raise RepairRefused(error.sentence) from error
    unlisted = [int(key) for key, place in known.items() if place[0] not in children]
    orphans = [int(key) for key, says in zip(known, named, strict=True) if says is False]
    stale = stale_children(homeserver, children) if len(known) == listed_mappings(homeserver).count() else {}
    changes = [Change(f"room:{known[str(pk)][2]}", "listed in the space", None, "yes") for pk in unlisted]
    changes += [Change(f"room:{known[str(pk)][2]}", "names the space", None, "yes") for pk in orphans]
    changes += [Change(f"room:{pk}", "listed in the space", "yes, and archived", None) for pk in stale.values()]
    if not changes:
        return Plan("The space lists every room, and every room names it.")
    return Plan(
        f"List {counted(len(unlisted), 'room')} in the space, let {counted(len(orphans), 'room')} name it, "
        f"and take {len(stale)} of archived agents off.",
        tuple(changes),
        {"space": space_id, "unlisted": unlisted, "orphans": orphans, "stale": list(stale.values())},
        {"space": space_id, "listed": [], "named": [], "taken": {room: children[room] for room in stale}},
    )


def _apply_reconcile(work: RepairWork) -> dict[str, Any]:
    homeserver, data = opened(work.target), work.plan.data
    listed: list[int] = []
    named: list[int] = []
    failed: dict[str, str] = {}
    total, done = len(data["unlisted"]) + len(data["orphans"]) + len(data["stale"]), 0
    for keys, made, action in ((data["unlisted"], listed, child_set), (data["orphans"], named, parent_set)):
        for mapping in Mapping.objects.filter(pk__in=keys).select_related("agent", "account", "room").order_by("pk"):
            try:
                action(homeserver, data["space"], mapping)
                made.append(mapping.pk)
            except Refused as error:
                if error.retryable:
                    raise RepairFailed(error.sentence) from error
                failed[str(mapping)] = error.sentence
            done += 1
            if done % 50 == 0:
                work.remember(listed=listed, named=named)
            work.progress(done, total, str(mapping.agent))
    work.remember(listed=listed, named=named)
    for room in Room.objects.filter(pk__in=data["stale"]):
        remove_from_space(homeserver, room, data["space"])
    if failed and not (listed or named or data["stale"]):
        raise RepairFailed(f"Nothing could be put right. {next(iter(failed.values()))}")
    return {"listed": len(listed), "named": len(named), "taken_off": len(data["stale"]), "failed": failed}


def _undo_reconcile(work: RepairWork) -> None:
    homeserver, kept = opened(work.target), work.snapshot
    client, space_id = homeserver.client, kept["space"]
    for mapping in Mapping.objects.filter(pk__in=kept.get("listed") or []).select_related("room"):
        assert mapping.room is not None
        client.remove_from_space(space_id, mapping.room.room_id or "", user_id=homeserver.sender_id)
    for mapping in Mapping.objects.filter(pk__in=kept.get("named") or []).select_related("room", "account"):
        assert mapping.room is not None
        client.put_state(mapping.room.room_id or "", "m.space.parent", space_id, {}, mapping.account.user_id)
    for room_id, content in (kept.get("taken") or {}).items():
        client.put_state(space_id, "m.space.child", room_id, content, homeserver.sender_id)


register_repair(
    "space.reconcile",
    title="Bring the space in line with the agents",
    repair_class="A",
    button="Bring in line",
    explain=(
        "Sets what is missing: m.space.child in the space, m.space.parent in the rooms, and takes rooms of archived agents off the list. "
        "Rooms that people listed themselves are left alone."
    ),
    plan=_plan_reconcile,
    apply=_apply_reconcile,
    undo=_undo_reconcile,
    target_kinds=("room", "mapping", "service"),
)
