"""Turns are stopped, paused and switched off."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from agents.backends.errors import BackendUnavailable
from agents.models import Agent, Room
from agents.services.agents import agent_pause, agent_resume
from chat.models import Delivery, Message, Turn
from chat.services.turns import turn_cancel, turn_retry
from chat.turns import claim, run, sweep
from ops.models import AuditEvent, Service
from tests.chat.turns.helpers import KEEPS, again, ask, state
from tests.support.scripted_backend import Gate
from tests.support.stage import Stage

pytestmark = pytest.mark.django_db


def test_a_waiting_turn_ends_at_once(stage: Stage) -> None:
    first = ask(stage, "One")
    second = again(first, "Two")
    turn_cancel(turn=first, actor="alice")
    assert state(first) == "cancelled"
    stage.run_turns()
    assert [request.text for request in stage.world.requests] == ["Two"]
    assert state(second) == "done"
    turn_cancel(turn=second, actor="alice")
    assert state(second) == "done", "what is over stays as it is"
    assert AuditEvent.objects.filter(action="turn.stopped").count() == 1


def test_a_waiting_turn_that_has_shown_a_part_tells_the_room_that_no_more_comes(stage: Stage) -> None:
    """An earlier attempt broke off after people had seen its beginning; then somebody stops the next one."""
    agent = stage.agent()
    room_id = stage.enters(agent)
    stage.says(agent, "Tell me all")
    turn = Turn.objects.get()
    now = timezone.now()
    room = Room.objects.get(room_id=room_id)
    shown = stage.fake.person_says(room_id, agent.mapping.account.user_id, "It beg")
    Delivery.objects.create(
        turn=turn, target="matrix", room=room, account=agent.mapping.account, lane=f"room:{room.pk}", state="streaming",
        shown=[{"txn": "sb.1.first", "event_id": shown["event_id"], "digest": "x"}], not_before=now, created_at=now,
    )  # fmt: skip
    Turn.objects.filter(pk=turn.pk).update(partial="It beg")
    turn.refresh_from_db()
    turn_cancel(turn=turn, actor="alice")
    stage.run_deliveries()
    assert state(turn) == "cancelled"
    assert Delivery.objects.get(turn=turn).state == "sent"
    assert stage.fake.shown(room_id)[-1] == "It beg\n\n*(stopped)*"


def test_a_running_turn_is_stopped_and_what_was_said_is_kept_with_a_mark(stage: Stage) -> None:
    agent = stage.agent()
    room_id = stage.enters(agent)
    stage.says(agent, "Tell me all")
    turn = Turn.objects.get()
    gate = Gate()
    stage.world.script("It began", lambda _: turn_cancel(turn=turn, actor="alice"), gate, " never said")
    stage.drain()
    assert state(turn) == "cancelled"
    assert stage.world.stopped == 1, "the backend was told"
    assert stage.fake.shown(room_id)[-1] == "It began\n\n*(stopped)*"
    assert turn.stop_requested_by == "alice"


def test_a_turn_stopped_before_its_first_word_says_nothing(stage: Stage) -> None:
    turn = ask(stage)
    stage.world.script(lambda _: turn_cancel(turn=turn, actor="alice"), Gate(), "never said")
    stage.run_turns()
    assert state(turn) == "cancelled"
    assert Message.objects.count() == 1


def test_an_error_after_a_stop_is_a_stop(stage: Stage) -> None:
    turn = ask(stage)

    def stop(request: Any) -> None:
        turn_cancel(turn=turn, actor="alice")

    from chat.turns import stream

    class Impatient(stream.Collector):
        def should_stop(self) -> bool:
            self._stop_checked_at = 0.0
            super().should_stop()
            return False

    patch = pytest.MonkeyPatch()
    patch.setattr(run, "Collector", Impatient)
    stage.world.script("So far", stop, BackendUnavailable("the connection broke"))
    stage.run_turns()
    patch.undo()
    assert state(turn) == "cancelled"
    assert Message.objects.get(role="assistant").text.startswith("So far")
    assert len(stage.world.requests) == 1


def test_a_stop_outlives_the_worker(stage: Stage) -> None:
    """Its worker died after somebody had asked it to stop: the next one does not ask the agent again, and stops the run."""
    turn = ask(stage, kind=KEEPS)
    loaded = claim.load(turn.pk)
    assert loaded is not None
    claim.claim_turn(loaded)
    Turn.objects.filter(pk=turn.pk).update(upstream_ref="run-3")
    turn_cancel(turn=turn, actor="alice")
    Turn.objects.filter(pk=turn.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
    sweep.sweep()
    stage.run_turns()
    assert state(turn) == "cancelled"
    assert stage.world.requests == []
    assert stage.world.cancelled == [("id-ada", "run-3", "")]


def test_a_paused_agents_messages_wait(stage: Stage) -> None:
    turn = ask(stage)
    agent_pause(agent=turn.agent, actor="op")
    run.run_turn(turn.pk)
    stage.run_turns()
    assert (state(turn), stage.world.requests) == ("queued", [])
    agent_resume(agent=turn.agent, actor="op")
    Turn.objects.update(not_before=timezone.now() - timedelta(minutes=1))
    stage.woken_turns.clear()
    sweep.sweep()
    assert stage.woken_turns == [turn.pk]
    stage.run_turns()
    assert state(turn) == "done"


def test_an_archived_agent_says_that_it_is_gone(stage: Stage) -> None:
    turn = ask(stage)
    Agent.objects.update(state="archived")
    stage.run_turns()
    assert (state(turn), stage.world.requests) == ("failed", [])
    assert "no longer exists" in turn.error_public


def test_a_switched_off_service_says_so_and_is_asked_again_later(stage: Stage) -> None:
    turn = ask(stage)
    Service.objects.filter(kind="scripted").update(enabled=False)
    stage.run_turns()
    assert (state(turn), stage.world.requests) == ("failed", [])
    assert "switched off" in turn.error_public
    Service.objects.filter(kind="scripted").update(enabled=True)
    turn_retry(turn=turn, actor="op")
    stage.run_turns()
    assert state(turn) == "done"
