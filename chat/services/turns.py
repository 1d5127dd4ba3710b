"""Stopping turns, and deciding what becomes of those that failed."""

from __future__ import annotations

from functools import partial

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from chat import live
from chat.deliveries import outbox
from chat.models import DeliveryState, Turn, TurnState
from chat.wakeup import wake_deliveries, wake_turns
from ops.services.audit import record

# What stands behind a text whose author was stopped.
STOPPED_MARK = "\n\n*(stopped)*"
FAILED_STATES = (TurnState.FAILED, TurnState.TIMED_OUT, TurnState.DEAD)


class WrongState(Exception):
    """The row is not in a state in which this can be done; ``sentence`` says which it is in."""

    code = "turn.wrong_state"

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


def turn_cancel(*, turn: Turn, actor: str) -> Turn:
    """Stop a turn. One that waits ends at once; one that runs is stopped by its worker, which also stops the backend.

    One that stopped for approval goes back to a worker, which refuses the calls at the backend. Does nothing for a turn that is over.
    """
    now = timezone.now()
    with transaction.atomic():
        asking = Q(state=TurnState.WAITING_APPROVAL) | (Q(state=TurnState.QUEUED) & ~Q(approvals=[]))
        refused = Turn.objects.filter(asking, pk=turn.pk, stop_requested_by="").update(
            state=TurnState.QUEUED, not_before=now, attempts=0, stop_requested_by=actor[:255]
        )
        ended = Turn.objects.filter(pk=turn.pk, state=TurnState.QUEUED, approvals=[]).update(
            state=TurnState.CANCELLED, finished_at=now, stop_requested_by=actor[:255], finish_reason="cancelled"
        )
        asked = Turn.objects.filter(pk=turn.pk, state=TurnState.RUNNING, stop_requested_by="").update(
            stop_requested_by=actor[:255]
        )
        if refused:
            transaction.on_commit(partial(wake_turns, [turn.pk]))
        if refused or ended or asked:
            record(actor=actor, action="turn.stopped", target=turn)
        if ended:
            _end_previews(turn)
            turn.state = TurnState.CANCELLED
            live.turn_changed(turn)
            transaction.on_commit(partial(_wake_next, turn.lane))
    turn.refresh_from_db()
    return turn


def _end_previews(turn: Turn) -> None:
    """An earlier attempt may have shown a part of its answer: the room is told that no more comes."""
    for preview in turn.deliveries.filter(state=DeliveryState.STREAMING).select_related("room", "account"):
        if preview.room is not None:
            told = f"{turn.partial.strip()}{STOPPED_MARK}".strip()
            row = outbox.notice(
                turn.conversation, preview.room, told, about=turn.message, turn=turn, account=preview.account
            )
            transaction.on_commit(partial(wake_deliveries, [row.pk]))


def _wake_next(lane: str) -> None:
    wake_turns(Turn.objects.filter(lane=lane, state=TurnState.QUEUED).order_by("id").values_list("pk", flat=True)[:1])


def turn_retry(*, turn: Turn, actor: str) -> Turn:
    """Have a failed turn answered after all. Raises ``WrongState`` for one that has not failed."""
    with transaction.atomic():
        updated = Turn.objects.filter(pk=turn.pk, state__in=FAILED_STATES).update(
            state=TurnState.QUEUED,
            attempts=0,
            waits=0,
            not_before=timezone.now(),
            finished_at=None,
            stop_requested_by="",
            error_code="",
            error_public="",
            error_reason="",
        )
        turn.refresh_from_db()
        if not updated:
            raise WrongState(
                f"Turn {turn.pk} is {turn.get_state_display().lower()}; only a failed one can be tried again."
            )
        record(actor=actor, action="turn.retried", target=turn)
        live.turn_changed(turn)
        transaction.on_commit(lambda: wake_turns([turn.pk]))
    return turn


def turn_discard(*, turn: Turn, actor: str) -> Turn:
    """Let a failed turn be: it leaves the dead letters and is not answered. Raises ``WrongState``."""
    with transaction.atomic():
        updated = Turn.objects.filter(pk=turn.pk, state__in=FAILED_STATES).update(
            state=TurnState.CANCELLED, finish_reason="discarded", stop_requested_by=actor[:255]
        )
        turn.refresh_from_db()
        if not updated:
            raise WrongState(
                f"Turn {turn.pk} is {turn.get_state_display().lower()}; only a failed one can be discarded."
            )
        record(actor=actor, action="turn.discarded", target=turn)
        live.turn_changed(turn)
    return turn
