"""A conversation of the portal in a Matrix room of its own, and a room's conversation in the portal: one history, whichever way.

Rooms are made as the agent's account, with an alias that derives from the conversation's row: after a crash the room that stands there is
found again, and no second one is made.
"""

from __future__ import annotations

from functools import partial
from typing import Any
from urllib.parse import quote

from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet

from agents.models import Account, Agent, AgentState, Invitation, InvitationState, Room, RoomKind
from agents.services.backends import Homeserver, NoHomeserver, homeserver_of, open_homeserver, user_prefix
from agents.sync.epochs import current_epoch
from agents.sync.rooms import register_account, set_profile
from chat import live
from chat.access.grants import NotYours
from chat.deliveries import outbox
from chat.models import Conversation, Link, LinkKind, Membership, Message, Participant, ParticipantKind, Person, Role
from chat.portal.queries import branch_below
from chat.services.branches import plant
from chat.wakeup import wake_deliveries
from ops.locks import named_lock
from ops.services.audit import record

# So much of what was said before is shown in a new room.
BACKFILL = 50
# The address of a link by which people have a room's conversation in the portal.
FROM_ROOM = "room:"


class CannotOpenRoom(Exception):
    """``sentence`` says why and what to do; ``code`` is stable."""

    def __init__(self, sentence: str, *, code: str) -> None:
        super().__init__(sentence)
        self.sentence, self.code = sentence, code


def place_of(conversation: Conversation) -> dict[str, Any] | None:
    """The room that shows a conversation as ``{room_id, alias, url}``; ``None`` when no room does."""
    room = _room_of(conversation)
    return None if room is None else place_json(room)


def place_json(room: Room) -> dict[str, Any]:
    """A room as people find it."""
    return {"room_id": room.room_id, "alias": room.alias, "url": room_url(room.alias or room.room_id or "")}


def room_url(where: str) -> str:
    """Opens a room (alias or id) in a Matrix client."""
    return settings.MATRIX_CLIENT_URL.rstrip("/") + "/" + quote(where, safe="#!:@.")


def _room_of(conversation: Conversation) -> Room | None:
    link = Link.objects.filter(conversation=conversation, room__room_id__isnull=False).select_related("room").first()
    return link.room if link is not None else None


def conversation_room_open(*, membership: Membership, actor: str) -> dict[str, Any]:
    """The conversation's Matrix room, made when there is none, with the person invited. Returns it as ``place_json``.

    What was said before follows into a new room, the last ``BACKFILL`` messages of the branch that is shown. May be repeated at any time.
    Raises ``CannotOpenRoom``, ``MatrixError``, or ``ops.locks.LockHeld`` while somebody else does the same.
    """
    person, conversation = membership.person, membership.conversation
    if not person.matrix_user_id:
        raise CannotOpenRoom(
            "You have no Matrix account yet. Make one here, or ask an operator to enter yours.",
            code="matrix.no_account",
        )
    with named_lock(f"portal.room:{conversation.pk}", wait=10.0):
        room = _room_of(conversation)
        if room is not None:
            _invite(homeserver_of(room.homeserver), room, person)
            return place_json(room)
        homeserver, account = _agents_account(conversation)
        return place_json(_make(homeserver, account, membership, actor))


def _agents_account(conversation: Conversation) -> tuple[Homeserver, Account]:
    agent: Agent | None = conversation.agent
    if agent is None or agent.state == AgentState.ARCHIVED:
        raise CannotOpenRoom("The agent of this conversation no longer exists.", code="matrix.no_agent")
    try:
        homeserver = open_homeserver()
    except NoHomeserver as error:
        raise CannotOpenRoom(f"{error.sentence} Ask an operator.", code="matrix.none") from error
    account = agent.account
    if account is None or account.homeserver_id != homeserver.service.pk:
        raise CannotOpenRoom(
            f"{agent.name} has no Matrix account yet; it gets one with the next sync. Try again in a minute.",
            code="matrix.agent_has_no_account",
        )
    if account.registered_at is None:
        register_account(homeserver, account)
        set_profile(homeserver, account, agent)
    return homeserver, account


