"""The line that a restore draws, in its own transaction: what was under way is over, and what was said before is history.

Rows went back in time, the homeserver and the agents' servers did not. So whatever the backup knows as open was answered and sent since,
or will never be; and of what it does not know each room is read again before anything new is taken in (``chat.restoring.history``).
"""

from __future__ import annotations

from django.db.models import F, Max

from agents.models import Room
from chat.models import OPEN_TURN_STATES, Delivery, DeliveryState, IntakeEpoch, Turn, TurnState
from chat.restoring.history import RESTORED, SENTENCE
from ops import quiet
from ops.backup.hooks import Fence, register_fence
from ops.findings import Finding
from ops.words import counted

OPEN_DELIVERIES = (DeliveryState.STREAMING, DeliveryState.QUEUED, DeliveryState.RUNNING)
# Added to fencing numbers: a worker that lives on, and claimed the same row in the time that is undone, cannot write to it.
_BEYOND = 1000


def end_what_was_open(fence: Fence) -> None:
    """Turns and deliveries that the backup knows as open end, and say why."""
    if "conversations" not in fence.kinds:
        return
    turns, deliveries = Turn.objects.using(fence.alias), Delivery.objects.using(fence.alias)
    over = {"worker": "", "lease_until": None, "fence": F("fence") + _BEYOND}
    told = {"error_code": RESTORED, "error_reason": SENTENCE}
    ended = turns.filter(state__in=OPEN_TURN_STATES).update(
        state=TurnState.CANCELLED, finish_reason=RESTORED, finished_at=fence.now, **told, **over
    )
    dropped = deliveries.filter(state__in=OPEN_DELIVERIES).update(state=DeliveryState.DISCARDED, **told, **over)
    # What was given up then may be taken up again by an operator, while a worker is still at it.
    turns.filter(state__in=(TurnState.FAILED, TurnState.TIMED_OUT, TurnState.DEAD)).update(fence=F("fence") + _BEYOND)
    deliveries.filter(state=DeliveryState.DEAD).update(fence=F("fence") + _BEYOND)
    if ended or dropped:
        fence.say(
            Finding(
                "info",
                "restore.ended",
                f"{counted(ended, 'answer')} and {counted(dropped, 'delivery', 'deliveries')} that were under way when the backup was made "
                "ended: nothing old is answered or sent again.",
                evidence={"turns": ended, "deliveries": dropped},
            )
        )


def draw_the_line(fence: Fence) -> None:
    """Every room is read again from the cut on, and what was said up to now is history."""
    if not {"conversations", "mappings"} & set(fence.kinds):
        return
    line = (None if fence.fresh else quiet.still_since()) or fence.now
    rooms = Room.objects.using(fence.alias)
    highest = dict(
        rooms.order_by()
        .values_list("homeserver_id")
        .annotate(highest=Max("caught_up_epoch"))
        .values_list("homeserver_id", "highest")
    )
    epochs = IntakeEpoch.objects.using(fence.alias)
    for homeserver_id, caught_up in highest.items():
        row = epochs.filter(homeserver_id=homeserver_id).first() or IntakeEpoch(homeserver_id=homeserver_id, number=1)
        row.number, row.reason = max(row.number, caught_up) + 1, "a backup was restored"
        row.save(using=fence.alias)
    there = rooms.filter(room_id__isnull=False).exclude(kind="space")
    there.update(caught_up_epoch=0, history_until=line)
    # Rooms that stayed know how far they were read; what was said since the cut went with its rows.
    there.filter(last_event_at__gt=fence.cut_at).update(last_event_at=fence.cut_at, last_event_id="")


register_fence("answers and deliveries", end_what_was_open)
register_fence("rooms", draw_the_line)
