"""Client mode's ear: the one ``/sync`` of Switchboard's own account, which is in every room, feeds the same intake as an appservice.

One process at a time listens (a named lock). How far it has read is kept after the rows are committed: what a crash leaves in
between is read again, and intake knows it (at least once, never twice). Where the homeserver left something out (``limited``), the
room's history is walked.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from django.db import close_old_connections
from django.utils import timezone

from agents.matrix.errors import HomeserverUnreachable, MatrixError, Refused, TokenRefused
from agents.models import Account, Room
from agents.services.backends import Homeserver, NoHomeserver, homeserver_service, open_homeserver
from agents.sync.hearing import note_heard
from chat.matrix import gaps, hearing
from chat.matrix.events import catch_up, receive
from chat.matrix.keys_in import take_keys
from chat.matrix.watch import send_what_waits
from chat.models import SyncCursor
from chat.wakeup import wake_catch_up
from ops import quiet
from ops.locks import HeldLock, LockHeld, named_lock
from ops.logs import get_logger
from ops.models import Service

log = get_logger(__name__)

LOCK = "chat.sync_loop"
# How long the homeserver may hold a request that has nothing to say; settings are looked at again in between.
HOLD_MS = 20_000
# The first answer comes at once, and takes long to make where there are many rooms.
FIRST_TAKES_MS = 300_000
# A cursor that did not move is written now and then all the same: it says that somebody listens.
NOTE_EVERY = 30.0
# Rooms that we do not hear are looked after so often.
HEAR_EVERY = 20.0
FILTER: dict[str, Any] = {
    "presence": {"types": []},
    "account_data": {"types": []},
    "room": {
        "account_data": {"types": []},
        "ephemeral": {"types": []},
        "timeline": {"limit": 100},
        "state": {"lazy_load_members": True},
    },
}


class SyncLoop(threading.Thread):
    """Runs until ``stop`` is set; idle under an appservice, and while another process listens."""

    def __init__(self) -> None:
        super().__init__(name="sync-loop", daemon=True)
        self.stop = threading.Event()

    def run(self) -> None:
        while not self.stop.is_set():
            try:
                if not _wanted():
                    self.stop.wait(5)
                    continue
                with named_lock(LOCK, ttl=60) as lock:
                    self._listen(lock)
            except (LockHeld, quiet.Quiet):
                self.stop.wait(2)
            except Exception:
                log.exception("sync_loop.failed")
                self.stop.wait(5)
            finally:
                close_old_connections()

    def _listen(self, lock: HeldLock) -> None:
        pause, was_gone = 0.5, True
        while not self.stop.is_set() and not lock.lost:
            close_old_connections()
            try:
                homeserver = open_homeserver()
                if not homeserver.client_mode:
                    return
                ear = Ear(homeserver)
                if was_gone:
                    # Answers at once, and tells that it is there.
                    homeserver.client.versions()
                    send_what_waits(homeserver.service)
                ear.listen(lambda: self.stop.is_set() or lock.lost)
                pause, was_gone = 0.5, False
            except NoHomeserver:
                return
            except MatrixError as error:
                was_gone = was_gone or isinstance(error, HomeserverUnreachable)
                log.warning("sync_loop.interrupted", error=error.sentence[:300])
                self.stop.wait(min(error.retry_after or pause, 30.0))
                pause = min(pause * 1.7, 15.0)


def _wanted() -> bool:
    from agents.services.backends import mode_of

    service = homeserver_service()
    return service is not None and mode_of(service) == "client"


class Ear:
    """Listens on one homeserver for as long as its row stays as it is."""

    def __init__(self, homeserver: Homeserver) -> None:
        self.homeserver = homeserver
        self.cursor, _ = SyncCursor.objects.get_or_create(
            homeserver=homeserver.service, user_id=homeserver.sender_id, defaults={"next_batch": ""}
        )
        self._noted = self._heard = 0.0

    def listen(self, stop: Callable[[], bool]) -> None:
        """Until asked to stop, or the homeserver's row is another one. Raises ``MatrixError``."""
        while not stop() and self._same():
            close_old_connections()
            self.once(HOLD_MS)
            if time.monotonic() - self._heard > HEAR_EVERY:
                hearing.look_after(self.homeserver)
                self._heard = time.monotonic()

    def _same(self) -> bool:
        """Whether the homeserver is still reached as it was when we began."""
        now, then = homeserver_service(), self.homeserver.service
        return now is not None and (now.pk, now.base_url, now.options) == (then.pk, then.base_url, then.options)

    def once(self, hold_ms: int = 0) -> int:
        """One question and what comes of its answer. Returns the number of events that were taken in."""
        quiet.refuse_when_quiet()
        since = self.cursor.next_batch
        try:
            answer = self.homeserver.client.sync(
                None, since or None, hold_ms if since else FIRST_TAKES_MS, _filter(bool(since))
            )
        except Refused as error:
            if not since or isinstance(error, TokenRefused) or error.status not in (400, 404):
                raise
            # The homeserver does not know how far we were: it is another one, or was reset.
            log.warning("sync_loop.cursor_refused", error=error.sentence[:300])
            cursor_forget(
                homeserver=self.homeserver.service, user_id=self.cursor.user_id, reason="its sync begins anew"
            )
            self.cursor.next_batch = ""
            return 0
        # The question may have been held for long.
        quiet.refuse_when_quiet()
        self.cursor.refresh_from_db(fields=["next_batch"])
        if self.cursor.next_batch != since:
            # Our account was made anew while we asked: the answer belongs to the question of the one before.
            return 0
        answer = take_keys(self.homeserver, answer)
        if not since:
            # What was said before is found by a walk through each room.
            gaps.raise_epoch(self.homeserver.service, "client mode begins to listen")
        count = self._take(answer, first=not since)
        self._keep(str(answer.get("next_batch") or since))
        if not since:
            wake_catch_up()
        return count

    def _take(self, answer: dict[str, Any], *, first: bool) -> int:
        rooms = _mapping(answer.get("rooms"))
        events: list[dict[str, Any]] = []
        joined = _mapping(rooms.get("join"))
        known = self._known(joined)
        for room_id, news in joined.items():
            room, timeline = known.get(room_id), _mapping(_mapping(news).get("timeline"))
            if room is not None and not room.switchboard_joined:
                note_heard(room, True)
            if timeline.get("limited") is True and room is not None and not first:
                # Between the last answer and this one lies more than it holds.
                catch_up(room, gaps.current_epoch(self.homeserver.service))
            state = [] if first else _events(_mapping(news).get("state"))
            events += [{**event, "room_id": room_id} for event in (*state, *_events(timeline))]
        if not first and events:
            receive(events, self.homeserver.service)
        for room_id, news in _mapping(rooms.get("invite")).items():
            hearing.invited(self.homeserver, room_id, _events(_mapping(news).get("invite_state")))
        for room_id in _mapping(rooms.get("leave")):
            hearing.put_out(self.homeserver.service, room_id)
        return len(events)

    def _known(self, room_ids: dict[str, Any]) -> dict[str, Room]:
        rows = Room.objects.filter(homeserver=self.homeserver.service, room_id__in=list(room_ids)).select_related(
            "homeserver", "mapping__agent__service", "mapping__account"
        )
        return {row.room_id: row for row in rows if row.room_id}

    def _keep(self, next_batch: str) -> None:
        now = time.monotonic()
        if next_batch == self.cursor.next_batch and now - self._noted < NOTE_EVERY:
            return
        self.cursor.next_batch, self._noted = next_batch, now
        self.cursor.save(update_fields=["next_batch", "updated_at"])


def _filter(listening: bool) -> dict[str, Any]:
    if listening:
        return FILTER
    # The first answer is only to tell where we are: walks through the rooms bring the rest.
    return {**FILTER, "room": {**FILTER["room"], "timeline": {"limit": 1}, "state": {"types": []}}}


def cursor_forget(*, homeserver: Service, user_id: str, reason: str) -> None:
    """Listen from now on only; what may have been missed is found by walks through the rooms."""
    SyncCursor.objects.filter(homeserver=homeserver, user_id=user_id).update(next_batch="", updated_at=timezone.now())
    gaps.raise_epoch(homeserver, reason)


def begin_anew(homeserver: Homeserver, account: Account) -> None:
    """An account was made: however far it had been read before, that was another one."""
    rows = SyncCursor.objects.filter(homeserver=homeserver.service, user_id=account.user_id).exclude(next_batch="")
    if account.user_id != homeserver.sender_id:
        # Of an agent's account only invitations are read.
        rows.delete()
    elif rows.exists():
        cursor_forget(homeserver=homeserver.service, user_id=account.user_id, reason=f"{account.user_id} was made")


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _events(value: object) -> list[dict[str, Any]]:
    found = _mapping(value).get("events")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
