"""Deciding what becomes of deliveries that were given up."""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone

from chat.models import Delivery, DeliveryState
from chat.services.turns import WrongState
from chat.wakeup import wake_deliveries
from ops.services.audit import record


def delivery_retry(*, delivery: Delivery, actor: str) -> Delivery:
    """Send a dead letter again, with the same transaction ids: what did arrive is not shown twice. Raises ``WrongState``."""
    with transaction.atomic():
        updated = Delivery.objects.filter(pk=delivery.pk, state=DeliveryState.DEAD).update(
            state=DeliveryState.QUEUED, attempts=0, not_before=timezone.now(), error_code="", error_reason=""
        )
        _check(delivery, updated, "sent again")
        record(actor=actor, action="delivery.retried", target=delivery)
        transaction.on_commit(lambda: wake_deliveries([delivery.pk]))
    return delivery


def delivery_discard(*, delivery: Delivery, actor: str) -> Delivery:
    """Give a dead letter up for good. Raises ``WrongState``."""
    with transaction.atomic():
        updated = Delivery.objects.filter(pk=delivery.pk, state=DeliveryState.DEAD).update(
            state=DeliveryState.DISCARDED
        )
        _check(delivery, updated, "discarded")
        record(actor=actor, action="delivery.discarded", target=delivery)
    return delivery


def _check(delivery: Delivery, updated: int, verb: str) -> None:
    delivery.refresh_from_db()
    if not updated:
        raise WrongState(
            f"Delivery {delivery.pk} is {delivery.get_state_display().lower()}; only a dead letter can be {verb}."
        )
