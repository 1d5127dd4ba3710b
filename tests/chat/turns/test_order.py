"""Turns are claimed once, run in order, and fenced against workers that were thought dead."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from agents.backends.chunks import Finished, RunStarted
from agents.backends.errors import BackendBusy, BackendRejected
from chat.models import Delivery, Message, Turn
from chat.turns import claim, run, sweep
from chat.turns.slots import Slots
from tests.chat.turns.helpers import KEEPS, again, ask, state
from tests.support.stage import Stage, in_threads

pytestmark = pytest.mark.django_db


def test_a_conversation_is_answered_in_order(stage: Stage) -> None:
    first = ask(stage, "One")
    second, third = again(first, "Two"), again(first, "Three")
    run.run_turn(third.pk)
    run.run_turn(second.pk)
    assert stage.world.requests == [], "nobody overtakes"
    run.run_turn(first.pk)
    assert [request.text for request in stage.world.requests] == ["One", "Two", "Three"]
    assert [state(turn) for turn in (first, second, third)] == ["done"] * 3


def test_a_turn_that_waits_holds_its_place(stage: Stage) -> None:
    first = ask(stage, "One")
    second = again(first, "Two")
    stage.world.script(BackendBusy("busy", retry_after=60))
    stage.run_turns()
    assert (state(first), state(second)) == ("queued", "queued")
    stage.hurry()
    stage.run_turns()
    assert [request.text for request in stage.world.requests] == ["One", "One", "Two"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("kind", "most"), [("scripted", 3), (KEEPS, 1)])
def test_how_many_conversations_an_agent_serves_at_once(stage: Stage, kind: str, most: int) -> None:
    turns = [ask(stage, f"Q{number}", kind=kind) for number in range(3)]
    barrier = threading.Barrier(most)
    stage.world.default = lambda request: (lambda _: barrier.wait(60), "A")
    assert [result for result in in_threads(3, lambda number: run.run_turn(turns[number].pk)) if result] == []
    stage.run_turns()
    assert [state(turn) for turn in turns] == ["done"] * 3
    assert stage.world.most_at_once == most


@pytest.mark.django_db(transaction=True)
def test_of_eight_workers_one_wins(stage: Stage) -> None:
    for number in range(5):
        turn = ask(stage, f"Q{number}")
        loaded = [claim.load(turn.pk) for _ in range(8)]
        won = in_threads(8, lambda number, rows=loaded: claim.claim_turn(rows[number]))
        assert sorted(won) == [False] * 7 + [True]
        turn.refresh_from_db()
        assert (turn.state, turn.fence, turn.attempts) == ("running", 1, 1)


@pytest.mark.django_db(transaction=True)
def test_workers_at_once_answer_each_message_once(stage: Stage) -> None:
    first = ask(stage, "Q0", kind=KEEPS)
    turns = [first, *(again(first, f"Q{number}") for number in range(1, 6))]
    results = in_threads(8, lambda number: [run.run_turn(turn.pk) for turn in turns])
    assert not any(isinstance(result, BaseException) for result in results)
    stage.run_turns()
    assert [request.text for request in stage.world.requests] == [f"Q{number}" for number in range(6)]
    assert Message.objects.filter(role="assistant").count() == 6


def test_more_turns_than_slots_are_turned_away_and_found_again(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    slots = Slots(1)
    monkeypatch.setattr(run, "SLOTS", slots)
    first, second = ask(stage, "One"), ask(stage, "Two")

    def meanwhile(request: Any) -> None:
        run.run_turn(second.pk)
        assert state(second) == "queued"

    stage.world.script(meanwhile, "A")
    run.run_turn(first.pk)
    assert state(second) == "done", "whoever was turned away is looked for when a slot is free"
    assert slots.take()


def test_a_long_lane_is_handed_on(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "IN_ONE_GO", 2)
    first = ask(stage, "Q0")
    rest = [again(first, f"Q{number}") for number in range(1, 4)]
    stage.woken_turns.clear()
    run.run_turn(first.pk)
    assert [state(turn) for turn in (first, *rest)] == ["done", "done", "queued", "queued"]
    assert stage.woken_turns == [rest[1].pk]


def take_over(turn_id: int) -> None:
    """What the sweep and another worker do to a turn whose lease ran out."""
    Turn.objects.filter(pk=turn_id).update(lease_until=timezone.now() - timedelta(seconds=1))
    assert sweep.sweep()["freed_turns"] == 1
    other = claim.load(turn_id)
    assert other is not None
    assert claim.claim_turn(other)


def test_a_worker_that_lost_its_lease_writes_nothing(stage: Stage) -> None:
    turn = ask(stage)
    stage.world.script(RunStarted("run-1"), "Half", lambda _: take_over(turn.pk), " an answer", Finished("end"))
    run.run_turn(turn.pk)
    turn.refresh_from_db()
    assert (turn.state, turn.fence, turn.partial, turn.reply) == ("running", 2, "", None)
    assert Message.objects.filter(role="assistant").count() == 0
    assert Delivery.objects.count() == 0


def test_a_late_failure_writes_nothing_either(stage: Stage) -> None:
    turn = ask(stage)
    stage.world.script(lambda _: take_over(turn.pk), BackendRejected("no"))
    run.run_turn(turn.pk)
    assert state(turn) == "running"
    assert Message.objects.filter(role="notice").count() == 0


def test_a_lost_lease_is_noticed_while_nothing_comes(stage: Stage) -> None:
    from chat.turns import stream

    turn = ask(stage)
    loaded = claim.load(turn.pk)
    assert loaded is not None
    claim.claim_turn(loaded)
    collector = stream.Collector(loaded)
    take_over(turn.pk)
    collector._stop_checked_at = 0.0
    with pytest.raises(stream.LeaseLost):
        collector.should_stop()
