"""Finds work that nobody has: leases of dead workers, wake-ups that were lost. Safe to run anywhere, any time, twice."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db.models import Q
from django.utils import timezone

from chat.deliveries import run as deliveries
from chat.models import Delivery, Turn
from chat.services import approvals
from chat.turns import claim
from chat.wakeup import wake_deliveries, wake_turns
from ops.leases import holder_is_dead
from ops.logs import get_logger

log = get_logger(__name__)

# A row that became due this moment has been woken by whoever made it; the sweep is for those that were forgotten.
GRACE = timedelta(seconds=1.5)
MOST = 200


def sweep() -> dict[str, int]:
    """Free what dead workers held, wake what is due. Returns counts."""
    freed_turns = _free(Turn)
    freed_deliveries = _free(Delivery)
    expired = approvals.expire()
    due = timezone.now() - GRACE
    turns = [turn.pk for turn in claim.runnable(due_before=due, limit=MOST).only("pk")]
    sends = list(deliveries.runnable(due_before=due, limit=MOST).values_list("pk", flat=True))
    wake_turns([*freed_turns, *(pk for pk in turns if pk not in set(freed_turns))])
    wake_deliveries([*freed_deliveries, *(pk for pk in sends if pk not in set(freed_deliveries))])
    found = {
        "freed_turns": len(freed_turns),
        "freed_deliveries": len(freed_deliveries),
        "turns": len(turns),
        "deliveries": len(sends),
    }
    if expired:
        found["expired_approvals"] = expired
    if freed_turns or freed_deliveries or expired:
        log.warning("sweep.freed", **found)
    return found


def _free(model: Any) -> list[int]:
    now = timezone.now()
    running = model.objects.filter(state="running")
    dead = [
        worker for worker in running.values_list("worker", flat=True).distinct() if worker and holder_is_dead(worker)
    ]
    freed: list[int] = []
    for row in running.filter(Q(lease_until__lt=now) | Q(worker__in=dead)).only("pk", "fence"):
        # One that loses its workers again and again is given up by the next that takes it up, which can tell the person.
        fields: dict[str, Any] = {"state": "queued", "not_before": now, "lease_until": None, "worker": ""}
        # The fencing number is part of the condition: a worker that renewed its lease in the meantime keeps the row.
        if (
            model.objects.filter(pk=row.pk, state="running", fence=row.fence)
            .exclude(Q(lease_until__gte=now) & ~Q(worker__in=dead))
            .update(**fields)
        ):
            freed.append(row.pk)
    return freed
