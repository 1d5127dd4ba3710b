"""What happens to rooms besides talk: invitations, joins, removals, encryption, upgrades."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import transaction
from django.utils import timezone

from agents.matrix.errors import MatrixError
from agents.models import Account, Agent, Invitation, InvitationState, Mapping, Room, RoomKind
from agents.services import encryption
from agents.services.backends import homeserver_of
from agents.services.drift import look_wanted
from agents.sync.rooms import set_profile
from chat.matrix import encrypted
from chat.models import Participant, ParticipantKind
from chat.services.conversations import conversation_of
from chat.services.portal_rooms import room_left
from ops.logs import get_logger
from ops.models import Service

log = get_logger(__name__)


def apply(event: dict[str, Any], room: Room) -> None:
    """Note what a state event means for us. Events that mean nothing to us are passed over."""
    kind, key = event.get("type"), event.get("state_key")
    content = event.get("content") if isinstance(event.get("content"), dict) else {}
    assert isinstance(content, dict)
    if isinstance(kind, str) and isinstance(key, str) and _differs(kind, key, content, str(event.get("sender")), room):
        look_wanted(room)
    if kind == "m.room.member" and isinstance(key, str):
        encryption.members_changed(homeserver_of(room.homeserver), room.room_id or "")
        _membership(room, key, str(content.get("membership")), str(event.get("sender")))
    elif kind == "m.room.encryption":
        encrypted.noticed(room, homeserver_of(room.homeserver))
    elif kind == "m.room.tombstone":
        _trouble(room, "The room was upgraded: its talk goes on in another room.")


# State that others may change, and that is to be as we left it.
_LOOKED_AFTER = frozenset(
    {"m.room.topic", "m.room.power_levels", "m.room.canonical_alias", "m.space.parent", "m.space.child"}
)


def _differs(kind: str, key: str, content: dict[str, Any], sender: str, room: Room) -> bool:
    """Whether the event may mean that the homeserver differs from our rows: then sync looks at the room.

    What our own accounts did is known, except that one of them is no longer where it was, or that a room was replaced.
    """
    mapping = getattr(room, "mapping", None)
    if mapping is None and room.kind != RoomKind.SPACE:
        return False
    own = mapping.account.user_id if mapping is not None else homeserver_of(room.homeserver).sender_id
    if kind == "m.room.tombstone":
        return True
    if kind == "m.room.member":
        return _member_differs(key, content, sender, own, mapping)
    if sender in (own, homeserver_of(room.homeserver).sender_id):
        return False
    return kind in _LOOKED_AFTER or (kind == "m.room.name" and content.get("name") != room.name)


def _member_differs(key: str, content: dict[str, Any], sender: str, own: str, mapping: Mapping | None) -> bool:
    membership = content.get("membership")
    if key != own:
        # Removed by somebody else; whoever leaves by themselves is left alone. Another agent in this room is one too many.
        removed = membership in ("leave", "ban") and sender != key
        return removed or (membership == "join" and Account.objects.filter(user_id=key, mapping__isnull=False).exists())
    if membership != "join" or mapping is None:
        return membership != "join"
    account = mapping.account
    # Both are empty until sync has set them.
    renamed = bool(account.display_name) and content.get("displayname") != account.display_name
    return renamed or (bool(account.avatar_mxc) and content.get("avatar_url") != account.avatar_mxc)


def _membership(room: Room, user_id: str, membership: str, sender: str) -> None:
    states = {
        "invite": InvitationState.INVITED,
        "join": InvitationState.JOINED,
        "leave": InvitationState.LEFT,
        "ban": InvitationState.LEFT,
    }
    if membership not in states:
        return
    mapping = getattr(room, "mapping", None)
    if mapping is not None and user_id == mapping.account.user_id:
        if membership in {"leave", "ban"} and sender != user_id:
            _trouble(room, f"{sender} removed the agent from its room.")
        elif membership == "join" and mapping.problem:
            Mapping.objects.filter(pk=mapping.pk).update(problem="", problem_since=None)
            mapping.problem = ""
        return
    if membership in {"leave", "ban"}:
        room_left(room=room, user_id=user_id)
    Invitation.objects.filter(room=room, user_id=user_id).exclude(state=states[membership]).update(
        state=states[membership], error="", updated_at=timezone.now()
    )


def _trouble(room: Room, sentence: str) -> None:
    mapping = getattr(room, "mapping", None)
    if mapping is not None:
        Mapping.objects.filter(pk=mapping.pk).update(problem=sentence[:500], problem_since=timezone.now())
        mapping.problem = sentence[:500]
    log.warning("room.trouble", room=room.room_id, sentence=sentence)


def unknown_room(room_id: str, events: Sequence[dict[str, Any]], homeserver: Service) -> Room | None:
    """A room without a row: taken up when somebody of this homeserver invites one of our agents into it.

    Returns the room when it is ours now. Raises ``MatrixError`` when the homeserver does not let us in for the moment.
    """
    for event in events:
        content = event.get("content")
        if (
            event.get("type") == "m.room.member"
            and isinstance(content, dict)
            and content.get("membership") == "invite"
            and isinstance(event.get("state_key"), str)
        ):
            account = (
                Account.objects.select_related("mapping__agent")
                .filter(
                    homeserver=homeserver,
                    user_id=event["state_key"],
                    registered_at__isnull=False,
                    mapping__isnull=False,
                )
                .first()
            )
            if account is not None and may_invite(str(event.get("sender")), homeserver):
                return _take_up(room_id, account, homeserver)
    return None


def may_invite(sender: str, homeserver: Service) -> bool:
    """People of the homeserver may invite agents; strangers from elsewhere may not, unless the operator allows them."""
    allowed = homeserver.options.get("accept_invites_from") or ["local"]
    server = sender.partition(":")[2]
    return (
        "all" in allowed
        or server in allowed
        or ("local" in allowed and server == homeserver_of(homeserver).server_name)
    )


def _take_up(room_id: str, account: Account, homeserver: Service) -> Room | None:
    agent = account.mapping.agent
    client = homeserver_of(homeserver).client
    try:
        if account.display_name != agent.name[:255]:
            # Names of thousands of new accounts come last; whoever is spoken to has one.
            set_profile(homeserver_of(homeserver), account, agent)
        client.join(room_id, account.user_id)
    except MatrixError as error:
        if error.retryable:
            raise
        log.info("room.invitation_not_followed", room=room_id, error=error.sentence[:200])
        return None
    with transaction.atomic():
        room, _ = Room.objects.get_or_create(
            room_id=room_id, defaults={"homeserver": homeserver, "kind": RoomKind.DIRECT, "name": agent.name[:255]}
        )
        join_conversation(room, agent)
    log.info("room.taken_up", room=room_id, agent=agent.name)
    return Room.objects.select_related("homeserver", "link__conversation").get(pk=room.pk)


def join_conversation(room: Room, agent: Agent) -> None:
    """The agent takes part in what is said in a room that is not its own."""
    Participant.objects.get_or_create(
        conversation=conversation_of(room, agent),
        kind=ParticipantKind.AGENT,
        external_id=str(agent.pk),
        defaults={"agent": agent, "name": agent.name[:255]},
    )


def agent_of_direct_room(room: Room) -> Agent | None:
    """The agent who was invited into a room that is not its own."""
    row = (
        Participant.objects.filter(conversation__links__room=room, kind=ParticipantKind.AGENT)
        .select_related("agent__service", "agent__mapping__account")
        .order_by("pk")
        .first()
    )
    return row.agent if row is not None else None


def account_of_direct_room(room: Room) -> Account | None:
    """The account that speaks in a room that an agent was invited into."""
    agent = agent_of_direct_room(room)
    return agent.account if agent is not None else None
