"""Lets the homeserver follow what a mapping says: its address, and the place in the space."""

from __future__ import annotations

from agents.models import Mapping, Room, RoomKind
from agents.services.backends import Homeserver
from agents.sync import rooms as steps


def move_address(homeserver: Homeserver, alias: str, room_id: str, user_id: str) -> None:
    """The alias leads to this room, whatever it led to before."""
    found = homeserver.client.resolve_alias(alias)
    if found == room_id:
        return
    if found is not None:
        homeserver.client.delete_alias(alias, user_id)
    homeserver.client.put_alias(alias, room_id, user_id)


def follow_space(homeserver: Homeserver, mapping_pk: int, *, former: str) -> None:
    """The space lists the room that the mapping names now, and not the former one."""
    mapping = Mapping.objects.select_related("room", "agent", "account").get(pk=mapping_pk)
    space = Room.objects.filter(homeserver=homeserver.service, kind=RoomKind.SPACE).first()
    if space is None or not space.room_id or mapping.room is None or former == mapping.room.room_id:
        return
    if former:
        homeserver.client.remove_from_space(space.room_id, former, user_id=homeserver.sender_id)
    steps.add_to_space(homeserver, mapping.room, space.room_id, mapping.agent.name)
