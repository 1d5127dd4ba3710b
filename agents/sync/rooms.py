"""The steps of a plan that the homeserver has to do: accounts, rooms, the space, invitations.

Each function may be called again at any time: what is there already is adopted.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from django.utils import timezone

from agents.matrix.errors import Forbidden, MatrixError, NotFound, Refused, Taken, TokenRefused
from agents.models import Account, Agent, Invitation, InvitationState, Mapping, Room, RoomKind
from agents.services.backends import Homeserver, user_prefix
from agents.sync import pauses
from agents.sync.avatars import avatar_mxc
from agents.sync.epochs import current_epoch
from agents.sync.hearing import hear_soon, listeners
from agents.sync.plan import topic_for
from agents.sync.takeover import MARK, TAKEOVER_FIELDS, mark_wanted, newest_event, take_over_from
from ops.logs import get_logger

log = get_logger(__name__)


def register_account(homeserver: Homeserver, account: Account) -> None:
    """Make the account, or adopt the one that is there (``M_USER_IN_USE``)."""
    homeserver.client.register(account.localpart)
    account.registered_at = timezone.now()
    account.save(update_fields=["registered_at"])


def register_sender(homeserver: Homeserver) -> None:
    """Switchboard's own account, which holds the space."""
    homeserver.client.register(homeserver.sender_localpart)


def set_profile(homeserver: Homeserver, account: Account, agent: Agent) -> None:
    """The account's name and picture follow the agent's."""
    name = agent.name[:255]
    if account.display_name != name:
        homeserver.client.set_display_name(account.user_id, name)
        account.display_name = name
        account.save(update_fields=["display_name"])
    if account.avatar_source != agent.avatar_url:
        mxc = avatar_mxc(homeserver, agent)
        if mxc is not None:
            homeserver.client.set_avatar(account.user_id, mxc)
        # A picture that cannot be had is not asked for again until its address changes.
        account.avatar_source, account.avatar_mxc = agent.avatar_url, mxc or ""
        account.save(update_fields=["avatar_source", "avatar_mxc"])


def ensure_room(homeserver: Homeserver, mapping: Mapping, invitees: Sequence[str], space_room_id: str) -> bool:
    """Make the agent's room with everybody invited, or adopt the one that has its alias. Returns whether it was made."""
    room, account, agent = mapping.room, mapping.account, mapping.agent
    assert room is not None
    name, topic = agent.name[:255], topic_for(agent.name, agent.description)
    # Read before the room exists: whatever is lost after that has raised the epoch since.
    epoch = current_epoch(homeserver.service)
    invitees = pauses.without_paused(homeserver.service, invitees)
    state: list[dict[str, object]] = [
        {"type": "m.room.guest_access", "state_key": "", "content": {"guest_access": "forbidden"}}
    ]
    if space_room_id:
        state.append(
            {
                "type": "m.space.parent",
                "state_key": space_room_id,
                "content": {"via": [homeserver.server_name], "canonical": True},
            }
        )
    room_id, created, invited = _create_or_adopt(
        homeserver, user_id=account.user_id, localpart=account.localpart, alias=room.alias, name=name, topic=topic,
        invitees=invitees, initial_state=state,
    )  # fmt: skip
    room.room_id = room_id
    if created:
        room.name, room.topic, room.caught_up_epoch = name, topic, epoch
        # As it was just made there is nothing to compare.
        room.looked_at = timezone.now()
    else:
        # With the row, not after it: intake finds the room as soon as it stands there.
        take_over_from(room, newest_event(homeserver, room_id, account.user_id))
    room.save(update_fields=["room_id", "name", "topic", "looked_at", *TAKEOVER_FIELDS])
    hear_soon(homeserver, room, account.user_id)
    if created and invited:
        _mark_invited(room, invitees)
        return created
    if not created:
        describe(homeserver, room, name, topic, account.user_id)
    invite_missing(homeserver, room, invitees, account.user_id)
    return created


