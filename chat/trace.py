"""The way of a message: which hop it reached when, and where it stopped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from chat.models import Delivery, DeliveryState, Message, MessageState, Turn, TurnState
from ops.words import counted

WORKING, GOOD, TROUBLE, OFF = "working", "good", "trouble", "off"


@dataclass(frozen=True, slots=True)
class Hop:
    """One hop. ``at`` is empty while it was not reached; ``lamp`` is good, working, trouble or off; ``note`` says what happened."""

    name: str
    label: str
    at: datetime | None
    lamp: str
    note: str = ""
    after_ms: float | None = None


def trace(message: Message) -> list[Hop]:
    """The hops of what a person said: said, received, stored, started, first token, finished, delivered. Reads rows only."""
    return traces([message])[message.pk]


def traces(messages: Sequence[Message]) -> dict[int, list[Hop]]:
    """The hops of many messages by their id, in three queries however many they are."""
    ids = [message.pk for message in messages]
    turns: dict[int, Turn] = {}
    for turn in Turn.objects.filter(message_id__in=ids).select_related("agent").order_by("pk"):
        turns.setdefault(turn.message_id, turn)
    deliveries: dict[int, list[Delivery]] = {}
    waiting = [turn.lane for turn in turns.values() if turn.state == TurnState.QUEUED]
    busy = (
        set(Turn.objects.filter(lane__in=waiting, state=TurnState.RUNNING).values_list("lane", flat=True))
        if waiting
        else set()
    )
    if turns:
        of_turns = Delivery.objects.filter(turn_id__in=[turn.pk for turn in turns.values()])
        for delivery in of_turns.select_related("room").order_by("pk"):
            deliveries.setdefault(delivery.turn_id or 0, []).append(delivery)
    return {message.pk: _hops(message, turns.get(message.pk), deliveries, busy) for message in messages}


def _hops(message: Message, turn: Turn | None, deliveries: dict[int, list[Delivery]], busy: set[str]) -> list[Hop]:
    hops = [
        _hop("said", "Said", message.said_at),
        _hop("received", "Received", message.received_at),
        _hop("stored", "Stored", message.stored_at),
    ]
    if turn is None:
        hops.append(_unanswered(message))
        return _with_times([hop for hop in hops if hop.at or hop.lamp != OFF or hop.note])
    hops += _turn_hops(turn, turn.lane in busy)
    hops += _delivery_hops(deliveries.get(turn.pk, []))
    return _with_times([hop for hop in hops if hop.name != "said" or hop.at])


def _hop(name: str, label: str, at: datetime | None, note: str = "") -> Hop:
    return Hop(name, label, at, GOOD if at else OFF, note)


_GUARDS = {
    "quiet": "The room is quiet: only messages that mention the agent are answered.",
    "hop_limit": "Agents have answered each other often enough; a person has to speak.",
    "reply_limit": "Agents spoke too often within a minute.",
    "fan_out": "The sender said the same to many agents within a minute.",
    "quota.messages": "Today's messages are used up (see Quotas); it can be answered again tomorrow.",
    "quota.tokens": "Today's tokens are used up (see Quotas); it can be answered again tomorrow.",
    "command": "It answered a tool call that waited for approval.",
    "too_long": "The message is longer than an agent may be given.",
    "no_agent": "No agent answers in this conversation.",
    "restored": "It was said before a backup was restored. What is old is kept as history, and not answered (again).",
}


def _unanswered(message: Message) -> Hop:
    if message.state == MessageState.REDACTED:
        return Hop("started", "Not answered", None, OFF, "Its sender took it back.")
    if message.guard:
        return Hop("started", "Not answered", None, TROUBLE, _GUARDS.get(message.guard, f"Held back: {message.guard}."))
    return Hop("started", "Not answered", None, OFF, "Nobody was to answer it.")


def _turn_hops(turn: Turn, busy: bool) -> list[Hop]:
    failed = turn.state in {TurnState.FAILED, TurnState.TIMED_OUT, TurnState.DEAD}
    started = Hop(
        "started", "Started", turn.started_at, GOOD if turn.started_at else WORKING, _waiting_note(turn, busy)
    )
    first = _hop("first_token", "First token", turn.first_token_at)
    if turn.state == TurnState.RUNNING:
        answering = Hop("finished", "Finished", None, WORKING, "The agent is answering.")
        return [started, first, answering] if first.at else [started, answering]
    if turn.state == TurnState.WAITING_APPROVAL:
        return [started, first, Hop("finished", "Finished", None, WORKING, "The agent waits for somebody's approval.")]
    if turn.state == TurnState.QUEUED:
        lamp = TROUBLE if turn.error_code and turn.attempts else WORKING
        return [Hop("started", "Started", turn.started_at, lamp, _waiting_note(turn, busy))]
    note = turn.error_reason if failed else (turn.finish_reason if turn.state == TurnState.CANCELLED else "")
    label = "Finished" if turn.state == TurnState.DONE else turn.get_state_display()
    lamp = TROUBLE if failed else (GOOD if turn.state == TurnState.DONE else OFF)
    finished = Hop("finished", label, turn.finished_at, lamp, note)
    return [started, first, finished]


def _waiting_note(turn: Turn, busy: bool) -> str:
    if turn.state != TurnState.QUEUED:
        return f"Attempt {turn.attempts}." if turn.attempts > 1 else ""
    if turn.agent.paused:
        return "The agent is paused."
    if turn.error_code:
        return (
            f"Tried {counted(turn.attempts, 'time')}; next at {turn.not_before:%H:%M:%S} UTC. Last: {turn.error_reason}"
        )
    return "The agent is busy with an earlier message." if busy else "Waiting for a worker."


def _delivery_hops(deliveries: Sequence[Delivery]) -> list[Hop]:
    hops = []
    for delivery in deliveries:
        if delivery.state == DeliveryState.STREAMING:
            continue
        lamp = {DeliveryState.SENT: GOOD, DeliveryState.DEAD: TROUBLE, DeliveryState.DISCARDED: OFF}.get(
            DeliveryState(delivery.state), TROUBLE if delivery.error_code else WORKING
        )
        hops.append(
            Hop(
                "delivered",
                _delivery_label(delivery, lamp),
                delivery.sent_at,
                lamp,
                delivery.error_reason,
            )
        )
    return hops


def _delivery_label(delivery: Delivery, lamp: str) -> str:
    place = delivery.room or delivery.target
    return (
        f"Delivered to {place}" if lamp == GOOD else f"{'Sending' if lamp == WORKING else 'Not delivered'} to {place}"
    )


def _with_times(hops: list[Hop]) -> list[Hop]:
    timed: list[Hop] = []
    before: datetime | None = None
    for hop in hops:
        after = (hop.at - before).total_seconds() * 1000 if hop.at and before else None
        timed.append(Hop(hop.name, hop.label, hop.at, hop.lamp, hop.note, after))
        before = hop.at or before
    return timed
