"""Checks of the message path: is anything stuck, is anything lost to an operator's eyes?"""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone

from chat.models import Delivery, DeliveryState, Turn, TurnState
from chat.services.turns import FAILED_STATES
from chat.turns import claim
from ops.registry import Affected, CheckOutcome, register_check
from ops.words import counted

STUCK_AFTER = timedelta(seconds=60)
SHOWN = 200


@register_check(
    "turns.moving",
    title="Messages that could be answered are being answered",
    tags=["messages"],
    interval=30,
    severity="critical",
    depends_on=["db.reachable", "worker.alive"],
    repairs=["agent.diagnose"],
    covers=["agent.silent"],
)
def turns_moving() -> CheckOutcome:
    """Red when a turn that nothing holds back has waited for more than a minute."""
    waiting = claim.runnable(due_before=timezone.now() - STUCK_AFTER, limit=100).only("pk")
    ids = [turn.pk for turn in waiting]
    if ids:
        return CheckOutcome(
            "fail",
            f"{counted(len(ids), 'message waits', 'messages wait')} for an answer that nobody works on.",
            {"turns": ids[:20]},
            affected=tuple(Affected(f"turn:{pk}", "Nobody works on it.") for pk in ids),
        )
    running = Turn.objects.filter(state=TurnState.RUNNING).count()
    return CheckOutcome("pass", f"Nothing is stuck; {counted(running, 'turn is', 'turns are')} being answered.")


@register_check(
    "deliveries.dead_letters",
    title="Every answer was delivered",
    tags=["messages"],
    interval=60,
    severity="error",
    depends_on=["db.reachable"],
    repairs=["agent.diagnose"],
    covers=["agent.silent"],
)
def dead_letters() -> CheckOutcome:
    """Red while there are dead letters: somebody did not get an answer, and an operator has to decide."""
    deliveries = Delivery.objects.filter(state=DeliveryState.DEAD).count()
    turns = Turn.objects.filter(state__in=FAILED_STATES).exclude(state=TurnState.FAILED).count()
    if deliveries or turns:
        return CheckOutcome(
            "fail",
            f"{counted(turns, 'message was', 'messages were')} not answered and {counted(deliveries, 'answer was', 'answers were')} not delivered. "
            "Try them again, or discard them.",
            {"turns": turns, "deliveries": deliveries},
            affected=_given_up(),
        )
    return CheckOutcome("pass", "There are no dead letters.")


def _given_up() -> tuple[Affected, ...]:
    """The newest of them, each with the reason."""
    turns = Turn.objects.filter(state__in=FAILED_STATES).exclude(state=TurnState.FAILED).order_by("-pk")
    sent = Delivery.objects.filter(state=DeliveryState.DEAD).order_by("-pk")
    return (
        *(Affected(f"turn:{pk}", why) for pk, why in turns.values_list("pk", "error_reason")[:SHOWN]),
        *(Affected(f"delivery:{pk}", why) for pk, why in sent.values_list("pk", "error_reason")[:SHOWN]),
    )