def ensure_space(homeserver: Homeserver, name: str, invitees: Sequence[str]) -> Room:
    """Make the space, or adopt the one that has Switchboard's alias."""
    # An appservice may only make aliases of its own namespace. No agent's id becomes this one: all but Letta's carry their service.
    localpart = f"{user_prefix(homeserver)}space"
    alias = f"#{localpart}:{homeserver.server_name}"
    room, _ = Room.objects.get_or_create(
        homeserver=homeserver.service, kind=RoomKind.SPACE, defaults={"alias": alias, "in_space": True}
    )
    if room.room_id:
        return room
    register_sender(homeserver)
    invitees = pauses.without_paused(homeserver.service, invitees)
    room_id, created, invited = _create_or_adopt(
        homeserver, user_id=homeserver.sender_id, localpart=localpart, alias=alias, name=name,
        topic="Every agent has a room here.", invitees=invitees, initial_state=[], is_space=True,
    )  # fmt: skip
    room.room_id, room.alias = room_id, alias
    if created:
        room.name, room.looked_at = name, timezone.now()
    room.save(update_fields=["room_id", "alias", "name", "looked_at"])
    if created and invited:
        _mark_invited(room, invitees)
        return room
    if not created:
        describe(homeserver, room, name, room.topic, homeserver.sender_id)
    invite_missing(homeserver, room, invitees, homeserver.sender_id)
    return room


def _create_or_adopt(
    homeserver: Homeserver,
    *,
    user_id: str,
    localpart: str,
    alias: str,
    name: str,
    topic: str,
    invitees: Sequence[str],
    initial_state: list[dict[str, object]],
    is_space: bool = False,
) -> tuple[str, bool, bool]:
    """Returns (room id, made now, people were invited along)."""
    client = homeserver.client

    def create(people: Sequence[str]) -> str:
        return client.create_room(
            user_id=user_id,
            name=name,
            alias_localpart=localpart,
            topic=topic,
            invite=(*people, *listeners(homeserver, user_id)),
            preset="private_chat",
            is_space=is_space,
            initial_state=initial_state,
            power_levels={"invite": 50, "state_default": 100} if is_space else None,
        )

    try:
        return create(invitees), True, True
    except Taken:
        pass
    except Refused as error:
        if not invitees or isinstance(error, TokenRefused):
            raise
        # One invitee whom the homeserver refuses must not cost the agent its room; each is invited singly afterwards.
        log.warning("sync.room_without_invitations", room=name, error=error.sentence)
        try:
            return create(()), True, False
        except Taken:
            # Synapse keeps the room that it made before it refused the invitation.
            pass
    found = client.resolve_alias(alias)
    if found is not None and _is_member(homeserver, found, user_id):
        return found, False, False
    # The alias leads nowhere we can get to: a room that a crash left half made. Nobody is in it; take the name back.
    log.warning("sync.alias_taken_back", alias=alias, room_id=found)
    client.delete_alias(alias, user_id)
    return create(()), True, False


def _is_member(homeserver: Homeserver, room_id: str, user_id: str) -> bool:
    try:
        homeserver.client.join(room_id, user_id)
    except Refused as error:
        # Synapse says "no servers that are in the room" (404, M_UNKNOWN) of a room that everybody has left.
        if error.general:
            raise
        return False
    return True


def _mark_invited(room: Room, people: Sequence[str]) -> None:
    pauses.note_accepted(room.homeserver, people)
    Invitation.objects.bulk_create(
        [Invitation(room=room, user_id=one, state=InvitationState.INVITED) for one in people], ignore_conflicts=True
    )


def describe_agent_room(homeserver: Homeserver, mapping: Mapping) -> None:
    """The room's name and topic follow the agent's."""
    assert mapping.room is not None
    agent = mapping.agent
    describe(
        homeserver, mapping.room, agent.name[:255], topic_for(agent.name, agent.description), mapping.account.user_id
    )


