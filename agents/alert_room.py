"""Alerts into a Matrix room of the operators: ``room://#ops:example.org`` or ``room://!id:example.org``.

Switchboard's own account speaks, so no token and no password has to be made for it. The transaction id comes from the alert: sent
again after a crash, it is the same event.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Any
from urllib.parse import unquote

from agents.matrix.content import text_content
from agents.matrix.errors import Forbidden, MatrixError
from agents.matrix.markdown import Rendered
from agents.services.backends import Homeserver, NoHomeserver, open_homeserver
from agents.sync.rooms import register_sender
from ops.alerts.transports import Envelope, NotSent, Transport, register_transport

SCHEME = "room"
_ROOM = re.compile(r"^[#!][^\s/?]+$")


def room_of(address: str) -> str:
    """The room's id or alias in an address."""
    return unquote(address.strip().partition("://")[2])


def problem(address: str) -> str:
    """What is wrong with an address, "" when nothing is."""
    if _ROOM.match(room_of(address)):
        return ""
    return "Name a room by its alias or id, for example room://#ops:example.org."


def send(address: str, envelope: Envelope) -> None:
    """Say it in the room, from Switchboard's own account, which accepts an invitation on the way. Raises ``NotSent``."""
    room = room_of(address)
    try:
        homeserver = open_homeserver()
        client = homeserver.client
        room_id = room if room.startswith("!") else client.resolve_alias(room)
        if not room_id:
            raise NotSent(f"The homeserver knows no room {room}.")
        txn = f"alert-{sha256(envelope.key.encode()).hexdigest()[:32]}"
        try:
            client.send(room_id, _content(envelope), txn_id=txn, user_id=None)
        except Forbidden:
            _walk_in(homeserver, room)
            client.send(room_id, _content(envelope), txn_id=txn, user_id=None)
    except NoHomeserver as error:
        raise NotSent(error.sentence) from None
    except MatrixError as error:
        raise NotSent(error.sentence) from None


def _walk_in(homeserver: Homeserver, room: str) -> None:
    try:
        register_sender(homeserver)
        homeserver.client.join(room, None)
    except Forbidden:
        raise NotSent(f"{homeserver.sender_id} is not in {room} and may not enter. Invite it there.") from None


def _content(envelope: Envelope) -> dict[str, Any]:
    # Pings whoever is in the room, where the room lets our account do that; good news pings nobody.
    loud: dict[str, Any] = {"m.mentions": {"room": True}} if envelope.tone in ("warning", "failure") else {}
    return text_content(Rendered(f"{envelope.title}\n\n{envelope.body}"), extra=loud)


register_transport(Transport(SCHEME, send, problem, lambda address: f"Matrix room {room_of(address)}"))
