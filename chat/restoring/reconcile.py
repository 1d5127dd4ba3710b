"""After a restore every room is read again."""

from __future__ import annotations

from typing import Any

from agents.matrix.errors import MatrixError
from agents.models import Room
from agents.restoring.waiting import unless_started
from agents.services.backends import homeserver_service
from chat.matrix import gaps
from chat.matrix.events import catch_up
from chat.models import Message
from chat.restoring.history import RESTORED
from ops.backup.hooks import Reconcile, register_reconcile
from ops.findings import Finding
from ops.words import counted

AT_ONCE = 200


def read_rooms(work: Reconcile) -> dict[str, Any] | None:
    """Take in what was said since the cut. Rooms that cannot be read now are read before anything new of them is taken in.

    Returns ``{"sentence", "rooms", "messages": how many became history, "new": how many are answered}``.
    """
    service = homeserver_service()
    if service is None or not {"conversations", "mappings"} & set(work.kinds):
        return None
    unless_started("rooms are read then, and what was said since becomes history.")
    epoch = gaps.current_epoch(service)
    total = (
        Room.objects.filter(homeserver=service, room_id__isnull=False, caught_up_epoch__lt=epoch)
        .exclude(kind="space")
        .count()
    )
    history = Message.objects.filter(stored_at__gte=work.now, guard=RESTORED)
    walked = found = 0
    while rooms := gaps.rooms_to_walk(service, epoch, AT_ONCE):
        for room in rooms:
            try:
                found += catch_up(room, epoch)
            except MatrixError as error:
                left = max(0, total - walked)
                work.say(
                    Finding(
                        "warning",
                        "restore.rooms_unread",
                        f"{counted(left, 'room is', 'rooms are')} still to be read: {error.sentence} It goes on by itself.",
                        "homeserver",
                    )
                )
                return _read(walked, found, history.count())
            walked += 1
            if walked % 20 == 0:
                work.progress(f"Reading rooms ({walked:,} of {total:,})")
    return _read(walked, found, history.count())


def _read(walked: int, found: int, history: int) -> dict[str, Any]:
    sentence = f"{counted(walked, 'room was', 'rooms were')} read again"
    sentence += (
        f"; {counted(found, 'message')} that the backup did not know {'was' if found == 1 else 'were'} taken in."
        if found
        else "; nothing had been said since."
    )
    return {"sentence": sentence, "rooms": walked, "messages": found, "from_people": history}


register_reconcile("What was said since", read_rooms)
