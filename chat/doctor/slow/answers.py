"""Tells the floor below when agents last answered, and lets what has waited for a provider go on."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from django.db.models import Max
from django.utils import timezone

from agents.services.troubles import register_answers, register_relief
from chat.models import Turn, TurnState
from chat.wakeup import wake_turns

WOKEN_AT_ONCE = 50
_HELD_BACK_BY = ("backend.rate_limited", "backend.unavailable", "backend.timeout")


def last_answers(agents: Sequence[int], since: datetime) -> dict[int, datetime]:
    """When these agents last finished an answer after ``since``; one query."""
    rows = (
        Turn.objects.filter(agent_id__in=list(agents), state=TurnState.DONE, finished_at__gt=since)
        .order_by()
        .values_list("agent_id")
        .annotate(at=Max("finished_at"))
    )
    return dict(rows)


def try_again_now(agents: Sequence[int]) -> None:
    """Turns of these agents that wait because of their provider are due now."""
    waiting = Turn.objects.filter(
        agent_id__in=list(agents), state=TurnState.QUEUED, error_code__in=_HELD_BACK_BY, not_before__gt=timezone.now()
    )
    keys = list(waiting.order_by("pk").values_list("pk", flat=True))
    if keys:
        Turn.objects.filter(pk__in=keys, state=TurnState.QUEUED).update(not_before=timezone.now())
        # The sweep finds the others.
        wake_turns(keys[:WOKEN_AT_ONCE])


register_answers(last_answers)
register_relief(try_again_now)
