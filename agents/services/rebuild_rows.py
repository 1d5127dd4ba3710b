"""The rows of what a rebuild found: one transaction for each agent, and what was said before is not answered again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django.db import transaction
from django.utils import timezone

from agents.models import Account, Agent, Invitation, InvitationState, Room, RoomKind
from agents.models import Mapping as MappingRow
from agents.services.backends import Homeserver
from agents.services.spaces import SpaceView
from agents.sync.observe import invitees
from agents.sync.rebuild import Claim
from agents.sync.rows import create_agent
from agents.sync.seen import SeenRoom
from agents.sync.takeover import History, newest_event, take_over_from
from ops.services.audit import record

INVITATION_STATES = {
    "invite": InvitationState.INVITED,
    "join": InvitationState.JOINED,
    "leave": InvitationState.LEFT,
    "ban": InvitationState.LEFT,
}
DirectTaker = Callable[[Room, Agent], None]
_takers: list[DirectTaker] = []


class Taken(Exception):
    """A row that belongs to another agent is in the way. The text says which."""


def register_direct_room(taker: DirectTaker) -> None:
    """Let the app above take up a chat that people opened with an agent, once its room has a row again."""
    if taker not in _takers:
        _takers.append(taker)


def write_claim(
    homeserver: Homeserver, claim: Claim, listed: Mapping[str, Any], *, actor: str, history: History | None = None
) -> dict[str, int]:
    """The rows of one agent. Returns how many of each kind were written. Raises ``Taken``, ``MatrixError`` or ``IntegrityError``.

    ``history``: what was said in its rooms is taken in, in place of being passed over.
    """
    user = claim.account.user_id
    # Before any row is: what comes after this event is for us.
    reader = homeserver.sender_id if homeserver.client_mode else user
    newest = newest_event(homeserver, claim.room.room_id, reader) if claim.room is not None else None
    direct = [(room, newest_event(homeserver, room.room_id, reader)) for room in claim.direct]
    agent = create_agent(claim.wanted.service, claim.wanted.info, actor=actor)
    with transaction.atomic():
        account = _account(homeserver, claim, agent)
        room = _room_row(homeserver, claim, agent)
        made = {"mapping": 1, "account": 1, "room": 0, "invitation": 0, "direct": 0}
        if claim.room is not None and newest is not None:
            _describe(room, claim.room, user)
            if claim.room.room_id in listed:
                room.in_space, room.child_order = True, str(listed[claim.room.room_id].get("order") or "")[:50]
            room.switchboard_joined = claim.room.members.get(homeserver.sender_id) == "join"
            take_over_from(room, newest, history)
            room.save()
            made["room"] = 1
            made["invitation"] = write_invitations(room, claim.room.members)
        mapping, _ = MappingRow.objects.update_or_create(agent=agent, defaults={"account": account, "room": room})
        for seen, last in direct:
            made["direct"] += write_direct(homeserver, agent, seen, last, history)
        record(
            actor=actor,
            action="mapping.rebuilt",
            target=mapping,
            message=f"Found on the homeserver by {claim.how}."
            if claim.how
            else "The account was found; it has no room.",
            after={"account": user, "room_id": claim.room.room_id if claim.room else None},
        )
    return made


def _account(homeserver: Homeserver, claim: Claim, agent: Agent) -> Account:
    seen, info = claim.account, claim.wanted.info
    account = Account.objects.select_for_update().filter(user_id=seen.user_id).first()
    holder = MappingRow.objects.filter(account=account).exclude(agent=agent).first() if account is not None else None
    if holder is not None:
        raise Taken(f"{seen.user_id} is the account of {holder.agent}.")
    account = account or Account(homeserver=homeserver.service, user_id=seen.user_id)
    account.localpart = seen.user_id[1:].partition(":")[0]
    account.registered_at = account.registered_at or timezone.now()
    account.display_name, account.avatar_mxc = seen.display_name[:255], seen.avatar_mxc[:255]
    # The picture that is there was made of the address that the server gives, as far as anybody can tell.
    account.avatar_source = info.avatar_url if seen.avatar_mxc or not info.avatar_url else ""
    account.save()
    return account


def _room_row(homeserver: Homeserver, claim: Claim, agent: Agent) -> Room:
    """The row for the agent's room: the one it has, one of this room id or alias that nobody has, or a new one."""
    alias = (claim.room.alias if claim.room is not None else "") or f"#{claim.account.user_id[1:]}"
    mapping = MappingRow.objects.filter(agent=agent).select_related("room").first()
    if mapping is not None and mapping.room is not None:
        row = mapping.room
    else:
        free = Room.objects.filter(
            homeserver=homeserver.service, alias=alias, mapping__isnull=True, kind=RoomKind.AGENT
        )
        row = free.first() or Room(homeserver=homeserver.service, kind=RoomKind.AGENT)
    if claim.room is not None:
        same = Room.objects.filter(room_id=claim.room.room_id).exclude(pk=row.pk).first()
        if same is not None:
            if same.kind != RoomKind.AGENT or MappingRow.objects.filter(room=same).exclude(agent=agent).exists():
                raise Taken(f"{claim.room.room_id} is in use already ({same}).")
            row = same
        row.room_id = claim.room.room_id
    row.alias = alias[:255]
    row.save()
    return row


def _describe(row: Room, seen: SeenRoom, user: str) -> None:
    row.name, row.topic, row.encrypted = seen.name[:255], seen.topic[:1000], seen.encrypted
    if seen.predecessor and seen.predecessor not in row.predecessors:
        row.predecessors = [seen.predecessor, *row.predecessors]


def write_invitations(row: Room, members: Mapping[str, str]) -> int:
    """What became of the invitations of those who are invited everywhere; returns how many are known."""
    rows = [
        Invitation(room=row, user_id=person, state=state)
        for person in invitees()
        if (state := INVITATION_STATES.get(members.get(person, ""))) is not None
    ]
    Invitation.objects.bulk_create(
        rows, update_conflicts=True, unique_fields=["room", "user_id"], update_fields=["state"]
    )
    return len(rows)


def write_direct(
    homeserver: Homeserver, agent: Agent, seen: SeenRoom, newest: tuple[Any, str], history: History | None
) -> int:
    """The rows of a chat that somebody opened with the agent; 0 where there is one already."""
    if Room.objects.filter(room_id=seen.room_id).exists():
        return 0
    row = Room(homeserver=homeserver.service, kind=RoomKind.DIRECT, room_id=seen.room_id, alias=seen.alias[:255])
    row.name, row.encrypted = (seen.name or agent.name)[:255], seen.encrypted
    row.switchboard_joined = seen.members.get(homeserver.sender_id) == "join"
    take_over_from(row, newest, history)
    row.save()
    for taker in _takers:
        taker(row, agent)
    return 1


def write_space(homeserver: Homeserver, view: SpaceView, alias: str) -> Room:
    """The space's row, with who was invited to it."""
    with transaction.atomic():
        row = Room.objects.filter(homeserver=homeserver.service, kind=RoomKind.SPACE).first()
        row = row or Room(homeserver=homeserver.service, kind=RoomKind.SPACE)
        row.room_id, row.alias, row.name, row.in_space = view.room_id, view.alias or alias, view.name[:255], True
        row.switchboard_joined = True
        row.save()
        write_invitations(row, view.members)
    return row
