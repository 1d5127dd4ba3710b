"""How a turn ends: answered, stopped, tried again later, or failed with one honest sentence to the person."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from agents.backends.chunks import Finished, ToolCall
from agents.backends.errors import (
    BackendBroken,
    BackendBusy,
    BackendError,
    BackendNeedsApproval,
    BackendTimeout,
    ConversationGone,
)
from agents.models import Room
from chat import live
from chat.deliveries import outbox
from chat.models import Delivery, DeliveryState, Link, Message, Role, Turn, TurnState
from chat.services import tree
from chat.services.conversations import take_number
from chat.services.notices import notice_store
from chat.services.turns import STOPPED_MARK
from chat.services.usage import count_answer
from chat.turns import waiting
from chat.turns.places import place_gone
from chat.turns.speaker import speaker_of
from chat.turns.stream import Collector, LeaseLost
from chat.turns.troubles import count_error, honest, waiting_sentence
from ops.leases import fenced_update
from ops.logs import get_logger
from ops.prepared import PreparedRead
from ops.quick_sql import insert
from ops.words import counted

log = get_logger(__name__)

LONGEST_DELAY = 60.0
# How soon a message is tried again whose agent waits for approval elsewhere.
APPROVAL_DELAY = 5.0


def done(turn: Turn, collector: Collector, *, previewed: bool = True) -> list[int | Delivery]:
    """Store the answer and put it into the outbox, in one transaction. Returns the deliveries.

    ``previewed`` is false when certainly no part of the answer was shown before.
    """
    assert collector.finished is not None
    finished = collector.used()
    cancelled = finished.reason == "cancelled"
    text = collector.text.strip()
    now = timezone.now()
    deliveries: list[int | Delivery] = []
    with transaction.atomic():
        reply = None
        if text:
            reply = _store_reply(turn, text + (STOPPED_MARK if cancelled else ""), collector)
            rows = [outbox.reply(turn, reply, room, turn.agent.account, previewed=previewed) for room in rooms_of(turn)]
            # One that was made just now can be sent as it is; that of a preview is read again.
            deliveries = [row if row.created_at >= now else row.pk for row in rows]
        else:
            # Stopped before this attempt said anything: what an earlier one showed stays as it stands.
            turn.deliveries.filter(state=DeliveryState.STREAMING).update(state=DeliveryState.DISCARDED)
        _end(
            turn,
            state=TurnState.CANCELLED if cancelled else TurnState.DONE,
            reply=reply,
            finished_at=now,
            first_token_at=turn.first_token_at,
            finish_reason=finished.reason[:50],
            # What was used before it stopped for approval counts as well.
            input_tokens=_sum(turn.input_tokens if turn.approvals else None, finished.input_tokens),
            output_tokens=_sum(turn.output_tokens if turn.approvals else None, finished.output_tokens),
            partial="",
            partial_parts=[],
            error_code="",
            error_public="",
            error_reason="",
        )
        _count(turn, finished, answers=1 if reply is not None else 0)
    live.turn_changed(turn, answered=reply is not None and reply.parent_id is not None)
    return deliveries


def waits(
    turn: Turn, collector: Collector, calls: Sequence[ToolCall], *, foreign: bool = False
) -> list[int | Delivery]:
    """The answer stops until somebody allows or refuses these calls: the lease is given back, its place in line is kept."""
    finished = collector.used()
    text = collector.text
    known = waiting.asked(turn, calls, text_end=len(text), parts_end=len(collector.parts), foreign=foreign)
    deliveries: list[int | Delivery] = []
    with transaction.atomic():
        told = waiting.sentence(turn, waiting.last_round(known))
        for room in rooms_of(turn):
            row = outbox.notice(turn.conversation, room, told, about=turn.message, account=turn.agent.account)
            deliveries.append(row.pk)
        _end(
            turn,
            state=TurnState.WAITING_APPROVAL,
            approvals=known,
            # Until then; see ``chat.services.approvals.expire``.
            not_before=waiting.deadline(),
            attempts=0,
            partial=text,
            partial_parts=collector.beside_text(),
            first_token_at=turn.first_token_at,
            input_tokens=_sum(turn.input_tokens, finished.input_tokens),
            output_tokens=_sum(turn.output_tokens, finished.output_tokens),
            error_code="",
            error_reason="",
        )
        _count(turn, finished, answers=0)
        turn.state = TurnState.WAITING_APPROVAL
        live.turn_changed(turn, answered=bool(deliveries))
    log.info("turn.waits_for_approval", calls=[call.name for call in calls])
    return deliveries


def _sum(before: int | None, more: int | None) -> int | None:
    return before if more is None else (before or 0) + more


def failed(turn: Turn, collector: Collector, error: BackendError) -> Sequence[int | Delivery]:
    """Step back, try again later, or give up. Returns the deliveries that tell the person."""
    if turn.stop_requested_by or collector.stop_requested:
        # Whatever went wrong, nobody waits for this answer any more.
        collector.finished = Finished("cancelled")
        return done(turn, collector)
    count_error(turn, error)
    if isinstance(error, BackendBusy):
        _requeue(turn, error, counts=False)
        return []
    if isinstance(error, BackendNeedsApproval):
        others = Turn.objects.filter(agent_id=turn.agent_id, state=TurnState.WAITING_APPROVAL).exclude(pk=turn.pk)
        if others.exists():
            # It waits for a word in another conversation, and will take this message afterwards.
            error.retry_after = APPROVAL_DELAY
            return _requeue(turn, error, counts=False)
        if error.calls:
            return waits(turn, collector, error.calls, foreign=True)
    if isinstance(error, ConversationGone) and turn.attempts < settings.TURN_ATTEMPTS:
        # Somebody deleted it on the server; the next attempt opens another one.
        place_gone(turn)
        _requeue(turn, error, counts=True)
        return []
    if error.retryable and turn.attempts < settings.TURN_ATTEMPTS:
        return _requeue(turn, error, counts=True)
    return _give_up(turn, collector, error)


def internal(error: Exception) -> BackendError:
    """A fault of our own, as a failed attempt: it may be tried again, and the operator sees what it was."""
    wrapped = BackendError(
        f"{type(error).__name__}: {error}"[:500], public="Switchboard had a fault of its own while the agent answered."
    )
    wrapped.code, wrapped.retryable = "turn.crashed", True
    return wrapped


def worker_lost(turn: Turn) -> BackendError:
    """Each worker that took the turn up died: it is not given to another one."""
    error = BackendBroken(
        f"Its worker was lost again and again; it was taken up {counted(turn.attempts, 'time')}.",
        public="Switchboard had a fault of its own while the agent answered.",
    )
    error.code = "worker.lost"
    return error


def switched_off(turn: Turn) -> BackendError:
    """The agent's service is disabled."""
    from agents.backends.errors import BackendRejected

    return BackendRejected(
        f"The service {turn.agent.service.name} is switched off.",
        public=f"{turn.agent.name} is switched off at the moment.",
    )


