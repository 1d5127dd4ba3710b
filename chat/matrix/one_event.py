"""What one event of a room is to us: a message to take in, a change of one that we have, or neither, with the reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from agents.matrix.content import Ignored, ParsedMessage, parse_message
from agents.matrix.markdown import clean_text
from agents.models import Room
from chat.intake.incoming import Incoming
from chat.matrix import encrypted, gaps, media, state_events
from chat.matrix.known_rooms import agent_of
from chat.matrix.report import TRANSPORT, Report, refuse_event
from chat.matrix.whose import agent_id_of, is_ours
from chat.models import ParticipantKind
from chat.services import messages as message_services
from ops.models import Service

# Kinds of events that are nobody's words; silence about them needs no explanation.
UNREMARKABLE = frozenset({"m.reaction", "m.receipt", "m.typing", "m.presence", "m.call.invite", "m.sticker"})


Change = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Reading:
    """Events of one room are being read. ``report`` takes what was refused, with its reason; ``changes`` those of messages that we have,
    to be made when the batch is stored."""

    room: Room
    homeserver: Service
    received_at: datetime
    report: Report
    changes: list[Change]


def incoming_of(event: dict[str, Any], reading: Reading) -> Incoming | None:
    """The message that an event is, or ``None``: then it is a change, or nothing of ours, or refused."""
    kind, report = event.get("type"), reading.report
    if isinstance(event.get("state_key"), str):
        state_events.apply(event, reading.room)
        return None
    if kind == "m.room.redaction":
        content = event.get("content")
        # Room version 11 moved it into the content.
        target = event.get("redacts") or (content.get("redacts") if isinstance(content, dict) else None)
        if isinstance(target, str):
            reading.changes.append(partial(message_services.message_redact, transport=TRANSPORT, external_id=target))
        return None
    if kind == "m.room.encrypted":
        clear, reason, sentence = encrypted.opened(event, reading.room, reading.homeserver)
        if clear is None:
            refuse_event(event, reason, sentence, report)
            return None
        event, kind = clear, clear["type"]
    parsed = parse_message(event)
    if isinstance(parsed, Ignored):
        if not isinstance(kind, str) or kind not in UNREMARKABLE:
            refuse_event(event, "not_a_message", parsed.reason, report)
        return None
    return _from_message(parsed, event, reading)


def _from_message(parsed: ParsedMessage, event: dict[str, Any], reading: Reading) -> Incoming | None:
    room, homeserver, report = reading.room, reading.homeserver, reading.report
    if parsed.marker is not None and is_ours(parsed.sender, homeserver):
        # Our own delivery comes back. Nothing to store: the row that sent it is the truth.
        report.refuse("own")
        return None
    if parsed.historical:
        refuse_event(event, "historical", "A copy of something said earlier.", report)
        return None
    said_at = datetime.fromtimestamp(parsed.ts / 1000, tz=UTC) if 0 < parsed.ts < 4e12 else None
    if said_at is not None and room.taken_over_at is not None and said_at <= room.taken_over_at:
        # Both times are the homeserver's, so there is nothing to tolerate.
        refuse_event(event, "historical", "Said before Switchboard took the room over.", report)
        return None
    if said_at is not None and said_at < room.created_at - gaps.TOLERANCE:
        refuse_event(event, "historical", "Said before Switchboard knew the room.", report)
        return None
    if parsed.is_edit:
        reading.changes.append(
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
        refuse_event(
            event, "notice", "A notice of another program; programs do not answer each other's notices.", report
        )
        return None
    sender_agent_id = agent_id_of(parsed.sender, homeserver)
    if sender_agent_id is None and is_ours(parsed.sender, homeserver):
        refuse_event(event, "own", "From Switchboard's own account.", report)
        return None
    if sender_agent_id is not None and sender_agent_id == getattr(agent_of(room), "pk", None):
        refuse_event(event, "own", "The agent's own words, sent by another program.", report)
        return None
    if not parsed.body.strip() and parsed.media is None:
        refuse_event(event, "empty", "The message has no text.", report)
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
        received_at=reading.received_at,
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
