"""Turns step back, are tried again, and are given up with one honest sentence; what dead workers held is swept."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connections
from django.utils import timezone

from agents.backends.chunks import Finished, RunStarted
from agents.backends.errors import (
    AgentGone,
    BackendBroken,
    BackendBusy,
    BackendRateLimited,
    BackendRejected,
    BackendTimeout,
    BackendUnavailable,
)
from chat.models import Message, Participant, Turn
from chat.services.turns import WrongState, turn_discard, turn_retry
from chat.turns import claim, run, sweep
from ops import leases
from ops.models import AuditEvent
from tests.chat.turns.helpers import KEEPS, again, ask, state
from tests.support.stage import Stage

pytestmark = pytest.mark.django_db


def test_busy_uses_no_attempt(stage: Stage) -> None:
    turn = ask(stage)
    for _ in range(10):
        stage.world.script(BackendBusy("run run-9 is under way"))
        stage.run_turns()
        stage.hurry()
    turn.refresh_from_db()
    assert (turn.state, turn.attempts, turn.waits, turn.error_code) == ("queued", 0, 10, "backend.busy")
    stage.run_turns()
    assert state(turn) == "done"
    assert {request.attempt for request in stage.world.requests} == {1}
    assert turn.error_code == ""


def test_the_pause_grows_and_is_bounded(stage: Stage) -> None:
    ask(stage)
    for _ in range(9):
        stage.world.script(BackendBusy("busy"))
        stage.run_turns()
        stage.hurry()
    pauses = [seconds for _, _, seconds in stage.timers]
    assert pauses[0] < 2
    assert all(4 * 0.99 <= pauses[2] <= 4.81 for _ in (1,))
    assert max(pauses) <= 60 * 1.21


@pytest.mark.parametrize(
    ("said", "least", "most"), [(7.5, 7.5, 9.1), (0.0, 0.2, 0.3), (99_999, 3600, 4321), (-5, 0.2, 0.3)]
)
def test_retry_after_is_honoured(stage: Stage, said: float, least: float, most: float) -> None:
    turn = ask(stage)
    stage.world.script(BackendRateLimited("429", retry_after=said))
    before = timezone.now()
    stage.run_turns()
    turn.refresh_from_db()
    waits = (turn.not_before - before).total_seconds()
    assert least <= waits <= most + 5
    assert turn.attempts == 1
    assert stage.timers[-1][0] == "wake_turns"


FAILURES = [
    (BackendUnavailable("502 from there"), "dead", "cannot be reached"),
    (BackendTimeout("180 s"), "timed_out", "took too long"),
    (BackendBroken("garbage"), "dead", "broke off"),
    (BackendRateLimited("429"), "dead", "limits how often"),
    (BackendRejected("400 bad input"), "failed", "refused the message"),
    (AgentGone("404"), "failed", "no longer exists"),
    (ValueError("a bug of ours"), "dead", "fault of its own"),
]


@pytest.mark.parametrize(("error", "ends", "words"), FAILURES, ids=[type(one[0]).__name__ for one in FAILURES])
def test_a_failure_ends_with_one_honest_sentence(
    stage: Stage, settings: Any, error: Exception, ends: str, words: str
) -> None:
    settings.TURN_ATTEMPTS = 3
    agent = stage.agent()
    room_id = stage.enters(agent)
    stage.world.default = (error,)
    stage.says(agent, "Hello")
    for _ in range(5):
        stage.drain()
        stage.hurry()
    turn = Turn.objects.get()
    assert (turn.state, turn.attempts) == (ends, 1 if ends == "failed" else 3)
    shown = stage.fake.shown(room_id)
    assert len(shown) == 2
    assert words in shown[1]
    assert str(error) not in shown[1], "the reason is the operator's"
    assert str(error) in turn.error_reason
    assert turn.error_public == shown[1]
    assert turn.finished_at is not None
    notice = stage.fake.messages_of(room_id)[-1]
    assert notice["content"]["msgtype"] == "m.notice"
    assert notice["sender"] == agent.mapping.account.user_id


def test_without_a_room_the_sentence_is_kept_as_a_notice(stage: Stage) -> None:
    turn = ask(stage)
    stage.world.script(BackendRejected("400"))
    stage.run_turns()
    assert state(turn) == "failed"
    assert Message.objects.get(role="notice").text == turn.error_public


@pytest.mark.parametrize(
    "script", [("Half an", ...), ("",), (" \n ",), (), (Finished("max_steps"),), (...,)], ids=range(6)
)
def test_half_a_stream_and_an_empty_reply_are_tried_again(stage: Stage, script: tuple[Any, ...]) -> None:
    turn = ask(stage)
    stage.world.script(*script)
    stage.run_turns()
    assert state(turn) == "queued"
    assert (turn.error_code, turn.attempts) == ("backend.broken_reply", 1)
    assert Message.objects.filter(role="assistant").count() == 0
    stage.hurry()
    stage.run_turns()
    assert Message.objects.get(role="assistant").text == "You said: Hello"
    assert turn.message.turns.count() == 1


def test_the_idempotency_id_and_the_run_survive_attempts(stage: Stage) -> None:
    turn, other = ask(stage, "One", kind=KEEPS), ask(stage, "Two")
    stage.world.script(RunStarted("run-7"), "Ha", BackendUnavailable("gone"))
    stage.run_turns()
    stage.hurry()
    stage.run_turns()
    requests = [request for request in stage.world.requests if request.text == "One"]
    assert len({request.idempotency_id for request in requests}) == 1
    assert [request.attempt for request in requests] == [1, 2]
    assert [request.resume_ref for request in requests] == ["", "run-7"]
    assert stage.world.requests[-1].idempotency_id != "" != str(other.pk)
    assert len({request.idempotency_id for request in stage.world.requests}) == 2
    assert state(turn) == "done"


def test_what_dead_workers_held_is_freed(stage: Stage) -> None:
    dead, expired, alive = ask(stage, "One"), ask(stage, "Two"), ask(stage, "Three")
    for turn in (dead, expired, alive):
        loaded = claim.load(turn.pk)
        assert loaded is not None
        assert claim.claim_turn(loaded)
    host, pid, start = leases.WORKER.rsplit(":", 2)
    Turn.objects.filter(pk=dead.pk).update(worker=f"{host}:{pid}:{int(start) - 1}")
    Turn.objects.filter(pk=expired.pk).update(worker="elsewhere:1:1", lease_until=timezone.now() - timedelta(seconds=1))
    stage.woken_turns.clear()
    assert sweep.sweep()["freed_turns"] == 2
    assert [state(turn) for turn in (dead, expired, alive)] == ["queued", "queued", "running"]
    assert set(stage.woken_turns) == {dead.pk, expired.pk}
    assert sweep.sweep()["freed_turns"] == 0
    stage.run_turns()
    assert [state(turn) for turn in (dead, expired, alive)] == ["done", "done", "running"]


def test_the_sweep_finds_what_nobody_was_woken_for(stage: Stage) -> None:
    turn = ask(stage)
    behind = again(turn, "Two")
    Turn.objects.update(not_before=timezone.now() - timedelta(seconds=5))
    stage.woken_turns.clear()
    assert sweep.sweep()["turns"] == 1
    assert stage.woken_turns == [turn.pk]
    assert state(behind) == "queued"


def test_a_turn_that_kills_workers_is_given_up_with_a_sentence(stage: Stage, settings: Any) -> None:
    turn = ask(stage)
    for _ in range(settings.TURN_ATTEMPTS + run.LOST_CLAIMS):
        loaded = claim.load(turn.pk)
        assert loaded is not None
        assert claim.claim_turn(loaded)
        Turn.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
        sweep.sweep()
    assert state(turn) == "queued"
    stage.run_turns()
    assert (state(turn), turn.error_code) == ("dead", "worker.lost")
    assert stage.world.requests == []
    assert Message.objects.filter(role="notice").count() == 1


def test_an_operator_has_a_failed_turn_answered_after_all(stage: Stage) -> None:
    turn = ask(stage)
    stage.world.script(BackendRejected("400"))
    stage.run_turns()
    assert state(turn) == "failed"
    turn_retry(turn=turn, actor="op")
    assert (turn.state, turn.attempts, turn.error_public) == ("queued", 0, "")
    stage.run_turns()
    assert state(turn) == "done"
    with pytest.raises(WrongState, match="answered"):
        turn_retry(turn=turn, actor="op")
    assert list(AuditEvent.objects.filter(action="turn.retried").values_list("actor", flat=True)) == ["op"]


def test_an_operator_lets_a_failed_turn_be(stage: Stage) -> None:
    turn = ask(stage)
    with pytest.raises(WrongState):
        turn_discard(turn=turn, actor="op")
    stage.world.script(BackendRejected("400"))
    stage.run_turns()
    turn_discard(turn=turn, actor="op")
    assert (state(turn), turn.finish_reason) == ("cancelled", "discarded")
    stage.run_turns()
    assert len(stage.world.requests) == 1


def test_participants_are_made_once(stage: Stage) -> None:
    turn = ask(stage)
    again(turn, "Two")
    stage.run_turns()
    assert Participant.objects.filter(conversation=turn.conversation).count() == 3
    connections["default"].check_constraints()