def _requeue(turn: Turn, error: BackendError, *, counts: bool) -> list[int]:
    """Try again later. Returns the deliveries that tell the person, when it is going to take long."""
    tries = turn.attempts if counts else turn.waits + 1
    delay = error.retry_after if error.retry_after is not None else min(2.0 ** min(tries - 1, 10), LONGEST_DELAY)
    # Some randomness, so that a backend that comes back is not asked by everybody at once.
    delay = max(0.2, min(delay, 3600.0)) * random.uniform(1.0, 1.2)
    fields: dict[str, Any] = {
        "state": TurnState.QUEUED,
        "not_before": timezone.now() + timedelta(seconds=delay),
        "lease_until": None,
        "error_code": error.code,
        "error_reason": error.reason[:2000],
    }
    if not counts:
        # Back-pressure is no failed attempt.
        fields |= {"attempts": max(0, turn.attempts - 1), "waits": turn.waits + 1}
    sentence = waiting_sentence(turn, error, delay)
    with transaction.atomic() if sentence else nullcontext():
        deliveries = _tell(turn, sentence) if sentence else []
        _end(turn, **fields)
        live.turn_changed(turn, answered=bool(sentence))
    log.info("turn.later", code=error.code, seconds=round(delay, 1), attempt=turn.attempts)
    from chat.wakeup import wake_turns_later

    wake_turns_later(turn.pk, delay)
    return deliveries


