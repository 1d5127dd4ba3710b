"""The homeserver asks for an account or a room that it does not know: agents' ones are made on the spot."""

from __future__ import annotations

from agents.models import AgentState, Mapping, Room
from agents.services.backends import homeserver_of
from agents.services.rooms import room_wanted
from agents.sync import rooms as room_steps
from ops.locks import LockHeld
from ops.models import Service


def user_exists(homeserver: Service, user_id: str) -> bool:
    """True when the account belongs to an agent (or is our own); it exists on the homeserver afterwards."""
    opened = homeserver_of(homeserver)
    if user_id == opened.sender_id:
        room_steps.register_sender(opened)
        return True
    mapping = (
        Mapping.objects.select_related("account", "agent__service")
        .filter(account__homeserver=homeserver, account__user_id=user_id)
        .exclude(agent__state=AgentState.ARCHIVED)
        .first()
    )
    if mapping is None:
        return False
    room_steps.register_account(opened, mapping.account)
    room_steps.set_profile(opened, mapping.account, mapping.agent)
    return True


def room_exists(homeserver: Service, alias: str) -> bool:
    """True when the alias belongs to an agent's room; it exists on the homeserver afterwards."""
    mapping = (
        Mapping.objects.select_related("account", "agent__service", "room")
        .filter(room__homeserver=homeserver, room__alias=alias)
        .exclude(agent__state=AgentState.ARCHIVED)
        .first()
    )
    if mapping is None or mapping.room is None:
        return False
    try:
        room_wanted(mapping=mapping, actor="homeserver")
    except LockHeld:
        # Somebody makes it at this moment, and takes long; whoever asked may ask again.
        return Room.objects.filter(pk=mapping.room.pk, room_id__isnull=False).exists()
    return True
