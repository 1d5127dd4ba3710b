"""A canary for an agent: a small question in its own room, and a look at whether the right one answered, as itself, and how fast.

It goes the way of every other message. Its dead letters are its own and are discarded by it.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.utils import timezone

from agents.doctor.mappings.relink import wrong_addresses
from agents.matrix.errors import MatrixError
from agents.models import Agent, Mapping
from agents.services.backends import homeserver_of
from chat.models import Delivery, DeliveryState, Turn, TurnState
from chat.services.deliveries import delivery_discard
from chat.services.messages import CannotSend, message_send
from chat.services.turns import FAILED_STATES, WrongState, turn_cancel, turn_discard
from ops.services.audit import record
from ops.words import counted

WAIT_SECONDS = 60.0
LOOK_EVERY = 0.25
QUESTION = "Self-test {word}: are you there? One word is enough."
SENDER, SENDER_NAME = "switchboard-selftest", "Self-test"


@dataclass(slots=True)
class Canary:
    """One agent's result. ``stage`` is where it ended: ``rows``, ``sent``, ``answered``, ``delivered`` or ``seen`` (all went well);
    ``latency_ms`` is from the question to the answer in the room (or in the row, for an agent without a room)."""

    agent: int
    name: str
    ok: bool = False
    stage: str = "rows"
    problem: str = ""
    latency_ms: int | None = None
    answered_by: str = ""
    message: int | None = None
    turn: int | None = field(default=None, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """JSON shape: ``{agent, name, ok, stage, problem, latency_ms, answered_by, message}``."""
        return {
            "agent": self.agent,
            "name": self.name,
            "ok": self.ok,
            "stage": self.stage,
            "problem": self.problem,
            "latency_ms": self.latency_ms,
            "answered_by": self.answered_by,
            "message": self.message,
        }


def selftest_run(
    *,
    agents: Sequence[Agent],
    actor: str,
    wait_seconds: float = WAIT_SECONDS,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[Canary]:
    """Ask these agents at the same time, and wait for all of them. Never raises for an agent: its result says what happened."""
    canaries = [_ask(agent, actor) for agent in agents]
    deadline = time.monotonic() + wait_seconds
    while True:
        waiting = [one for one in canaries if not one.ok and not one.problem]
        for one in waiting:
            _look(one)
        left = [one for one in waiting if not one.ok and not one.problem]
        if progress is not None:
            progress(len(canaries) - len(left), len(canaries), "")
        if not left:
            break
        if time.monotonic() >= deadline:
            for one in left:
                _give_up(one, wait_seconds, actor)
            break
        time.sleep(LOOK_EVERY)
    for one in canaries:
        _tidy(one, actor)
    record(
        actor=actor,
        action="selftest.routing",
        message=f"{sum(one.ok for one in canaries)} of {counted(len(canaries), 'agent')} answered as they should.",
        after={"agents": [one.to_dict() for one in canaries[:50]]},
    )
    return canaries


def _ask(agent: Agent, actor: str) -> Canary:
    one = Canary(agent.pk, agent.name)
    mapping = Mapping.objects.select_related("account", "room").filter(agent=agent).first()
    if agent.paused:
        one.problem = "It is paused."
    elif mapping is not None and wrong_addresses().filter(pk=mapping.pk).exists():
        alias = mapping.room.alias if mapping.room is not None else ""
        one.problem = f"Its mapping names the room {alias}, which is another agent's: nothing was sent there."
    if one.problem:
        return one
    try:
        sent = message_send(
            agent=agent,
            text=QUESTION.format(word=secrets.token_hex(3)),
            speaker_id=SENDER,
            speaker_name=SENDER_NAME,
        )
    except CannotSend as error:
        one.problem = error.sentence
        return one
    one.stage, one.message, one.turn = "sent", sent.message.pk, sent.turn.pk if sent.turn is not None else None
    if sent.turn is None:
        one.problem = "The question was held back."
    elif sent.turn.agent_id != agent.pk:
        one.problem = f"The question was given to {sent.turn.agent} instead."
    return one


def _look(one: Canary) -> None:
    turn = Turn.objects.select_related("agent", "message").get(pk=one.turn or 0)
    if turn.state in FAILED_STATES:
        one.problem = f"Its server did not answer: {turn.error_reason}"
        return
    if turn.state == TurnState.CANCELLED:
        one.problem = "The answer was stopped."
        return
    if turn.state != TurnState.DONE:
        return
    one.stage, one.answered_by = "answered", turn.agent.name
    mapping = Mapping.objects.select_related("account__homeserver", "room").filter(agent_id=one.agent).first()
    if mapping is None or mapping.room is None or not mapping.room.room_id or turn.reply_id is None:
        end = turn.finished_at or timezone.now()
        one.ok, one.latency_ms = turn.reply_id is not None, _milliseconds(end - turn.message.received_at)
        one.problem = "" if one.ok else "It answered nothing."
        return
    delivery = Delivery.objects.filter(turn=turn, room=mapping.room, speak_as="agent").order_by("-pk").first()
    if delivery is None or delivery.state in (DeliveryState.QUEUED, DeliveryState.RUNNING, DeliveryState.STREAMING):
        return
    if delivery.state != DeliveryState.SENT or delivery.sent_at is None:
        one.problem = f"The answer could not be delivered: {delivery.error_reason or delivery.get_state_display()}"
        return
    one.stage, one.latency_ms = "delivered", _milliseconds(delivery.sent_at - turn.message.received_at)
    _look_in_the_room(one, mapping, delivery)


def _look_in_the_room(one: Canary, mapping: Mapping, delivery: Delivery) -> None:
    """The homeserver says who spoke: that is what people see."""
    event_id = next((str(shown.get("event_id")) for shown in delivery.shown or [] if shown.get("event_id")), "")
    assert mapping.room is not None
    try:
        event = homeserver_of(mapping.account.homeserver).client.get_event(
            str(mapping.room.room_id), event_id, mapping.account.user_id
        )
    except MatrixError as error:
        one.problem = error.sentence
        return
    sender = str((event or {}).get("sender") or "")
    if sender != mapping.account.user_id:
        one.problem = f"The answer in the room is from {sender or 'nobody'} instead of {mapping.account.user_id}."
        return
    one.ok, one.stage, one.answered_by = True, "seen", sender


def _milliseconds(span: timedelta) -> int:
    return max(0, round(span.total_seconds() * 1000))


def _give_up(one: Canary, seconds: float, actor: str) -> None:
    words = {"sent": "No answer", "answered": "It answered, but nothing was delivered", "delivered": "Not seen"}
    one.problem = f"{words.get(one.stage, 'Nothing')} within {seconds:.0f} s."
    turn = Turn.objects.filter(pk=one.turn or 0).first()
    if turn is not None and turn.state in (TurnState.QUEUED, TurnState.RUNNING):
        # Nobody waits for it any more; a late answer would only puzzle the people in the room.
        turn_cancel(turn=turn, actor=actor)


def _tidy(one: Canary, actor: str) -> None:
    """What a canary left as dead letters is nobody's loss."""
    if one.turn is None or one.ok:
        return
    try:
        for turn in Turn.objects.filter(pk=one.turn, state__in=FAILED_STATES):
            turn_discard(turn=turn, actor=actor)
        for delivery in Delivery.objects.filter(turn_id=one.turn, state=DeliveryState.DEAD):
            delivery_discard(delivery=delivery, actor=actor)
    except WrongState:
        return  # an operator was faster
