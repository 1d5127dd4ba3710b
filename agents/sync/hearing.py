"""Client mode: Switchboard's own account is in every room, since its one sync brings what is said there.

Under an appservice this does nothing: the homeserver pushes what happens in rooms of our accounts.
"""

from __future__ import annotations

from agents.matrix.errors import RateLimited, Refused, SessionRefused
from agents.models import Room
from agents.services.backends import Homeserver
from ops.logs import get_logger

log = get_logger(__name__)


def listeners(homeserver: Homeserver, maker: str) -> tuple[str, ...]:
    """Who has to be invited along when ``maker`` makes a room, so that we hear what is said in it."""
    return (homeserver.sender_id,) if homeserver.client_mode and maker != homeserver.sender_id else ()


def hear(homeserver: Homeserver, room: Room, host: str) -> bool:
    """Get Switchboard's own account into the room, invited by ``host``. False: the host may not invite, or it does not get in.

    Raises ``MatrixError`` for what concerns the homeserver, or the session of an account, and not this room.
    """
    if not homeserver.client_mode or room.switchboard_joined:
        return True
    assert room.room_id
    try:
        _enter(homeserver, room.room_id, host)
    except Refused as error:
        if error.general:
            raise
        return False
    note_heard(room, True)
    return True


def hear_soon(homeserver: Homeserver, room: Room, host: str) -> None:
    """As ``hear``, for whoever makes a room: where the homeserver wants us to wait with joining, the room is entered later."""
    try:
        hear(homeserver, room, host)
    except (RateLimited, SessionRefused) as error:
        log.info("hearing.later", room=room.room_id, error=error.sentence[:200])


def _enter(homeserver: Homeserver, room_id: str, host: str) -> None:
    try:
        # Invited already, when the room was made; or in it since it spoke there.
        homeserver.client.join(room_id, homeserver.sender_id)
    except Refused as error:
        if error.general:
            raise
        homeserver.client.invite(room_id, homeserver.sender_id, host)
        homeserver.client.join(room_id, homeserver.sender_id)


def note_heard(room: Room, joined: bool) -> None:
    """Whether Switchboard's own account is in the room."""
    if Room.objects.filter(pk=room.pk).exclude(switchboard_joined=joined).update(switchboard_joined=joined):
        room.switchboard_joined = joined