def _tell(turn: Turn, sentence: str) -> list[int]:
    """A sentence to everybody who waits for the answer; the turn goes on. Returns the deliveries."""
    rooms = rooms_of(turn)
    if not rooms:
        notice_store(turn.conversation_id, sentence, about=turn.message, speaker=speaker_of(turn))
    return [
        outbox.notice(turn.conversation, room, sentence, about=turn.message, account=turn.agent.account).pk
        for room in rooms
    ]


def _give_up(turn: Turn, collector: Collector, error: BackendError) -> list[int]:
    state = TurnState.FAILED
    if isinstance(error, BackendTimeout):
        state = TurnState.TIMED_OUT
    elif error.retryable:
        state = TurnState.DEAD
    sentence = f"{honest(error)} Your message is kept; it can be answered again once that is mended."
    text = collector.text.strip()
    deliveries: list[int] = []
    with transaction.atomic():
        for room in rooms_of(turn):
            # A part of the answer that people have seen already stays, with the sentence behind it.
            told = f"{text}\n\n{sentence}" if text and _has_preview(turn) else sentence
            deliveries.append(
                outbox.notice(
                    turn.conversation, room, told, about=turn.message, turn=turn, account=turn.agent.account
                ).pk
            )
        if not deliveries:
            notice_store(turn.conversation_id, sentence, about=turn.message, speaker=speaker_of(turn))
        _end(
            turn,
            state=state,
            finished_at=timezone.now(),
            first_token_at=turn.first_token_at,
            error_code=error.code,
            error_public=sentence[:500],
            error_reason=error.reason[:5000],
        )
    log.warning("turn.gave_up", code=error.code, reason=error.reason[:500], attempts=turn.attempts)
    live.turn_changed(turn, answered=True)
    return deliveries


def _end(turn: Turn, **fields: Any) -> None:
    """Every last write of a claim goes through the fence; whoever lost it rolls back all of it."""
    fields.setdefault("worker", "")
    fields.setdefault("lease_until", None)
    if not fenced_update(turn, **fields):
        raise LeaseLost
    turn.state = fields["state"]


def _store_reply(turn: Turn, text: str, collector: Collector) -> Message:
    now = timezone.now()
    parts = collector.stored_parts(len(collector.text.rstrip()))
    speaker, number = speaker_of(turn), take_number(turn.conversation_id)
    reply = Message(
        conversation_id=turn.conversation_id, seq=number.seq, sender_id=speaker.pk,
        role=Role.ASSISTANT, text=text, parts=parts, transport="turn", external_id=str(turn.pk),
        in_reply_to=turn.message, hop=turn.message.hop, received_at=now, stored_at=now,
        parent_id=turn.message_id if number.portal else None,
    )  # fmt: skip
    insert(reply)
    if number.portal:
        tree.answer_stored(reply, number)
    return reply


def _count(turn: Turn, finished: Finished, *, answers: int) -> None:
    """Note what the answer used, as the last statement of its transaction."""
    count_answer(
        person_id=turn.message.sender.person_id,
        agent_id=turn.agent_id,
        input_tokens=finished.input_tokens,
        output_tokens=finished.output_tokens,
        answers=answers,
    )


def _has_preview(turn: Turn) -> bool:
    return turn.deliveries.filter(state="streaming").exists()


def rooms_of(turn: Turn) -> list[Room]:
    """The Matrix rooms in which the conversation is shown."""
    return [link.room for link in _links.all(turn.conversation_id) if link.room is not None]


_links = PreparedRead(
    lambda conversation_id: Link.objects.filter(conversation_id=conversation_id, room__isnull=False).select_related(
        "room__homeserver"
    ),
    1,
)