def describe(homeserver: Homeserver, room: Room, name: str, topic: str, user_id: str) -> None:
    """Set name and topic where they differ from what was last written."""
    assert room.room_id
    if room.name != name:
        homeserver.client.put_state(room.room_id, "m.room.name", "", {"name": name}, user_id)
        room.name = name
        room.save(update_fields=["name"])
    if room.topic != topic:
        homeserver.client.put_state(room.room_id, "m.room.topic", "", {"topic": topic}, user_id)
        room.topic = topic
        room.save(update_fields=["topic"])


def add_to_space(homeserver: Homeserver, room: Room, space_room_id: str, name: str) -> None:
    """List the room in the space, sorted by the agent's name."""
    assert room.room_id
    order = "".join(char for char in name.lower() if " " <= char <= "~")[:50]
    mapping = getattr(room, "mapping", None)
    mark = mark_wanted(homeserver, mapping) if mapping is not None else None
    homeserver.client.add_to_space(
        space_room_id, room.room_id, user_id=homeserver.sender_id, order=order, extra={MARK: mark} if mark else {}
    )
    room.in_space, room.child_order = True, order
    room.save(update_fields=["in_space", "child_order"])


def name_space(homeserver: Homeserver, room: Room, space_room_id: str, user_id: str) -> None:
    """Let the room name its space. Where the agent may not set that, the space lists the room all the same."""
    assert room.room_id
    try:
        homeserver.client.set_parent(room.room_id, space_room_id, user_id=user_id)
    except Forbidden as error:
        log.info("room.parent_not_set", room=room.room_id, error=error.sentence[:200])


def remove_from_space(homeserver: Homeserver, room: Room, space_room_id: str) -> None:
    """Take the room off the space's list; the room itself stays, with all that was said in it."""
    assert room.room_id
    homeserver.client.remove_from_space(space_room_id, room.room_id, user_id=homeserver.sender_id)
    room.in_space, room.child_order = False, ""
    room.save(update_fields=["in_space", "child_order"])


_MEMBERSHIPS = {
    "invite": InvitationState.INVITED,
    "join": InvitationState.JOINED,
    "leave": InvitationState.LEFT,
    "ban": InvitationState.LEFT,
}


def invite_missing(homeserver: Homeserver, room: Room, people: Sequence[str], inviter: str) -> None:
    """An adopted room knows who was invited before; only the others are. Whoever left is left alone."""
    if not people:
        return
    assert room.room_id
    members = homeserver.client.members(room.room_id, inviter)
    for person in people:
        known = _MEMBERSHIPS.get(members.get(person, ""))
        if known is None:
            invite(homeserver, room, person, inviter)
        else:
            Invitation.objects.update_or_create(room=room, user_id=person, defaults={"state": known, "error": ""})


def invite(homeserver: Homeserver, room: Room, person: str, inviter: str) -> None:
    """Invite one person. A refusal is kept with its reason and tried again later, never in a loop.

    Raises ``MatrixError`` only for what concerns the homeserver as a whole (not reachable, token refused).
    """
    assert room.room_id
    if pauses.is_paused(homeserver.service, person):
        return
    try:
        homeserver.client.invite(room.room_id, person, inviter)
    except MatrixError as error:
        if not isinstance(error, (Forbidden, NotFound, Taken)) and error.general:
            raise
        new = _postpone(room, person, error)
        pauses.note_refused(homeserver, room, person, inviter, error, new=new)
        return
    pauses.note_accepted(homeserver.service, [person])
    Invitation.objects.update_or_create(
        room=room, user_id=person, defaults={"state": InvitationState.INVITED, "error": "", "not_before": None}
    )


def _postpone(room: Room, person: str, error: MatrixError) -> bool:
    """Returns whether this is the first refusal in a row."""
    row, _ = Invitation.objects.get_or_create(room=room, user_id=person)
    new = row.state != InvitationState.FAILED
    row.state, row.error = InvitationState.FAILED, error.sentence[:500]
    # 1, 2, 4 … minutes, at most a day.
    row.not_before = timezone.now() + timedelta(minutes=min(2**row.attempts, 24 * 60))
    row.attempts += 1
    row.save()
    return new
