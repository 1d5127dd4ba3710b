"""From a homeserver's events to messages, room by room, in order."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

from django.db import DatabaseError
from django.db.models import Prefetch
from django.utils import timezone

from agents.matrix.content import Ignored, ParsedMessage, parse_message
from agents.matrix.errors import MatrixError
from agents.matrix.keys import MARKER
from agents.matrix.markdown import clean_text
from agents.models import Account, Mapping, Room, RoomKind
from chat.intake.incoming import Incoming
from chat.intake.store import Place, store
from chat.matrix import courtesy, encrypted, gaps, media, state_events
from chat.models import ParticipantKind, RefusedEvent
from chat.services import messages as message_services
from chat.services.conversations import conversation_of
from ops import quiet
from ops.logs import get_logger
from ops.models import Service
from ops.prepared import PreparedRead

log = get_logger(__name__)

TRANSPORT = "matrix"
# Kinds of events that are nobody's words; silence about them needs no explanation.
UNREMARKABLE = frozenset({"m.reaction", "m.receipt", "m.typing", "m.presence", "m.call.invite", "m.sticker"})
# Seconds; sync needs milliseconds from the homeserver's answer to its row.
WAIT_FOR_NEW_ROOM = 1.0
# So many rooms of a push are read one by one, with reads that are composed already; more of them in one go.
FEW_ROOMS = 4


Change = Callable[[], object]


@dataclass(slots=True)
class Report:
    """What became of a batch of events. ``history`` counts what was taken in as said before a restore."""

    stored: int = 0
    history: int = 0
    repeated: int = 0
    refused: dict[str, int] = field(default_factory=dict)

    def refuse(self, reason: str) -> None:
        self.refused[reason] = self.refused.get(reason, 0) + 1


def receive(events: Sequence[Any], homeserver: Service, *, catching_up: bool = False) -> Report:
    """Take in a batch. When it returns, every event of it is a row, or is known to need none.

    ``catching_up``: the events come from a walk through the room's history, which must not start another one.
    """
    report = Report()
    received_at = timezone.now()
    from chat.restoring import history

    by_room = _by_room(events, homeserver, report, own=catching_up)
    if not by_room:
        return report
    rooms = _rooms(by_room, homeserver)
    epoch = gaps.current_epoch(homeserver)
    batch: list[tuple[Place, Incoming]] = []
    read: list[tuple[Room, str]] = []
    changes: list[Change] = []
    for room_id, of_room in by_room.items():
        room = rooms.get(room_id)
        if room is None:
            room = state_events.unknown_room(room_id, of_room, homeserver) or _being_made(room_id, of_room, homeserver)
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
            report.history += history.take_in(room, old, _agent(room))
        for event in of_room:
            incoming = _read(event, room, homeserver, received_at, report, changes)
            if incoming is not None:
                agent = _agent(room)
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
    from chat.restoring import history

    found = gaps.walk(room)
    report = receive(found, room.homeserver, catching_up=True) if found else Report()
    if report.stored:
        log.info("intake.caught_up", room=room.room_id, messages=report.stored)
    gaps.mark_caught_up(room, epoch)
    history.is_over(room)
    return report.stored + report.history


def _read(
    event: dict[str, Any],
    room: Room,
    homeserver: Service,
    received_at: datetime,
    report: Report,
    changes: list[Change],
) -> Incoming | None:
    """As ``_incoming``, for events of any shape: one that breaks us is refused, or the homeserver would send it for ever."""
    try:
        return _incoming(event, room, homeserver, received_at, report, changes)
    except (MatrixError, DatabaseError):
        raise
    except Exception as error:
        log.exception("intake.malformed")
        _refuse(event, "malformed", f"The event cannot be read ({type(error).__name__}).", report)
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


def _rooms(by_room: dict[str, list[dict[str, Any]]], homeserver: Service) -> dict[str, Room]:
    """The rooms we know, with what intake needs of them, in two small joins (see ``chat.turns.claim.load``)."""
    if len(by_room) <= FEW_ROOMS:
        rooms = {}
        for room_id in by_room:
            room = _room.first(homeserver.pk, room_id)
            if room is not None:
                mapping = _mapping.first(room.pk)
                Room._meta.get_field("mapping").set_cached_value(room, mapping)
                if mapping is not None:
                    mapping.room = room
                room.homeserver = homeserver
                rooms[room_id] = room
        return rooms
    mappings = Mapping.objects.select_related("agent__service", "account")
    found = (
        Room.objects.filter(homeserver=homeserver, room_id__in=list(by_room))
        .select_related("link__conversation")
        .prefetch_related(Prefetch("mapping", queryset=mappings))
    )
    rooms = {room.room_id: room for room in found if room.room_id}
    for room in rooms.values():
        room.homeserver = homeserver
    return rooms


_room = PreparedRead(
    lambda homeserver_id, room_id: Room.objects.filter(homeserver_id=homeserver_id, room_id=room_id).select_related(
        "link__conversation"
    ),
    1,
    "!room",
)
_mapping = PreparedRead(
    lambda room_pk: Mapping.objects.filter(room_id=room_pk).select_related("agent__service", "account"), 1
)


def _being_made(room_id: str, events: Sequence[dict[str, Any]], homeserver: Service) -> Room | None:
    """Somebody may speak in a new room before sync has written down its id: wait a moment for that, and only then."""
    if all(isinstance(event.get("state_key"), str) for event in events):
        return None
    until = time.monotonic() + WAIT_FOR_NEW_ROOM
    while time.monotonic() < until:
        if not Room.objects.filter(homeserver=homeserver, kind=RoomKind.AGENT, room_id__isnull=True).exists():
            break
        time.sleep(0.02)
        if found := _rooms({room_id: []}, homeserver):
            return found[room_id]
    return _rooms({room_id: []}, homeserver).get(room_id)


def _agent(room: Room) -> Any:
    mapping = getattr(room, "mapping", None)
    if mapping is not None:
        return mapping.agent
    return state_events.agent_of_direct_room(room)


def _incoming(
    event: dict[str, Any],
    room: Room,
    homeserver: Service,
    received_at: datetime,
    report: Report,
    changes: list[Change],
) -> Incoming | None:
    kind = event.get("type")
    if isinstance(event.get("state_key"), str):
        state_events.apply(event, room)
        return None
    if kind == "m.room.redaction":
        content = event.get("content")
        # Room version 11 moved it into the content.
        target = event.get("redacts") or (content.get("redacts") if isinstance(content, dict) else None)
        if isinstance(target, str):
            changes.append(partial(message_services.message_redact, transport=TRANSPORT, external_id=target))
        return None
    if kind == "m.room.encrypted":
        clear, reason, sentence = encrypted.opened(event, room, homeserver)
        if clear is None:
            _refuse(event, reason, sentence, report)
            return None
        event, kind = clear, clear["type"]
    parsed = parse_message(event)
    if isinstance(parsed, Ignored):
        if not isinstance(kind, str) or kind not in UNREMARKABLE:
            _refuse(event, "not_a_message", parsed.reason, report)
        return None
    return _from_message(parsed, event, room, homeserver, received_at, report, changes)


def _from_message(
    parsed: ParsedMessage,
    event: dict[str, Any],
    room: Room,
    homeserver: Service,
    received_at: datetime,
    report: Report,
    changes: list[Change],
) -> Incoming | None:
    if parsed.marker is not None and is_ours(parsed.sender, homeserver):
        # Our own delivery comes back. Nothing to store: the row that sent it is the truth.
        report.refuse("own")
        return None
    if parsed.historical:
        _refuse(event, "historical", "A copy of something said earlier.", report)
        return None
    said_at = datetime.fromtimestamp(parsed.ts / 1000, tz=UTC) if 0 < parsed.ts < 4e12 else None
    if said_at is not None and room.taken_over_at is not None and said_at <= room.taken_over_at:
        # Both times are the homeserver's, so there is nothing to tolerate.
        _refuse(event, "historical", "Said before Switchboard took the room over.", report)
        return None
    if said_at is not None and said_at < room.created_at - gaps.TOLERANCE:
        _refuse(event, "historical", "Said before Switchboard knew the room.", report)
        return None
    if parsed.is_edit:
        changes.append(
            partial(
                message_services.message_edit,
                transport=TRANSPORT,
                external_id=parsed.edits or "",
                sender_id=parsed.sender,
                text=parsed.body,
            )
        )
        return None
    if parsed.is_notice:
        _refuse(event, "notice", "A notice of another program; programs do not answer each other's notices.", report)
        return None
    sender_agent_id = agent_id_of(parsed.sender, homeserver)
    if sender_agent_id is None and is_ours(parsed.sender, homeserver):
        _refuse(event, "own", "From Switchboard's own account.", report)
        return None
    if sender_agent_id is not None and sender_agent_id == getattr(_agent(room), "pk", None):
        _refuse(event, "own", "The agent's own words, sent by another program.", report)
        return None
    if not parsed.body.strip() and parsed.media is None:
        _refuse(event, "empty", "The message has no text.", report)
        return None
    hop = parsed.marker.get("hop", 0) if parsed.marker else 0
    return Incoming(
        transport=TRANSPORT,
        external_id=clean_text(parsed.event_id)[:255],
        sender_id=str(sender_agent_id) if sender_agent_id is not None else parsed.sender,
        sender_name=name_of(room, parsed.sender),
        sender_kind=ParticipantKind.AGENT if sender_agent_id is not None else ParticipantKind.GUEST,
        sender_agent_id=sender_agent_id,
        text=text_of(parsed),
        parts=parts_of(parsed),
        received_at=received_at,
        said_at=said_at,
        hop=hop + 1 if sender_agent_id is not None and isinstance(hop, int) else 0,
        mentions=parsed.mentions,
        in_reply_to=parsed.reply_to or "",
    )


def text_of(parsed: ParsedMessage) -> str:
    """What was written, and what came along; the file itself is fetched when the agent is to be given it (``chat.matrix.media``)."""
    if parsed.media is None:
        return parsed.body
    kind = parsed.msgtype.removeprefix("m.")
    name = parsed.media.filename or parsed.body or "without a name"
    size = f", {parsed.media.size:,} bytes" if parsed.media.size else ""
    sealed = (
        "; it is encrypted, its content cannot be passed on" if parsed.media.encrypted and not parsed.media.key else ""
    )
    note = f"[{kind} “{name}” ({parsed.media.mimetype or 'unknown type'}{size}){sealed}]"
    return f"{parsed.body}\n{note}" if parsed.body and parsed.body != name else note


def parts_of(parsed: ParsedMessage) -> list[dict[str, Any]]:
    """What is noted of the file that came along."""
    if parsed.media is None or (parsed.media.encrypted and not parsed.media.key):
        return []
    found = parsed.media
    return [media.part(found.url, found.filename or parsed.body, found.size, found.key)]


def name_of(room: Room, user_id: str) -> str:
    """How somebody in the room is called."""
    return clean_text(gaps.display_name(room, user_id))


def is_ours(sender: str, homeserver: Service) -> bool:
    """Whether Switchboard speaks as this account."""
    from agents.services.backends import homeserver_of, user_prefix

    opened = homeserver_of(homeserver)
    localpart, _, server = sender[1:].partition(":")
    sessions = opened.client.sessions
    if sender == opened.sender_id or (sessions is not None and sessions.speaks_for(sender)):
        return True
    if server != opened.server_name or not localpart.startswith(user_prefix(opened)):
        return False
    # Without an appservice nothing keeps others from taking such a name.
    return not opened.client_mode or Account.objects.filter(user_id=sender).exists()


def agent_id_of(sender: str, homeserver: Service) -> int | None:
    """The agent whose account it is."""
    if not is_ours(sender, homeserver):
        return None
    return Account.objects.filter(user_id=sender).values_list("mapping__agent_id", flat=True).first()


def _refuse_all(events: Sequence[dict[str, Any]], room_id: str, report: Report) -> None:
    for event in events:
        if not isinstance(event.get("state_key"), str):
            _refuse(event, "unknown_room", "Switchboard has no mapping for this room.", report)


def _refuse(event: dict[str, Any], reason: str, sentence: str, report: Report) -> None:
    report.refuse(reason)
    refuse(
        str(event.get("event_id") or ""),
        str(event.get("room_id") or ""),
        str(event.get("sender") or ""),
        reason,
        sentence,
    )


def refuse(event_id: str, place: str, sender: str, reason: str, sentence: str) -> None:
    """Note why an event became no message; the same event twice is one note."""
    RefusedEvent.objects.bulk_create(
        [
            RefusedEvent(
                transport=TRANSPORT,
                external_id=clean_text(event_id)[:255],
                place=clean_text(place)[:255],
                sender=clean_text(sender)[:255],
                reason=reason[:50],
                sentence=sentence[:500],
            )
        ],
        ignore_conflicts=True,
    )
    log.info("intake.refused", event_id=event_id, reason=reason)
