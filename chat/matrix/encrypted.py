"""Encrypted rooms: what of them is read, what waits for its key, and what the people in the room are told.

In client mode Switchboard's own device reads (``agents.matrix.crypto``). An appservice cannot: there the room is told so once.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from agents.matrix.content import notice_content
from agents.matrix.errors import MatrixError
from agents.models import Account, Room
from agents.services import encryption
from agents.services.backends import Homeserver, homeserver_of
from chat.deliveries import outbox
from chat.deliveries.txn import marker
from chat.models import Message, RefusedEvent, Role
from chat.services.conversations import conversation_of
from chat.services.notices import notice_store
from chat.wakeup import wake_deliveries
from ops.logs import get_logger
from ops.models import Service

log = get_logger(__name__)

CANNOT_READ = (
    "This room is encrypted, and I cannot read encrypted messages. Please talk to me in a room without encryption; "
    "your messages here do not reach me."
)
# Reasons of refused events. The first waits for its key, the second for an operator; both are taken in when they can be read.
NO_KEY, NO_KEYS, UNREADABLE = "encrypted", "encrypted_keys_lost", "encrypted_unreadable"
# It waits for its key as well, and is from before a restore: history when it can be read, and not answered.
PAST = "encrypted_past"
WAITING = (NO_KEY, NO_KEYS, PAST)
# What a lost key means for the room is said again after this time at the earliest.
SAID_AGAIN = timedelta(days=7)


def opened(event: dict[str, Any], room: Room, homeserver: Service) -> tuple[dict[str, Any] | None, str, str]:
    """The event as its sender wrote it, or ``None`` with the reason why it became no message, and a sentence.

    Raises ``MatrixError`` only when the homeserver does not answer.
    """
    host = homeserver_of(homeserver)
    noticed(room, host)
    if not host.client_mode:
        return None, NO_KEY, "the message is encrypted"
    room_id = room.room_id or ""
    try:
        found = encryption.reader_of(host).decrypt(event, room_id)
    except encryption.KeysUnusable as error:
        tell_lost(room, host)
        return None, NO_KEYS, error.sentence
    if found.event is not None:
        return found.event, "", ""
    if found.code in ("no_key", "withheld"):
        return (
            None,
            NO_KEY,
            f"It is encrypted. {found.sentence} It was asked for; when it comes the message is taken in.",
        )
    return None, UNREADABLE, f"It is encrypted. {found.sentence}"


def waits(why: str) -> str:
    """Why an event is not read yet, and what becomes of it."""
    return f"It is encrypted. {why} It was asked for; when it comes the message is taken in."


def noticed(room: Room, homeserver: Homeserver) -> None:
    """The room is encrypted, or an encrypted message came in: note it, and say once where we cannot read it."""
    if room.encrypted:
        return
    with transaction.atomic():
        # Who changes the row tells it: another process, or a walk a moment ago, may have done so.
        if Room.objects.filter(pk=room.pk, encrypted=False).update(encrypted=True) and not homeserver.client_mode:
            say(room, CANNOT_READ)
    room.encrypted = True


def say(room: Room, sentence: str) -> None:
    """A notice of the agent's in its room, behind what is on its way there. Call it in a transaction, or alone."""
    account = speaker_of(room)
    mapping = getattr(room, "mapping", None)
    with transaction.atomic():
        conversation = conversation_of(room, mapping.agent if mapping is not None else None)
        delivery = outbox.notice(conversation, room, sentence, account=account)
        transaction.on_commit(lambda: wake_deliveries([delivery.pk]))


def speaker_of(room: Room) -> Account | None:
    """The account that speaks in the room for the agent."""
    from chat.matrix.state_events import account_of_direct_room

    mapping = getattr(room, "mapping", None)
    return mapping.account if mapping is not None else account_of_direct_room(room)


def tell_lost(room: Room, homeserver: Homeserver) -> bool:
    """Say in the room that keys are lost, once a week at most. Past the outbox, where an answer that cannot be encrypted waits in front.

    The one thing that may go out in the open (``agents.services.encryption.LOST``). False: it was said already, or could not be.
    """
    mapping = getattr(room, "mapping", None)
    conversation = conversation_of(room, mapping.agent if mapping is not None else None)
    said = Message.objects.filter(conversation_id=conversation.pk, role=Role.NOTICE, text=encryption.LOST)
    if said.filter(stored_at__gt=timezone.now() - SAID_AGAIN).exists():
        return False
    account = speaker_of(room)
    try:
        homeserver.client.send(
            room.room_id or "",
            notice_content(encryption.LOST, extra=marker(0)),
            txn_id=f"sb.keys.{uuid.uuid4().hex}",
            user_id=account.user_id if account is not None else None,
        )
    except MatrixError as error:
        log.warning("crypto.not_told", room=room.room_id, error=error.sentence[:300])
        return False
    notice_store(conversation.pk, encryption.LOST)
    return True


def read_now(event_ids: Collection[str]) -> None:
    """These could be read at last: nothing is left to explain."""
    rows = RefusedEvent.objects.filter(transport="matrix", external_id__in=event_ids)
    rows.filter(reason__in=WAITING).delete()


def stays_unread(event_id: str, why: str) -> None:
    """Its key is here, and it cannot be read all the same: that will not change."""
    rows = RefusedEvent.objects.filter(transport="matrix", external_id=event_id, reason__in=WAITING)
    rows.update(reason=UNREADABLE, sentence=f"It is encrypted. {why}"[:500])


def is_of_the_past(event_id: str) -> None:
    """It was said before a restore: whatever comes of it when its key comes, it is not answered."""
    RefusedEvent.objects.filter(transport="matrix", external_id=event_id, reason=NO_KEY).update(reason=PAST)


def reason_of(event_id: str) -> str:
    """Why the event became no message, "" when nothing is noted of it."""
    rows = RefusedEvent.objects.filter(transport="matrix", external_id=event_id)
    return rows.values_list("reason", flat=True).first() or ""


def still_waits(event_id: str, sentence: str) -> None:
    """What came while our keys were lost waits for a key of its sender's now, as any other."""
    rows = RefusedEvent.objects.filter(transport="matrix", external_id=event_id, reason=NO_KEYS)
    rows.update(reason=NO_KEY, sentence=sentence[:500])
