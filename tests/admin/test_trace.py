"""The way of a message, for each way it can go."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from chat.models import Delivery, DeliveryState, Message, MessageState, Participant, Role, Turn, TurnState
from chat.queries import Hop, trace, traces
from tests.admin.conftest import World, make_turn


def hops_of(turn: Turn) -> dict[str, Hop]:
    return {hop.name: hop for hop in trace(Message.objects.get(pk=turn.message_id))}


def who(world: World) -> Participant:
    return Participant.objects.get(conversation=world.conversation, name="Bob")


def test_answered_and_delivered(world: World) -> None:
    begin = timezone.now() - timedelta(minutes=1)
    turn = make_turn(
        world.agent, world.conversation, who(world), 20, TurnState.DONE, started_at=begin + timedelta(seconds=1),
        first_token_at=begin + timedelta(seconds=2), finished_at=begin + timedelta(seconds=4),
    )  # fmt: skip
    Message.objects.filter(pk=turn.message_id).update(received_at=begin, stored_at=begin)
    Delivery.objects.create(
        turn=turn, target="matrix", room=world.mapping.room, lane="x", not_before=begin, created_at=begin,
        state=DeliveryState.SENT, sent_at=begin + timedelta(seconds=5),
    )  # fmt: skip
    found = trace(Message.objects.get(pk=turn.message_id))
    assert [hop.name for hop in found] == ["received", "stored", "started", "first_token", "finished", "delivered"]
    assert {hop.lamp for hop in found} == {"good"}
    assert [hop.after_ms for hop in found] == [None, 0, 1000, 1000, 2000, 1000]


@pytest.mark.parametrize(
    ("state", "label"),
    [(TurnState.FAILED, "Failed"), (TurnState.TIMED_OUT, "Timed out"), (TurnState.DEAD, "Dead letter")],
)
def test_a_failure_stops_in_red_with_its_reason(world: World, state: str, label: str) -> None:
    now = timezone.now()
    turn = make_turn(
        world.agent,
        world.conversation,
        who(world),
        21,
        state,
        started_at=now,
        finished_at=now,
        error_reason="500 from it",
    )
    hop = hops_of(turn)["finished"]
    assert (hop.lamp, hop.label, hop.note) == ("trouble", label, "500 from it")


def test_stopped_is_no_trouble(world: World) -> None:
    now = timezone.now()
    turn = make_turn(world.agent, world.conversation, who(world), 22, TurnState.CANCELLED, finished_at=now)
    assert hops_of(turn)["finished"].lamp == "off"


def test_waiting_says_for_what(world: World) -> None:
    assert hops_of(world.queued)["started"].note == "Waiting for a worker."
    running = make_turn(world.agent, world.conversation, who(world), 23, TurnState.RUNNING, started_at=timezone.now())
    Turn.objects.filter(pk=world.queued.pk).update(lane=running.lane)
    assert "busy" in hops_of(world.queued)["started"].note
    assert hops_of(running)["finished"].lamp == "working"
    world.agent.paused = True
    world.agent.save()
    assert hops_of(world.queued)["started"].note == "The agent is paused."


def test_a_retry_shows_the_last_failure(world: World) -> None:
    Turn.objects.filter(pk=world.queued.pk).update(attempts=2, error_code="backend.unavailable", error_reason="refused")
    hop = hops_of(world.queued)["started"]
    assert hop.lamp == "trouble"
    assert "Tried 2 times" in hop.note
    assert "refused" in hop.note


@pytest.mark.parametrize(("state", "guard", "lamp", "word"), [
    (MessageState.HELD, "quiet", "trouble", "quiet"),
    (MessageState.HELD, "own_guard", "trouble", "own_guard"),
    (MessageState.REDACTED, "", "off", "took it back"),
    (MessageState.STORED, "", "off", "Nobody was to answer"),
])  # fmt: skip
def test_not_answered(world: World, state: str, guard: str, lamp: str, word: str) -> None:
    now = timezone.now()
    message = Message.objects.create(
        conversation=world.conversation, seq=30, sender=who(world), role=Role.USER, state=state, guard=guard, text="x",
        transport="matrix", received_at=now, stored_at=now,
    )  # fmt: skip
    hop = trace(message)[-1]
    assert (hop.label, hop.lamp) == ("Not answered", lamp)
    assert word in hop.note


def test_a_dead_delivery_is_the_red_hop(world: World) -> None:
    assert world.dead.turn is not None
    hop = hops_of(world.dead.turn)["delivered"]
    assert (hop.lamp, hop.at, hop.note) == ("trouble", None, "not in the room")
    assert hop.label == "Not delivered to Agent 000"


def test_many_messages_cost_as_much_as_one(world: World) -> None:
    def cost(messages: list[Any]) -> int:
        with CaptureQueriesContext(connection) as asked:
            assert len(traces(messages)) == len(messages)
        return len(asked)

    for seq in range(40, 80):
        make_turn(world.agent, world.conversation, who(world), seq, TurnState.QUEUED)
    everything = list(Message.objects.filter(role=Role.USER))
    assert cost(everything) == cost(everything[:2]) <= 3
