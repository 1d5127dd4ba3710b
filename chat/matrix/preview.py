"""A slow answer shows in the room while it grows: typing first, then one event that is edited.

A reply is at most 12 events in all and one edit a second: about a thousand edits of one event made a room unloadable. The edits run
beside the stream, one at a time; when the homeserver is slow, edits are skipped, never the stream.
"""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotReady
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from agents.matrix.content import edit_content, text_content
from agents.matrix.errors import MatrixError
from agents.matrix.markdown import render
from agents.matrix.split import split_for_events
from agents.models import Room
from agents.services.backends import Homeserver, NoHomeserver, homeserver_of
from agents.services.encryption import event_limit
from chat.deliveries import outbox
from chat.deliveries.txn import digest, marker, txn_id
from chat.matrix import courtesy
from chat.models import Delivery, DeliveryState, Link, Turn
from ops.logs import get_logger

log = get_logger(__name__)

# One event for the first sight, one for the final text, one for the whole as a file; what is left are edits in between.
MAX_EDITS = 9
# Seconds after the former edit. They grow, so that nine edits cover an answer of a minute and a half.
PAUSES = (1.0, 1.0, 2.0, 2.0, 4.0, 8.0, 15.0, 25.0, 30.0)
LONGEST_PREVIEW = 24_000
_pool = ThreadPoolExecutor(max_workers=4, thread_name_prefix="preview")


class Preview:
    """What the conversation's room shows of one turn before it is finished. Used by the turn's thread only."""

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self._due = 0.0
        self._edits = 0
        self._shown_length = 0
        self._running: Future[None] | None = None
        self._place: tuple[Room, Homeserver] | bool | None = None
        self._delivery: Delivery | None = None
        self._off = False
        self.used = False

    def begin(self) -> None:
        """Show that the agent is at work, if it takes longer than a moment."""
        courtesy.typing_soon(self.turn)

    def show(self, text: str) -> None:
        """Show the text so far, if it is time to. Never waits for the homeserver."""
        now = time.monotonic()
        if self._due == 0.0:
            self._due = now + settings.MATRIX_EDIT_INTERVAL
        if self._off or now < self._due or self._edits > MAX_EDITS or len(text) == self._shown_length:
            return
        if len(text) > LONGEST_PREVIEW or (self._running is not None and not self._running.done()):
            return
        self._shown_length = len(text)
        pause = PAUSES[min(self._edits, len(PAUSES) - 1)]
        self._due = now + max(pause, settings.MATRIX_EDIT_INTERVAL)
        self._edits += 1
        self.used = True
        self._running = _pool.submit(self._send, text)

    def end(self) -> None:
        """Stop typing; wait a little for an edit under way, so that the final text comes after it."""
        courtesy.typing_over(self.turn)
        if self._running is not None:
            self._off = True
            try:
                self._running.result(timeout=10)
            except NotReady:
                # The homeserver hangs. The delivery's own attempts follow with the same transaction ids.
                log.warning("preview.slow")

    def _send(self, text: str) -> None:
        try:
            self._send_now(text)
        except (MatrixError, NoHomeserver) as error:
            log.info("preview.skipped", error=str(error)[:200])
        except Exception:
            log.exception("preview.failed")
        finally:
            # Counted from when the homeserver has it: one that was slow once must not get the next edit on its heels.
            self._due = max(self._due, time.monotonic() + settings.MATRIX_EDIT_INTERVAL)
            connection.close_if_unusable_or_obsolete()

    def _send_now(self, text: str) -> None:
        place = self._find_place()
        if place is None:
            return
        room, homeserver = place
        account = self.turn.agent.mapping.account
        if not room.room_id:
            return
        pieces = split_for_events(text, event_limit(homeserver, room.room_id, account.user_id))
        if not pieces:
            return
        delivery = self._row(room)
        if delivery is None:
            return
        rendered = render(pieces[0])
        extra = marker(self.turn.message.hop, turn=self.turn.pk)
        entry: dict[str, Any] = delivery.shown[0] if delivery.shown else {}
        if not entry.get("event_id"):
            if not entry:
                # Written down before it is sent: whoever comes after a crash knows that something may stand there.
                entry = {"txn": txn_id(delivery, "first")}
                delivery.shown = [entry]
                if not self._persist(delivery):
                    return
            entry["event_id"] = homeserver.client.send(
                room.room_id, text_content(rendered, extra=extra), txn_id=entry["txn"], user_id=account.user_id
            )
            entry["digest"] = digest(pieces[0])
        else:
            # An earlier attempt may have used up the edits; a piece that is full does not change any more.
            if delivery.edits >= MAX_EDITS or entry.get("digest") == digest(pieces[0]):
                return
            delivery.edits += 1
            homeserver.client.send(
                room.room_id,
                edit_content(entry["event_id"], rendered, extra=extra),
                txn_id=txn_id(delivery, f"edit{self.turn.fence}.{delivery.edits}"),
                user_id=account.user_id,
            )
            entry["digest"] = digest(pieces[0])
        self._persist(delivery)

    def _persist(self, delivery: Delivery) -> bool:
        """Keep what is shown; the final edit has to wait its second as well. False when the row is no longer a preview."""
        delivery.not_before = timezone.now() + timedelta(seconds=settings.MATRIX_EDIT_INTERVAL)
        return (
            Delivery.objects.filter(pk=delivery.pk, state=DeliveryState.STREAMING).update(
                shown=delivery.shown, edits=delivery.edits, not_before=delivery.not_before
            )
            == 1
        )

    def _find_place(self) -> tuple[Room, Homeserver] | None:
        if self._place is None:
            link = (
                Link.objects.filter(conversation_id=self.turn.conversation_id, room__isnull=False)
                .select_related("room__homeserver")
                .first()
            )
            usable = link is not None and link.room is not None and hasattr(self.turn.agent, "mapping")
            self._place = (link.room, homeserver_of(link.room.homeserver)) if usable else False  # type: ignore[union-attr,assignment]
        return self._place or None  # type: ignore[return-value]

    def _row(self, room: Room) -> Delivery | None:
        if self._delivery is None:
            lane = outbox.room_lane(room.pk)
            found = Delivery.objects.filter(turn=self.turn, lane=lane, speak_as="agent", notice=False).first()
            if found is None:
                now = timezone.now()
                try:
                    with transaction.atomic():
                        found = Delivery.objects.create(
                            turn=self.turn, target=outbox.MATRIX, room=room, account=self.turn.agent.mapping.account,
                            speak_as="agent", lane=lane, state=DeliveryState.STREAMING, not_before=now, created_at=now,
                        )  # fmt: skip
                except IntegrityError:
                    found = Delivery.objects.get(turn=self.turn, lane=lane, speak_as="agent", notice=False)
            self._delivery = found
            # An earlier attempt at this turn has used up some of the edits.
            self._edits = max(self._edits, found.edits + 1)
        return self._delivery if self._delivery.state == DeliveryState.STREAMING else None
