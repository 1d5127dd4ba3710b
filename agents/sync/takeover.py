"""Rooms that were there before our rows: what was said in them is not answered again, and whose they are can be found again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.utils import timezone

from agents.matrix.errors import Refused
from agents.matrix.names import localpart_for
from agents.models import Agent, Mapping, Room
from agents.services.backends import Homeserver, user_prefix
from ops.logs import get_logger

log = get_logger(__name__)

# State of a room, and part of its entry in the space: ``{"service": name, "agent": the server's own id, "account": user id}``.
MARK = "io.switchboard.agent"
TAKEOVER_FIELDS = ["taken_over_at", "last_event_id", "last_event_at", "caught_up_epoch"]


def newest_event(homeserver: Homeserver, room_id: str, user_id: str) -> tuple[datetime, str]:
    """When the newest event of a room was sent, on the homeserver's clock, and its id (now and "" where that cannot be read).

    ``user_id`` is an account that is in the room. Raises ``MatrixError`` when the homeserver is gone or refuses our token.
    """
    newest: dict[str, Any] = {}
    try:
        page = homeserver.client.messages(room_id, user_id=user_id, direction="b", limit=1)
        newest = page.chunk[0] if page.chunk else {}
    except Refused as error:
        if error.general:
            raise
        log.info("room.history_closed", room=room_id, error=error.sentence[:200])
    stamp, event_id = newest.get("origin_server_ts"), newest.get("event_id")
    usable = isinstance(stamp, int) and not isinstance(stamp, bool) and 0 < stamp < 4e12
    at = datetime.fromtimestamp(stamp / 1000, tz=UTC) if usable and stamp else timezone.now()
    return at, event_id[:255] if isinstance(event_id, str) else ""


@dataclass(frozen=True, slots=True)
class History:
    """A room that was ours, and whose rows a restore took: what was said in it since a time is read again, and is history up to another."""

    since: datetime
    until: datetime


def take_over_from(room: Room, newest: tuple[datetime, str], history: History | None = None) -> None:
    """Let what is not newer than this be somebody else's affair. Sets fields only; the caller saves ``TAKEOVER_FIELDS``.

    With ``history`` it was ours all along, and is read again.
    """
    if history is not None:
        room.taken_over_at, room.history_until = None, history.until
        room.last_event_id, room.last_event_at, room.caught_up_epoch = "", history.since, 0
        return
    room.taken_over_at, room.last_event_id = newest
    # Not caught up: whatever came between this event and our row is found by the walk that the room's next event begins with.
    room.last_event_at, room.caught_up_epoch = newest[0], 0


def note_takeover(homeserver: Homeserver, room: Room, user_id: str) -> None:
    """Whatever stands in the room now was said to somebody else: begin behind the newest event.

    May be repeated, which moves the line to now. Raises as ``newest_event``.
    """
    assert room.room_id
    take_over_from(room, newest_event(homeserver, room.room_id, user_id))
    room.save(update_fields=TAKEOVER_FIELDS)


def derived_localparts(homeserver: Homeserver, agent: Agent) -> tuple[str, ...]:
    """The names that the agent's id stands for on this homeserver, the usual one first (see ``rows.reserve_mapping``)."""
    return names_of(homeserver, agent.service.name, agent.service.kind, agent.external_id)


def names_of(homeserver: Homeserver, service: str, kind: str, external_id: str) -> tuple[str, ...]:
    """As ``derived_localparts``, for an agent without a row."""
    return names_with(user_prefix(homeserver), service, kind, external_id)


def names_with(prefix: str, service: str, kind: str, external_id: str) -> tuple[str, ...]:
    """As ``names_of``, for a homeserver of which only the prefix is known."""
    scopes = ("", service) if kind == "letta" else (service,)
    return tuple(localpart_for(external_id, prefix=prefix, scope=scope) for scope in scopes)


def mark_of(mapping: Mapping) -> dict[str, str]:
    """What says whose a room is when no name does."""
    agent = mapping.agent
    return {"service": agent.service.name, "agent": agent.external_id, "account": mapping.account.user_id}


def mark_wanted(homeserver: Homeserver, mapping: Mapping) -> dict[str, str] | None:
    """The mark of a mapping whose account does not derive from the agent's id; ``None`` where names say it."""
    account, agent = mapping.account, mapping.agent
    own = account.user_id == f"@{account.localpart}:{homeserver.server_name}"
    return None if own and account.localpart in derived_localparts(homeserver, agent) else mark_of(mapping)


def mark_room(homeserver: Homeserver, room: Room, mapping: Mapping) -> bool:
    """Write into the room, and into its entry in the space, which agent it belongs to. Returns whether both could be written.

    To be called by whoever adopts a room or moves an agent. Where the agent's id stands for the account nothing is written, and a
    mark that says otherwise is corrected. Raises ``MatrixError`` when the homeserver is gone or refuses our token.
    """
    if not room.room_id:
        return False
    client, mark = homeserver.client, mark_wanted(homeserver, mapping)
    written = True
    try:
        present = client.get_state(room.room_id, MARK, "", mapping.account.user_id)
        if (present or {}) != (mark or {}):
            client.put_state(room.room_id, MARK, "", mark or {}, mapping.account.user_id)
    except Refused as error:
        # An adopted room in which the agent may not set state is found by its entry in the space alone.
        written = _passed_over(error, room.room_id)
    space = Room.objects.filter(homeserver=homeserver.service, kind="space", room_id__isnull=False).first()
    if space is not None and space.room_id and room.in_space:
        try:
            child = client.get_state(space.room_id, "m.space.child", room.room_id, homeserver.sender_id) or {}
            if child.get("via") and child.get(MARK) != mark:
                content = {key: value for key, value in child.items() if key != MARK} | ({MARK: mark} if mark else {})
                client.put_state(space.room_id, "m.space.child", room.room_id, content, homeserver.sender_id)
        except Refused as error:
            written = _passed_over(error, space.room_id)
    return written


def _passed_over(error: Refused, room_id: str) -> bool:
    if error.general:
        raise error
    log.info("room.not_marked", room=room_id, error=error.sentence[:200])
    return False
