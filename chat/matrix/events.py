"""From a homeserver's events to messages, room by room, in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import DatabaseError
from django.utils import timezone

from agents.matrix.errors import MatrixError
from agents.matrix.keys import MARKER
from agents.models import Room
from chat.intake.incoming import Incoming
from chat.intake.store import Place, store
from chat.matrix import courtesy, gaps, state_events
from chat.matrix.known_rooms import agent_of, known_rooms, room_being_made
from chat.matrix.one_event import Change, Reading, incoming_of
from chat.matrix.report import Report, refuse, refuse_event
from chat.matrix.whose import is_ours
from chat.restoring import history
from chat.services.conversations import conversation_of
from ops import quiet
from ops.logs import get_logger
from ops.models import Service

log = get_logger(__name__)


def receive(events: Sequence[Any], homeserver: Service, *, catching_up: bool = False) -> Report:
    """Take in a batch. When it returns, every event of it is a row, or is known to need none.

    ``catching_up``: the events come from a walk through the room's history, which must not start another one.
    """
    report = Report()
    received_at = timezone.now()
    by_room = _by_room(events, homeserver, report, own=catching_up)
    if not by_room:
        return report
    rooms = known_rooms(by_room, homeserver)
    epoch = gaps.current_epoch(homeserver)
    batch: list[tuple[Place, Incoming]] = []
    read: list[tuple[Room, str]] = []
    changes: list[Change] = []
    for room_id, of_room in by_room.items():
        room = rooms.get(room_id)
        if room is None:
            room = state_events.unknown_room(room_id, of_room, homeserver) or room_being_made(
                room_id, of_room, homeserver
            )
            if room is None:
                _refuse_all(of_room, room_id, report)
                continue
            rooms[room_id] = room
        if not catching_up and room.caught_up_epoch < epoch:
            # Earlier events may have been lost; they have to be taken in before these.
            catch_up(room, epoch)
        if catching_up and room.history_until is not None:
            old, of_room = history.split(room, of_room)
            quiet.refuse_when_quiet()
            report.history += history.take_in(room, old, agent_of(room))
        reading = Reading(room, homeserver, received_at, report, changes)
        for event in of_room:
            incoming = _read(event, reading)
            if incoming is not None:
                agent = agent_of(room)
                batch.append((Place(conversation_of(room, agent), agent, room), incoming))
                read.append((room, incoming.external_id))
    # Catching up asks the homeserver and may have taken long.
    quiet.refuse_when_quiet()
    if batch:
        stored = store(batch)
        report.stored, report.repeated = len(stored.messages), stored.repeated
        ids = {message.external_id: message.pk for message in stored.messages}
        for room, event_id in read:
            if event_id in ids:
                courtesy.read_soon(room, event_id, ids[event_id])
    # Edits and redactions may concern messages of this very batch.
    for change in changes:
        change()
    for room_id, room in rooms.items():
        # Only now: what could not be stored must be found again by a walk.
        gaps.note_seen(room, by_room[room_id][-1])
    return report


def catch_up(room: Room, epoch: int) -> int:
    """Take in what a room holds beyond the last known event. Returns the number of messages found.

    Raises ``MatrixError`` when the homeserver does not answer: the caller must then take in nothing new of the room either.
    """
    found = gaps.walk(room)
    report = receive(found, room.homeserver, catching_up=True) if found else Report()
    if report.stored:
        log.info("intake.caught_up", room=room.room_id, messages=report.stored)
    gaps.mark_caught_up(room, epoch)
    history.is_over(room)
    return report.stored + report.history


def _read(event: dict[str, Any], reading: Reading) -> Incoming | None:
    """As ``incoming_of``, for events of any shape: one that breaks us is refused, or the homeserver would send it for ever."""
    try:
        return incoming_of(event, reading)
    except (MatrixError, DatabaseError):
        raise
    except Exception as error:
        log.exception("intake.malformed")
        refuse_event(event, "malformed", f"The event cannot be read ({type(error).__name__}).", reading.report)
        return None


def _by_room(
    events: Sequence[Any], homeserver: Service, report: Report, *, own: bool
) -> dict[str, list[dict[str, Any]]]:
    """Events by room, each room's in order; without our own deliveries, which come back: half of all that is pushed to us.

    ``own``: with them, since the row that sent one may be missing (``chat.restoring.history``).
    """
    by_room: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        room_id = event.get("room_id") if isinstance(event, dict) else None
        if not isinstance(room_id, str) or not room_id or len(room_id) > 255:
            report.refuse("malformed")
            refuse("", "", "", "malformed", "The event names no room.")
            continue
        if not own and _is_own_delivery(event, homeserver):
            # Nothing to store: the row that sent it is the truth.
            report.refuse("own")
            continue
        by_room.setdefault(room_id, []).append(event)
    return by_room


def _is_own_delivery(event: dict[str, Any], homeserver: Service) -> bool:
    content, sender = event.get("content"), event.get("sender")
    if not isinstance(content, dict) or not isinstance(sender, str) or event.get("type") != "m.room.message":
        return False
    return isinstance(content.get(MARKER), dict) and "state_key" not in event and is_ours(sender, homeserver)


def _refuse_all(events: Sequence[dict[str, Any]], room_id: str, report: Report) -> None:
    for event in events:
        if not isinstance(event.get("state_key"), str):
            refuse_event(event, "unknown_room", "Switchboard has no mapping for this room.", report)
