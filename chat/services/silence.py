"""Gets what stands still going again: wakes, tries again, makes up for what was lost on the way. Safe to repeat."""

from __future__ import annotations

from functools import partial

from django.db import transaction
from django.utils import timezone

from chat.deliveries import outbox
from chat.models import Delivery, DeliveryState, Message, Turn, TurnState
from chat.services.deliveries import delivery_retry
from chat.services.turns import FAILED_STATES, WrongState, turn_retry
from chat.turns.finish import rooms_of
from chat.turns.lanes import lane_of
from chat.wakeup import wake_deliveries, wake_turns
from ops.services.audit import record


def turn_wake(*, turn: int, actor: str) -> bool:
    """Let a turn that was put off start now. False: it does not wait any more."""
    with transaction.atomic():
        updated = Turn.objects.filter(pk=turn, state=TurnState.QUEUED).update(not_before=timezone.now())
        if updated:
            record(actor=actor, action="turn.woken", target=f"turn:{turn}")
            transaction.on_commit(partial(wake_turns, [turn]))
    return bool(updated)


def delivery_wake(*, delivery: int, actor: str) -> bool:
    """Let a delivery that was put off be sent now. False: it does not wait any more."""
    with transaction.atomic():
        updated = Delivery.objects.filter(pk=delivery, state=DeliveryState.QUEUED).update(not_before=timezone.now())
        if updated:
            record(actor=actor, action="delivery.woken", target=f"delivery:{delivery}")
            transaction.on_commit(partial(wake_deliveries, [delivery]))
    return bool(updated)


def reply_deliver(*, turn: int, actor: str) -> int:
    """Put an answer that is in no outbox into that of each room of its conversation. Returns how many deliveries were made."""
    with transaction.atomic():
        row = (
            Turn.objects.select_for_update(of=("self",))
            .select_related("agent__mapping__account", "reply")
            .filter(pk=turn, state=TurnState.DONE, reply__isnull=False)
            .first()
        )
        if row is None or row.reply is None or Delivery.objects.filter(turn=row, speak_as="agent").exists():
            return 0
        made = [outbox.reply(row, row.reply, room, row.agent.account, previewed=False).pk for room in rooms_of(row)]
        if made:
            record(actor=actor, action="turn.reply_delivered", target=row, after={"deliveries": made})
            transaction.on_commit(partial(wake_deliveries, made))
    return len(made)


def turn_make_up(*, message: int, agent: int, actor: str) -> Turn | None:
    """The turn of a message that has none, for the agent of its room. ``None``: it has one already."""
    from agents.models import Agent

    with transaction.atomic():
        said = Message.objects.select_for_update(of=("self",)).filter(pk=message).first()
        who = Agent.objects.select_related("service").filter(pk=agent).first()
        if said is None or who is None or said.turns.exists():
            return None
        now = timezone.now()
        turn = Turn.objects.create(
            conversation_id=said.conversation_id,
            agent=who,
            message=said,
            seq=said.seq,
            lane=lane_of(who, said.conversation_id),
            not_before=now,
            created_at=now,
        )
        record(actor=actor, action="turn.made_up", target=turn, after={"message": message})
        transaction.on_commit(partial(wake_turns, [turn.pk]))
    return turn


def dead_letter_retry(*, kind: str, pk: int, actor: str) -> bool:
    """Try a dead letter again, a turn or a delivery. False: it is none any more."""
    try:
        if kind == "turn":
            row = Turn.objects.filter(pk=pk, state__in=FAILED_STATES).first()
            return row is not None and bool(turn_retry(turn=row, actor=actor))
        sent = Delivery.objects.filter(pk=pk, state=DeliveryState.DEAD).first()
        return sent is not None and bool(delivery_retry(delivery=sent, actor=actor))
    except WrongState:
        return False
