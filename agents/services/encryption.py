"""Encrypted rooms in client mode: which rooms are, who may read what is said there, and what goes out in place of plain words.

The keys are kept by :mod:`agents.matrix.crypto`. An appservice has no devices here and sees only what is not encrypted.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from agents.matrix.crypto.errors import KeysUnusable
from agents.matrix.crypto.files import sealed
from agents.matrix.crypto.folder import path_of
from agents.matrix.errors import MatrixError
from agents.matrix.split import EVENT_LIMIT
from agents.models import Account, Room
from agents.services.backends import Homeserver
from ops.logs import get_logger

if TYPE_CHECKING:
    from agents.matrix.crypto.keeper import Keeper

log = get_logger(__name__)

# The one sentence that is sent without encryption: whoever has no keys cannot say so in any other way.
LOST = (
    "I cannot read or write encrypted messages in this room for now: my keys are lost or cannot be used. What you write here is kept "
    "by your homeserver and does not reach me. Whoever runs Switchboard finds what to do under “Doctor”."
)
# Clients read relations of reactions in the open; homeservers count them.
_IN_THE_OPEN = frozenset({"m.reaction"})
# How old (s) may be what we know of a room's members. A change that our own loop sees counts at once (``members_changed``).
MEMBERS_LAST = 10.0
MOST_ROOMS = 5000
# Of 65,536 bytes, less what stands around it; base64 makes four bytes of three.
SEALED_LIMIT = 45_000

_lock = threading.Lock()
_members: dict[tuple[str, str], tuple[float, tuple[str, ...]]] = {}
_asked: dict[tuple[str, str], bool] = {}


def keeper_of(homeserver: Homeserver, user_id: str) -> Keeper:
    """The account's keeper (see ``agents.matrix.crypto.keepers``); imported only where something is encrypted."""
    from agents.matrix.crypto import keepers

    keeper = keepers.keeper_of(homeserver, user_id)
    keeper.password_of = lambda: _password_of(user_id)
    return keeper


def _password_of(user_id: str) -> str:
    row = Account.objects.filter(user_id=user_id).only("pk", "secrets").first()
    return str((row.secrets or {}).get("password") or "") if row is not None else ""


def is_encrypted(homeserver: Homeserver, room_id: str, user_id: str) -> bool:
    """Whether the room is encrypted: our row says so, or the homeserver, which each process asks once about each room."""
    key = (homeserver.client.base_url, room_id)
    if _asked.get(key):
        return True
    if Room.objects.filter(room_id=room_id, encrypted=True).exists():
        _asked[key] = True
        return True
    if key not in _asked:
        # No answer is no permission to speak in the open: the error goes up, and the message is sent again later.
        found = homeserver.client.get_state(room_id, "m.room.encryption", "", user_id)
        if len(_asked) > MOST_ROOMS:
            _asked.clear()
        _asked[key] = bool(found)
        if found:
            Room.objects.filter(room_id=room_id).update(encrypted=True)
    return _asked[key]


def readers_of(homeserver: Homeserver, room_id: str, user_id: str) -> tuple[str, ...]:
    """Whose devices are given the key: who is in the room, and who is invited (they see the history when they come)."""
    key = (homeserver.client.base_url, room_id)
    known = _members.get(key)
    if known is not None and time.monotonic() - known[0] < MEMBERS_LAST:
        return known[1]
    found = homeserver.client.members(room_id, user_id)
    members = tuple(sorted(user for user, membership in found.items() if membership in {"join", "invite"}))
    if len(_members) > MOST_ROOMS:
        _members.clear()
    _members[key] = (time.monotonic(), members)
    return members


def forget() -> None:
    """Ask again which rooms are encrypted and who is in them."""
    _members.clear()
    _asked.clear()


def members_changed(homeserver: Homeserver, room_id: str) -> None:
    """Somebody came or went: the next message asks who is there."""
    _members.pop((homeserver.client.base_url, room_id), None)


def encrypting(homeserver: Homeserver) -> Callable[..., tuple[str, dict[str, Any]]]:
    """What a client asks before it sends (``BeforeSend``): in an encrypted room the account's own device encrypts."""

    def before_send(
        *, room_id: str, user_id: str, event_type: str, content: dict[str, Any], txn_id: str
    ) -> tuple[str, dict[str, Any]]:
        if event_type in _IN_THE_OPEN or not is_encrypted(homeserver, room_id, user_id):
            return event_type, content
        try:
            keeper = keeper_of(homeserver, user_id)
            return keeper.encrypt(room_id, event_type, content, readers_of(homeserver, room_id, user_id))
        except KeysUnusable as error:
            if content.get("body") == LOST:
                return event_type, content
            log.warning("crypto.not_sent", user_id=user_id, room=room_id, error=error.sentence[:300])
            raise

    return before_send


def event_limit(homeserver: Homeserver, room_id: str, user_id: str) -> int:
    """How many bytes of content an event of the room may have: encrypted it grows by a third. Raises ``MatrixError``."""
    if homeserver.client_mode and is_encrypted(homeserver, room_id, user_id):
        return SEALED_LIMIT
    return EVENT_LIMIT


def upload(
    homeserver: Homeserver, room_id: str, user_id: str, data: bytes, media_type: str, name: str
) -> dict[str, Any]:
    """Put a file for a room into the media store; returns what the event says of where it lies: ``{"url"}``, or ``{"file"}`` sealed."""
    client = homeserver.client
    if not homeserver.client_mode or not is_encrypted(homeserver, room_id, user_id):
        return {"url": client.upload_media(data, media_type, name, user_id=user_id)}
    hidden, how = sealed(data)
    # Neither its name nor its kind is the homeserver's business.
    return {"file": {**how, "url": client.upload_media(hidden, "application/octet-stream", "", user_id=user_id)}}


def reader_of(homeserver: Homeserver) -> Keeper:
    """The keeper that reads: the operator's account is in every room. Raises ``KeysUnusable`` or another ``MatrixError``."""
    keeper = keeper_of(homeserver, homeserver.sender_id)
    keeper.ready()
    return keeper


def fed(homeserver: Homeserver, user_id: str, answer: dict[str, Any]) -> None:
    """Give an agent's device what a sync of its account brought, if it has keys at all. Raises ``KeysUnusable``."""
    if homeserver.client_mode and path_of(user_id).exists():
        keeper_of(homeserver, user_id).feed(answer)


def publish(homeserver: Homeserver, user_id: str) -> None:
    """Have the account's device known, so that people's apps encrypt to it from now on. Logs what stands against it."""
    try:
        keeper_of(homeserver, user_id).ready()
    except MatrixError as error:
        log.warning("crypto.not_ready", user_id=user_id, error=error.sentence[:300])