def _make(homeserver: Homeserver, account: Account, membership: Membership, actor: str) -> Room:
    conversation, person = membership.conversation, membership.person
    agent = conversation.agent
    assert agent is not None
    # The time keeps a restored database from taking over a room of its own future.
    born = int(conversation.created_at.timestamp() * 1e6)
    localpart = f"{user_prefix(homeserver)}portal_{conversation.pk}_{born:x}"
    # Read before the room exists: whatever is lost after that has raised the epoch since.
    epoch = current_epoch(homeserver.service)
    name = (conversation.title or agent.name)[:255]
    room_id, created = homeserver.client.create_or_adopt_room(
        alias_localpart=localpart,
        user_id=account.user_id,
        name=name,
        topic=f"A conversation with {agent.name} from the portal.",
        invite=[person.matrix_user_id],
        preset="private_chat",
        is_direct=True,
        initial_state=[{"type": "m.room.guest_access", "state_key": "", "content": {"guest_access": "forbidden"}}],
    )
    with transaction.atomic():
        Conversation.objects.select_for_update().get(pk=conversation.pk)
        room, _ = Room.objects.get_or_create(
            room_id=room_id,
            defaults={
                "homeserver": homeserver.service,
                "kind": RoomKind.DIRECT,
                "alias": f"#{localpart}:{homeserver.server_name}",
                "name": name,
                "caught_up_epoch": epoch,
            },
        )
        Link.objects.get_or_create(room=room, defaults={"conversation": conversation, "kind": LinkKind.ROOM})
        Participant.objects.get_or_create(
            conversation=conversation,
            kind=ParticipantKind.AGENT,
            external_id=str(agent.pk),
            defaults={"agent": agent, "name": agent.name[:255]},
        )
        Invitation.objects.update_or_create(
            room=room, user_id=person.matrix_user_id, defaults={"state": InvitationState.INVITED, "error": ""}
        )
        waiting = _backfill(conversation, room, account)
        record(
            actor=actor,
            action="conversation.room_opened",
            target=conversation,
            after={"room_id": room_id, "invited": person.matrix_user_id},
        )
        transaction.on_commit(lambda: wake_deliveries(waiting[:1]))
        live.conversation_changed(conversation.pk)
    if not created:
        _invite(homeserver, room, person)
    return room


def _backfill(conversation: Conversation, room: Room, account: Account) -> list[int]:
    """What was said before, for the room, in order; first where all of it is. They are delivered one after the other."""
    rows, earlier = branch_below(conversation.head_id, through=conversation.next_seq, before=None, limit=BACKFILL)
    where = f"{settings.PUBLIC_URL}/chat/c/{conversation.pk}/"
    told = "This conversation goes on in a Matrix room as well, with one history."
    if earlier:
        told += f" The last {BACKFILL} messages are shown there; all of it is at {where}"
    else:
        told += f" In the portal it is at {where}"
    waiting = [outbox.notice(conversation, room, told, account=account).pk]
    for message in rows:
        waiting.append(_show(message, room, account))
    return waiting


def _show(message: Message, room: Room, account: Account) -> int:
    shown = outbox.mirror(message, room)
    if message.role == Role.ASSISTANT:
        shown.account, shown.speak_as = account, "agent"
        shown.save(update_fields=["account", "speak_as"])
    return shown.pk


def _invite(homeserver: Homeserver, room: Room, person: Person) -> None:
    """Invite the person unless they are in the room or invited; the homeserver knows."""
    account = _account_in(room)
    if account is None:
        return
    homeserver.client.invite(room.room_id or "", person.matrix_user_id, account.user_id)
    Invitation.objects.get_or_create(
        room=room, user_id=person.matrix_user_id, defaults={"state": InvitationState.INVITED}
    )


