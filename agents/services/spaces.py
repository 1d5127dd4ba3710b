"""The space that lists the agents' rooms: what the homeserver has of it, finding it again, merging duplicates, listing what is missing.

Spaces are rooms of type ``m.space`` whose ``m.space.child`` state names rooms; rooms name their space by ``m.space.parent``
(client-server API, "Spaces"). A child without ``via`` is none.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet

from agents.matrix.errors import MatrixError, Refused
from agents.matrix.room_state import room_state
from agents.models import AgentState, Mapping, Room, RoomKind
from agents.services.backends import Homeserver, user_prefix
from agents.sync import rooms as steps
from agents.sync.observe import invitees
from ops.services.audit import record

# Switchboard's own account is in rooms of which it knows nothing only by mistake: so many are looked at in one go.
MOST_UNKNOWN = 60


@dataclass(frozen=True, slots=True)
class SpaceView:
    """A space as the homeserver has it. ``children`` maps room ids to the content of ``m.space.child``."""

    room_id: str
    is_space: bool
    name: str = ""
    creator: str = ""
    replaced_by: str = ""
    alias: str = ""
    children: dict[str, dict[str, Any]] = field(default_factory=dict)
    members: dict[str, str] = field(default_factory=dict)


def space_name(homeserver: Homeserver) -> str:
    """What the space is called."""
    return str(homeserver.service.options.get("space_name") or settings.MATRIX_SPACE_NAME)


def space_alias(homeserver: Homeserver) -> str:
    """The space's address: in our namespace, and no agent's."""
    return f"#{user_prefix(homeserver)}space:{homeserver.server_name}"


def space_row(homeserver: Homeserver) -> Room | None:
    """The space's row, None before the first sync."""
    return Room.objects.filter(homeserver=homeserver.service, kind=RoomKind.SPACE).first()


def space_view(homeserver: Homeserver, room_id: str) -> SpaceView | None:
    """The space in one request, read as Switchboard's own account; None when that is not in it, or there is no such room.

    Raises ``MatrixError`` when the homeserver is gone or refuses our token.
    """
    try:
        state = homeserver.client.full_state(room_id, homeserver.sender_id)
    except Refused as error:
        if error.general:
            raise
        return None
    found = room_state(state)
    if found.membership(homeserver.sender_id) != "join":
        # Whoever left a room still reads it as it was then.
        return None
    creator = found.creators[0] if found.creators else ""
    return SpaceView(
        room_id, found.is_space, found.name, creator, found.replaced_by, found.alias, {key: dict(content) for key, content in found.children.items()}, found.memberships
    )  # fmt: skip


def other_spaces(homeserver: Homeserver, known: str) -> list[SpaceView]:
    """Spaces besides ``known`` that Switchboard's own account is in and that were not replaced, most children first.

    Asks about rooms without a row only (at most ``MOST_UNKNOWN``): one request for the list, one for each of those.
    """
    joined = [one for one in homeserver.client.joined_rooms(homeserver.sender_id) if one != known]
    ours = set(
        Room.objects.filter(homeserver=homeserver.service)
        .exclude(kind=RoomKind.SPACE)
        .values_list("room_id", flat=True)
    )
    found = []
    for room_id in [one for one in joined if one not in ours][:MOST_UNKNOWN]:
        create = _state(homeserver, room_id, "m.room.create")
        if create.get("type") != "m.space":
            continue
        view = space_view(homeserver, room_id)
        if view is not None and not view.replaced_by:
            found.append(view)
    return sorted(found, key=lambda view: (-len(view.children), view.room_id))


def same_purpose(homeserver: Homeserver, view: SpaceView) -> bool:
    """Whether it is one of ours: it has our space's name, and Switchboard made it or it lists rooms of ours."""
    if view.name != space_name(homeserver):
        return False
    if view.creator == homeserver.sender_id:
        return True
    return Room.objects.filter(homeserver=homeserver.service, room_id__in=list(view.children)[:500]).exists()


def _state(homeserver: Homeserver, room_id: str, kind: str) -> dict[str, Any]:
    try:
        return homeserver.client.get_state(room_id, kind, "", homeserver.sender_id) or {}
    except Refused as error:
        if error.general:
            raise
        return {}


# Finding it again


@dataclass(frozen=True, slots=True)
class Found:
    """Which space is to be the one, and how it was found: ``row``, ``alias``, ``creator``, or ``none`` (a new one is needed)."""

    room_id: str
    how: str
    children: int = 0


