"""Sends a delivery: claim, hand to its target, note the result, go on with the next of the lane."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db.models import BooleanField, QuerySet
from django.db.models.expressions import RawSQL
from django.utils import timezone

from chat.models import Delivery, DeliveryState, Message
from chat.wakeup import wake_deliveries, wake_deliveries_later
from ops import quiet
from ops.leases import claim, fenced_update
from ops.logs import bind, get_logger
from ops.prepared import PreparedRead

log = get_logger(__name__)

IN_ONE_GO = 100
LONGEST_DELAY = 300.0
# Taken up and lost with its worker so often beyond its attempts, a delivery may be what kills workers.
LOST_CLAIMS = 8


class DeliveryFailed(Exception):
    """A target could not deliver.

    ``counts`` is false for outages that are nobody's message's fault (homeserver down, rate limit, refused token): they wait
    without using up attempts. ``final`` gives up at once: a repetition cannot mend it.
    """

    def __init__(
        self, reason: str, *, code: str, counts: bool = True, final: bool = False, retry_after: float | None = None
    ) -> None:
        super().__init__(reason)
        self.reason, self.code, self.counts, self.final, self.retry_after = reason, code, counts, final, retry_after


class DeliveryLost(Exception):
    """The lease is somebody else's by now; nothing more may be sent from here."""


Handler = Callable[[Delivery], dict[str, Any]]
_handlers: dict[str, Handler] = {}


def register_target(target: str, handler: Handler) -> None:
    """Name the function that delivers to a kind of target. It returns fields to store, or raises ``DeliveryFailed``."""
    _handlers[target] = handler


def earlier_open() -> RawSQL:
    """Whether an open delivery of the same lane comes first. By hand for the reason given in ``chat.turns.claim``."""
    return RawSQL(_EARLIER_OPEN, [], output_field=BooleanField())  # noqa: S611 (a constant)


_EARLIER_OPEN = """EXISTS (SELECT 1 FROM chat_delivery earlier WHERE earlier.lane = chat_delivery.lane
AND earlier.id < chat_delivery.id AND earlier.state IN ('queued', 'running'))"""


def runnable(*, limit: int = 200, due_before: Any = None) -> QuerySet[Delivery]:
    """Queued deliveries that nothing holds back."""
    return Delivery.objects.filter(state=DeliveryState.QUEUED, not_before__lte=due_before or timezone.now()).filter(
        ~earlier_open()
    )[:limit]


def run_delivery(row: int | Delivery) -> None:
    """Send one delivery if it is to be had, then those that waited behind it. Safe to call twice.

    ``row`` is an id, or a row as it was just made: claiming it is conditional either way.
    """
    following: int | Delivery | None = row
    for _ in range(IN_ONE_GO):
        if following is None:
            return
        following = _run_one(following)
    if isinstance(following, int):
        wake_deliveries([following])


def _load(pk: int) -> Delivery | None:
    """A delivery with all that sending it needs, in two small joins (see ``chat.turns.claim.load``)."""
    delivery = _delivery.first(pk)
    if delivery is not None and delivery.state == DeliveryState.QUEUED and delivery.message_id is not None:
        delivery.message = _message.first(delivery.message_id)
    return delivery


_delivery = PreparedRead(lambda pk: Delivery.objects.select_related("room__homeserver", "account").filter(pk=pk), 1)
_message = PreparedRead(lambda pk: Message.objects.select_related("sender", "in_reply_to").filter(pk=pk), 1)
_next_in_lane = PreparedRead(
    lambda lane, pk: (
        Delivery.objects.filter(lane=lane, state=DeliveryState.QUEUED, id__gt=pk)
        .order_by("id")
        .values_list("pk", flat=True)[:1]
    ),
    "lane",
    1,
)


def _run_one(row: int | Delivery) -> int | None:
    if quiet.is_quiet():
        # The sweep finds it again.
        return None
    delivery = _load(row) if isinstance(row, int) else row
    if delivery is None or delivery.state != DeliveryState.QUEUED:
        return None
    wait = (delivery.not_before - timezone.now()).total_seconds()
    if wait > 0:
        wake_deliveries_later(delivery.pk, wait)
        return None
    if not claim(delivery, unless=_EARLIER_OPEN):
        return None
    with bind(message_id=delivery.message_id, delivery_id=delivery.pk):
        try:
            _send(delivery)
        except DeliveryLost:
            log.warning("delivery.lease_lost")
            return None
    return _next_in_lane.first(delivery.lane, delivery.pk)


def _send(delivery: Delivery) -> None:
    handler = _handlers[delivery.target]
    try:
        if delivery.attempts > settings.DELIVERY_ATTEMPTS + LOST_CLAIMS:
            raise DeliveryFailed("Its worker was lost again and again.", code="worker.lost", final=True)
        fields = handler(delivery)
    except DeliveryFailed as error:
        _failed(delivery, error)
    except DeliveryLost:
        raise
    except Exception as error:
        log.exception("delivery.crashed")
        _failed(delivery, DeliveryFailed(f"{type(error).__name__}: {error}"[:500], code="delivery.crashed"))
    else:
        _end(
            delivery,
            **{
                "state": DeliveryState.SENT,
                "sent_at": timezone.now(),
                "error_code": "",
                "error_reason": "",
                **fields,
            },
        )


def _failed(delivery: Delivery, error: DeliveryFailed) -> None:
    if error.final or (error.counts and delivery.attempts >= settings.DELIVERY_ATTEMPTS):
        _end(delivery, state=DeliveryState.DEAD, error_code=error.code, error_reason=error.reason[:5000])
        log.error("delivery.dead", code=error.code, reason=error.reason[:500], attempts=delivery.attempts)
        return
    delay = (
        error.retry_after if error.retry_after is not None else min(2.0 ** min(delivery.attempts - 1, 9), LONGEST_DELAY)
    )
    if not error.counts:
        delay = error.retry_after if error.retry_after is not None else 5.0
    delay = max(0.2, min(delay, 3600.0)) * random.uniform(1.0, 1.2)
    _end(
        delivery,
        state=DeliveryState.QUEUED,
        not_before=timezone.now() + timedelta(seconds=delay),
        attempts=delivery.attempts if error.counts else max(0, delivery.attempts - 1),
        error_code=error.code,
        error_reason=error.reason[:5000],
    )
    log.info("delivery.later", code=error.code, seconds=round(delay, 1), reason=error.reason[:200])
    wake_deliveries_later(delivery.pk, delay)


def _end(delivery: Delivery, **fields: Any) -> None:
    if not fenced_update(delivery, **{"worker": "", "lease_until": None, **fields}):
        raise DeliveryLost
