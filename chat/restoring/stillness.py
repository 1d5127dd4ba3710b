"""Answers and deliveries that are under way when everything is to stand still."""

from __future__ import annotations

from django.utils import timezone

from chat.models import Delivery, Turn
from ops.leases import holder_is_dead
from ops.quiet import register_drain


def under_way() -> int:
    """Turns and deliveries that living workers hold."""
    now = timezone.now()
    return sum(
        not holder_is_dead(worker)
        for model in (Turn, Delivery)
        for worker in model._default_manager.filter(state="running", lease_until__gte=now).values_list(
            "worker", flat=True
        )
    )


# An answer may take minutes. One that is cut off loses its lease, and cannot write any more.
register_drain("answers under way", under_way)