def space_find(homeserver: Homeserver) -> Found:
    """The space by its row, by its alias, or among the spaces that Switchboard is in (made by it, of its name, most children).

    Changes nothing. Raises ``MatrixError``.
    """
    row = space_row(homeserver)
    if row is not None and row.room_id:
        view = space_view(homeserver, row.room_id)
        if view is not None and view.is_space and not view.replaced_by:
            return Found(row.room_id, "row", len(view.children))
        if view is not None and view.replaced_by:
            successor = space_view(homeserver, view.replaced_by)
            if successor is not None and successor.is_space:
                return Found(successor.room_id, "successor", len(successor.children))
    resolved = homeserver.client.resolve_alias(space_alias(homeserver))
    if resolved:
        view = space_view(homeserver, resolved)
        if view is not None and view.is_space and not view.replaced_by:
            return Found(resolved, "alias", len(view.children))
    for view in other_spaces(homeserver, row.room_id if row is not None and row.room_id else ""):
        if same_purpose(homeserver, view):
            return Found(view.room_id, "creator", len(view.children))
    return Found("", "none")


def space_relink(*, homeserver: Homeserver, room_id: str, actor: str) -> Room:
    """Make ``room_id`` the space ("": make a new one): its row, its address, and which rooms stand in it.

    May be repeated. Raises ``MatrixError``.
    """
    alias = space_alias(homeserver)
    steps.register_sender(homeserver)
    row = space_row(homeserver)
    before = {"room_id": row.room_id if row is not None else None}
    if not room_id:
        if row is not None and row.room_id:
            Room.objects.filter(pk=row.pk).update(room_id=None, name="", topic="")
            row.refresh_from_db()
        row = steps.ensure_space(homeserver, space_name(homeserver), invitees())
    else:
        if row is None:
            row = Room(homeserver=homeserver.service, kind=RoomKind.SPACE, in_space=True)
        view = space_view(homeserver, room_id)
        row.room_id, row.alias, row.name = room_id, alias, (view.name if view is not None else row.name)[:255]
        row.save()
        point_alias(homeserver, alias, room_id)
        homeserver.client.set_canonical_alias(room_id, alias, homeserver.sender_id)
    listed = space_view(homeserver, row.room_id or "")
    with transaction.atomic():
        note_children(homeserver, listed.children if listed is not None else {})
        record(
            actor=actor,
            action="space.relinked",
            target=row,
            message=f"The space is {row.room_id}.",
            before=before,
            after={"room_id": row.room_id, "alias": alias},
        )
    return row


def point_alias(homeserver: Homeserver, alias: str, room_id: str) -> None:
    """Let the alias lead to this room, wherever it led before."""
    client = homeserver.client
    present = client.resolve_alias(alias)
    if present == room_id:
        return
    if present is not None:
        client.delete_alias(alias, homeserver.sender_id)
    client.put_alias(alias, room_id, homeserver.sender_id)


def note_children(homeserver: Homeserver, children: Iterable[str]) -> None:
    """Our rows say of each room whether it is in the space; sync lists those that are not."""
    listed = set(children)
    rows = Room.objects.filter(homeserver=homeserver.service, room_id__isnull=False).exclude(kind=RoomKind.SPACE)
    out, into = [], []
    for pk, room_id, inside in rows.values_list("pk", "room_id", "in_space").iterator(chunk_size=2000):
        if inside and room_id not in listed:
            out.append(pk)
        elif not inside and room_id in listed:
            into.append(pk)
    for keys, fields in ((out, {"in_space": False, "child_order": ""}), (into, {"in_space": True})):
        for start in range(0, len(keys), 500):
            Room.objects.filter(pk__in=keys[start : start + 500]).update(**fields)


# What stands in it


def listed_mappings(homeserver: Homeserver) -> QuerySet[Mapping]:
    """The agents whose rooms belong into the space."""
    rows = Mapping.objects.filter(account__homeserver=homeserver.service, room__room_id__isnull=False)
    return rows.exclude(agent__state=AgentState.ARCHIVED)


def child_set(homeserver: Homeserver, space_id: str, mapping: Mapping) -> None:
    """List an agent's room in the space, as sync does."""
    assert mapping.room is not None
    steps.add_to_space(homeserver, mapping.room, space_id, mapping.agent.name)


