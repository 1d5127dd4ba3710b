"""Finds what was lost on the way: a walk back through a room's history, from now to the last event that is known.

A homeserver keeps transactions that are under way in memory and can lose them when it crashes (synapse#11637). So whenever that
may have happened the epoch rises, and each room is walked before anything new of it is taken in: order holds.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import F
from django.utils import timezone

from agents.matrix.errors import Forbidden, MatrixError, NotFound
from agents.matrix.markdown import clean_text
from agents.models import Room
from agents.services.backends import homeserver_of
from chat.models import IntakeEpoch, Message
from ops.logs import get_logger
from ops.models import Service
from ops.prepared import PreparedRead

log = get_logger(__name__)

PAGE = 50
MOST_PAGES = 400
# How often at most the last event of a room is written down; a walk back then goes a few events further.
NOTE_EVERY = 10.0
_noted: dict[int, float] = {}
_names: dict[tuple[int, str], tuple[float, str]] = {}
NAME_LASTS = 600.0
# The homeserver's clock and ours may differ by this much.
TOLERANCE = timedelta(minutes=5)


def current_epoch(homeserver: Service) -> int:
    """The homeserver's epoch (1 when nothing has ever been missed)."""
    number = _epoch.first(homeserver.pk)
    return number if number is not None else 1


_epoch = PreparedRead(
    lambda homeserver_id: IntakeEpoch.objects.filter(homeserver_id=homeserver_id).values_list("number", flat=True), 1
)


def raise_epoch(homeserver: Service, reason: str) -> int:
    """Note that something may have been missed from now on; rooms are walked again before they go on."""
    row, created = IntakeEpoch.objects.get_or_create(homeserver=homeserver, defaults={"number": 2, "reason": reason})
    if not created:
        IntakeEpoch.objects.filter(pk=row.pk).update(number=F("number") + 1, reason=reason[:255], at=timezone.now())
    log.info("intake.epoch", reason=reason)
    return current_epoch(homeserver)


def rooms_to_walk(homeserver: Service, epoch: int, limit: int = 100) -> list[Room]:
    """Rooms that have not been walked in this epoch, those with the latest words first."""
    return list(
        Room.objects.filter(homeserver=homeserver, caught_up_epoch__lt=epoch, room_id__isnull=False)
        .exclude(kind="space")
        .select_related("homeserver", "mapping__agent__service", "mapping__account")
        .order_by(F("last_event_at").desc(nulls_last=True), "pk")[:limit]
    )


def mark_caught_up(room: Room, epoch: int) -> None:
    """Nothing of the room is missing any more, as of this epoch."""
    Room.objects.filter(pk=room.pk, caught_up_epoch__lt=epoch).update(caught_up_epoch=epoch)
    room.caught_up_epoch = epoch


def walk(room: Room) -> list[dict[str, Any]]:
    """The room's events after the last one that was known before the epoch rose, oldest first. Raises ``MatrixError`` when the homeserver does not answer."""
    mapping = getattr(room, "mapping", None)
    homeserver = homeserver_of(room.homeserver)
    reader: str | None
    if homeserver.client_mode and room.switchboard_joined:
        # One account's session that does not work must not keep us from hearing its room.
        reader = homeserver.sender_id
    else:
        reader = mapping.account.user_id if mapping is not None else _direct_account(room)
    if reader is None or not room.room_id:
        return []
    oldest = (room.last_event_at or room.created_at) - TOLERANCE
    settled = _settled_before(room.homeserver_id)
    found: list[dict[str, Any]] = []
    token: str | None = None
    for _ in range(MOST_PAGES):
        try:
            page = homeserver.client.messages(room.room_id, user_id=reader, from_token=token, direction="b", limit=PAGE)
        except (Forbidden, NotFound) as error:
            # We are not in the room any more: there is nothing that we could answer.
            log.info("intake.room_closed", room=room.room_id, error=error.sentence[:200])
            return []
        known = _known(page.chunk)
        for event in page.chunk:
            event_id = event.get("event_id")
            if event_id == room.last_event_id and room.last_event_at is not None and room.last_event_at < settled:
                return found[::-1]
            if isinstance(event_id, str) and event_id in known:
                if known[event_id] < settled:
                    return found[::-1]
                continue
            # One old time among newer ones proves nothing: other servers write whatever time they like.
            if _time(event) >= oldest:
                found.append({**event, "room_id": room.room_id})
        if page.chunk and all(_time(event) < oldest for event in page.chunk):
            return found[::-1]
        if not page.end or page.end == token:
            return found[::-1]
        token = page.end
    log.warning("intake.gap_too_long", room=room.room_id, events=len(found))
    return found[::-1]


def _known(chunk: list[dict[str, Any]]) -> dict[str, datetime]:
    """Those of the events that are messages already, and since when."""
    ids = [clean_text(event["event_id"]) for event in chunk if isinstance(event.get("event_id"), str)]
    rows = Message.objects.filter(transport="matrix", external_id__in=ids)
    return dict(rows.values_list("external_id", "stored_at"))


def _settled_before(homeserver_id: int) -> datetime:
    """What was known before this time has nothing missing in front of it.

    The homeserver may have been back for a while before the epoch rose; what it brought then may stand behind something that it lost.
    """
    at = IntakeEpoch.objects.filter(homeserver_id=homeserver_id).values_list("at", flat=True).first()
    return at - TOLERANCE if at is not None else timezone.now()


def _time(event: dict[str, Any]) -> datetime:
    ts = event.get("origin_server_ts")
    if not isinstance(ts, int) or isinstance(ts, bool) or not 0 <= ts < 4e12:
        return timezone.now()
    return datetime.fromtimestamp(ts / 1000, tz=UTC)


def _direct_account(room: Room) -> str | None:
    from chat.matrix.state_events import account_of_direct_room

    account = account_of_direct_room(room)
    return account.user_id if account is not None else None


def forget() -> None:
    """Rooms are not as far any more as this process noted, and may be others."""
    _noted.clear()
    _names.clear()


def note_seen(room: Room, event: dict[str, Any]) -> None:
    """Remember the last event of a room, now and then."""
    now = time.monotonic()
    event_id = event.get("event_id")
    if not isinstance(event_id, str) or now - _noted.get(room.pk, -NOTE_EVERY) < NOTE_EVERY:
        return
    _noted[room.pk] = now
    if len(_noted) > 50_000:
        _noted.clear()
    Room.objects.filter(pk=room.pk).update(last_event_id=clean_text(event_id)[:255], last_event_at=_time(event))


def display_name(room: Room, user_id: str) -> str:
    """How a Matrix user is called; asked of the homeserver now and then, the id's own name where it does not say."""
    key, now = (room.homeserver_id, user_id), time.monotonic()
    known = _names.get(key)
    if known is not None and now - known[0] < NAME_LASTS:
        return known[1]
    name = user_id[1:].partition(":")[0]
    try:
        name = homeserver_of(room.homeserver).client.get_profile(user_id).display_name or name
    except MatrixError as error:
        log.debug("intake.no_profile", user_id=user_id, error=str(error)[:200])
    if len(_names) > 50_000:
        _names.clear()
    _names[key] = (now, name)
    return name
