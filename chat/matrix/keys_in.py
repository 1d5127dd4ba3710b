"""Keys that a sync brings: taken in before its events, then what had waited for them, then a word about what waits too long."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from django.utils import timezone

from agents.matrix.errors import MatrixError
from agents.models import Account, Room
from agents.services import encryption
from agents.services.backends import Homeserver
from chat.matrix import encrypted, gaps
from chat.matrix.events import receive
from chat.matrix.known_rooms import agent_of
from chat.models import RefusedEvent
from ops.logs import get_logger

log = get_logger(__name__)

# How long (s) a key may be late before the room is told: it often comes a moment after the message.
TELL_AFTER = 10.0
# What could not be read while our keys were lost is tried for so long.
RETRY_FOR = timedelta(days=14)
_unusable: dict[str, float] = {}
_looked: dict[str, float] = {}
LOOK_AGAIN = 60.0


def take_keys(homeserver: Homeserver, answer: dict[str, Any]) -> dict[str, Any]:
    """Before the events of an answer of the operator's sync are taken in (``chat.matrix.sync_loop``).

    What waited comes first: it was said earlier. Raises ``MatrixError`` when the homeserver goes away meanwhile; the answer then
    comes again, and what was done already does no harm twice.
    """
    if not homeserver.client_mode:
        return answer
    try:
        reader = encryption.reader_of(homeserver)
        reader.feed(answer)
        late(homeserver)
        tell_overdue(homeserver)
    except encryption.KeysUnusable as error:
        _log_now_and_then(homeserver, error)
    return answer


def take_agents_keys(homeserver: Homeserver, user_id: str, answer: dict[str, Any]) -> None:
    """A sync of an agent's own account: what it brought for the device would not come a second time."""
    try:
        encryption.fed(homeserver, user_id, answer)
    except encryption.KeysUnusable as error:
        _log_now_and_then(homeserver, error)


def late(homeserver: Homeserver) -> int:
    """Take in what waited for a key that is here now. Returns how many were tried."""
    reader = encryption.reader_of(homeserver)
    waited = reader.readable()
    waited += _since_lost(homeserver, {event_id for event_id, _ in waited})
    for event_id, room_id in waited:
        event = homeserver.client.get_event(room_id, event_id)
        found = reader.decrypt(event, room_id) if event is not None else None
        if found is not None and found.event is not None:
            _take_late(homeserver, event, found.event, room_id)
        elif found is not None and found.code in ("no_key", "withheld"):
            encrypted.still_waits(event_id, encrypted.waits(found.sentence))
            continue
        elif found is not None:
            encrypted.stays_unread(event_id, found.sentence)
            reader.taken_in([event_id])
            continue
        encrypted.read_now([event_id])
        reader.taken_in([event_id])
        log.info("crypto.read_late", room=room_id, event_id=event_id)
    return len(waited)


def _take_late(homeserver: Homeserver, event: dict[str, Any] | None, clear: dict[str, Any], room_id: str) -> None:
    """It was said some time ago: what is newer was taken in already, and no walk is needed. From before a restore it is history."""
    from chat.restoring import history

    room = Room.objects.filter(room_id=room_id).select_related("homeserver", "mapping__agent__service").first()
    if event is not None and room is not None and history.is_old(event, room):
        history.take_in(room, [clear], agent_of(room))
    else:
        receive([clear], homeserver.service, catching_up=True)


def _since_lost(homeserver: Homeserver, known: set[str]) -> list[tuple[str, str]]:
    """What came while our keys could not be used; they can now. Looked for now and then."""
    now = time.monotonic()
    if now - _looked.get(homeserver.sender_id, -LOOK_AGAIN) < LOOK_AGAIN:
        return []
    _looked[homeserver.sender_id] = now
    rows = RefusedEvent.objects.filter(
        transport="matrix", reason=encrypted.NO_KEYS, at__gt=timezone.now() - RETRY_FOR
    ).exclude(external_id__in=known)
    return list(rows.order_by("id").values_list("external_id", "place")[:100])


def tell_overdue(homeserver: Homeserver) -> int:
    """Say in rooms whose messages have waited for a while that they could not be read, once for each key. Returns how many rooms."""
    reader = encryption.reader_of(homeserver)
    overdue = reader.untold(time.time() - TELL_AFTER)
    told = 0
    ours = set(
        Account.objects.filter(user_id__in={sender for _, sender, _ in overdue}).values_list("user_id", flat=True)
    )
    by_place: dict[tuple[str, str], list[tuple[str, str, str]]] = {}
    for row in overdue:
        by_place.setdefault(row[:2], []).append(row)
    for (room_id, sender), rows in by_place.items():
        room = (
            Room.objects.filter(room_id=room_id)
            .select_related("homeserver", "mapping__agent__service", "mapping__account", "link__conversation")
            .first()
        )
        if room is not None and sender not in ours:
            name = gaps.display_name(room, sender)
            encrypted.say(room, _sentence(name, {reader.withheld(room_id, session_id) for _, _, session_id in rows}))
            told += 1
        # Said first: told twice is better than never.
        reader.note_told(rows)
    return told


def _sentence(name: str, codes: set[str]) -> str:
    if "m.unverified" in codes:
        return (
            f"I could not read a message from {name}: {name}'s app gives its keys only to verified devices, and does not count mine "
            "among them. Please allow unverified devices in this room (in Element: room settings, Security), or write in a room "
            "without encryption."
        )
    return (
        f"I could not read a message from {name}: the key to it has not come. I have asked {name}'s app for it and read the message "
        "when it comes. If nothing happens, please send it again."
    )


def _log_now_and_then(homeserver: Homeserver, error: MatrixError) -> None:
    now = time.monotonic()
    if now - _unusable.get(homeserver.sender_id, -LOOK_AGAIN) >= LOOK_AGAIN:
        _unusable[homeserver.sender_id] = now
        log.warning("crypto.unusable", error=error.sentence[:500])