def parent_set(homeserver: Homeserver, space_id: str, mapping: Mapping) -> None:
    """Let an agent's room name its space."""
    assert mapping.room is not None
    assert mapping.room.room_id
    homeserver.client.set_parent(mapping.room.room_id, space_id, user_id=mapping.account.user_id)


def parent_of(homeserver: Homeserver, room_id: str, user_id: str, space_id: str) -> bool | None:
    """Whether the room names this space as its parent; None when the account cannot read it. Raises when the homeserver is gone."""
    try:
        content = homeserver.client.get_state(room_id, "m.space.parent", space_id, user_id)
    except Refused as error:
        if error.general:
            raise
        return None
    return bool(content and content.get("via"))


# Merging


def space_merge(homeserver: Homeserver, duplicate: SpaceView, keeper: str, *, actor: str) -> dict[str, Any]:
    """Move what a duplicate lists into the keeper and let it lead there (a tombstone). Returns what undoes it.

    Returns ``{room_id, added, parents, alias, invited}``: children that the keeper did not list, rooms that named the duplicate as
    their parent (with the account that may say so), the alias that led there, and people who were invited to the keeper.
    """
    client, sender = homeserver.client, homeserver.sender_id
    present = client.space_children(keeper, sender)
    undo: dict[str, Any] = {"room_id": duplicate.room_id, "added": [], "parents": {}, "alias": "", "invited": []}
    for child, content in duplicate.children.items():
        if child not in present:
            client.put_state(keeper, "m.space.child", child, content, sender)
            undo["added"].append(child)
    owners: dict[str | None, str] = dict(
        Mapping.objects.filter(room__room_id__in=list(duplicate.children)).values_list(
            "room__room_id", "account__user_id"
        )
    )
    for room, owner in owners.items():
        if room and parent_of(homeserver, room, owner, duplicate.room_id):
            client.put_state(room, "m.space.parent", duplicate.room_id, {}, owner)
            client.set_parent(room, keeper, user_id=owner)
            undo["parents"][room] = owner
    undo["invited"] = _invite_members(homeserver, duplicate, keeper)
    if duplicate.alias and client.resolve_alias(duplicate.alias) == duplicate.room_id:
        try:
            client.delete_alias(duplicate.alias, sender)
            undo["alias"] = duplicate.alias
        except MatrixError as error:
            # An alias outside our namespace is somebody else's to remove; it leads to the tombstone.
            if error.retryable:
                raise
    body = {"body": "This space was merged with another one.", "replacement_room": keeper}
    client.put_state(duplicate.room_id, "m.room.tombstone", "", body, sender)
    record(
        actor=actor,
        action="space.merged",
        target=space_row(homeserver),
        before={"room_id": duplicate.room_id},
        after={"into": keeper},
    )
    return undo


def _invite_members(homeserver: Homeserver, duplicate: SpaceView, keeper: str) -> list[str]:
    """People of the duplicate come along: they are invited to the keeper, except those who are in it or left it."""
    there = homeserver.client.members(keeper, homeserver.sender_id)
    invited = []
    for person, membership in duplicate.members.items():
        if membership != "join" or person == homeserver.sender_id or person in there:
            continue
        try:
            homeserver.client.invite(keeper, person, homeserver.sender_id)
            invited.append(person)
        except Refused as error:
            if error.general:
                raise
    return invited


def space_unmerge(homeserver: Homeserver, keeper: str, undo: dict[str, Any], *, actor: str) -> None:
    """Take back one ``space_merge``: the duplicate is a space of its own again, the keeper lists what it listed before."""
    client, sender = homeserver.client, homeserver.sender_id
    for child in undo["added"]:
        client.remove_from_space(keeper, child, user_id=sender)
    for child, owner in undo["parents"].items():
        client.set_parent(child, undo["room_id"], user_id=owner)
    there = client.members(keeper, sender) if undo["invited"] else {}
    for person in undo["invited"]:
        if there.get(person) == "invite":
            client.kick(keeper, person, sender)
    if undo["alias"]:
        client.put_alias(undo["alias"], undo["room_id"], sender)
    # Homeservers want the key; an empty one leads nowhere.
    client.put_state(undo["room_id"], "m.room.tombstone", "", {"body": "", "replacement_room": ""}, sender)
    record(
        actor=actor,
        action="space.unmerged",
        target=space_row(homeserver),
        before={"from": keeper},
        after={"room_id": undo["room_id"]},
    )