def _account_in(room: Room) -> Account | None:
    """The account of the agent that a room is of."""
    mapping = getattr(room, "mapping", None)
    if mapping is not None:
        found: Account = mapping.account
        return found
    link = Link.objects.filter(room=room).first()
    part = (
        Participant.objects.filter(
            conversation_id=link.conversation_id, kind=ParticipantKind.AGENT, agent__isnull=False
        )
        .select_related("agent__mapping__account")
        .first()
        if link is not None
        else None
    )
    return part.agent.account if part is not None and part.agent is not None else None


def rooms_of(person: Person) -> QuerySet[Room]:
    """Rooms in which the person's Matrix account takes part, as far as we have seen, and that show an agent's conversation."""
    if not person.matrix_user_id:
        return Room.objects.none()
    spoke = Participant.objects.filter(kind=ParticipantKind.GUEST, external_id=person.matrix_user_id).values(
        "conversation_id"
    )
    invited = Invitation.objects.filter(user_id=person.matrix_user_id, state=InvitationState.JOINED).values("room_id")
    return (
        Room.objects.filter(room_id__isnull=False)
        .exclude(kind=RoomKind.SPACE)
        .filter(Q(pk__in=invited) | Q(link__conversation__in=spoke))
        .select_related("link__conversation", "mapping__agent")
    )


def room_open(*, person: Person, room_pk: int, actor: str) -> Membership:
    """Have a room's conversation in the portal too. The homeserver says whether the person's account is in the room at this moment.

    Raises ``NotYours``, ``CannotOpenRoom`` or ``MatrixError``.
    """
    room = rooms_of(person).select_related("homeserver").filter(pk=room_pk).first()
    account = _account_in(room) if room is not None else None
    if room is None or account is None:
        raise NotYours(f"There is no room {room_pk}.")
    client = homeserver_of(room.homeserver).client
    if person.matrix_user_id not in client.joined_members(room.room_id or "", account.user_id):
        raise NotYours(f"There is no room {room_pk}.")
    agent = account.mapping.agent
    with transaction.atomic():
        link = Link.objects.select_related("conversation").filter(room=room).first()
        if link is None:
            raise CannotOpenRoom("Nothing was said in this room yet. Say something there first.", code="matrix.empty")
        conversation = Conversation.objects.select_for_update().get(pk=link.conversation_id)
        plant(conversation)
        if conversation.agent_id is None:
            Conversation.objects.filter(pk=conversation.pk).update(agent=agent)
        Link.objects.get_or_create(conversation=conversation, kind=LinkKind.PORTAL, address=f"{FROM_ROOM}{room.pk}")
        membership, made = Membership.objects.get_or_create(
            conversation=conversation, person=person, defaults={"last_read_seq": conversation.next_seq - 1}
        )
        Membership.objects.filter(pk=membership.pk).update(removed_at=None)
        if made:
            record(actor=actor, action="conversation.opened_from_room", target=conversation, after={"room": room.pk})
        live.conversation_changed(conversation.pk)
    return membership


def room_left(*, room: Room, user_id: str) -> None:
    """Somebody is no longer in a room: what they had of it in the portal goes with that. Conversations begun in the portal stay theirs."""
    link = Link.objects.filter(room=room).first()
    if (
        link is None
        or not Link.objects.filter(
            conversation_id=link.conversation_id, kind=LinkKind.PORTAL, address=f"{FROM_ROOM}{room.pk}"
        ).exists()
    ):
        return
    frame = {"type": "conversation", "conversation": link.conversation_id}
    with transaction.atomic():
        rows = Membership.objects.filter(conversation_id=link.conversation_id, person__matrix_user_id=user_id)
        for row in list(rows):
            row.delete()
            record(
                actor=f"matrix:{user_id}",
                action="conversation.left_with_room",
                target=f"chat.conversation:{link.conversation_id}",
            )
            transaction.on_commit(partial(live.publish_person, row.person_id, frame))
