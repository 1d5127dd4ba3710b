"""Turns: claimed once, run in order, fenced, retried, given up with one honest sentence, swept when their worker is gone."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections
from django.utils import timezone

from agents.backends.base import (
    AgentGone,
    BackendBroken,
    BackendBusy,
    BackendRateLimited,
    BackendRejected,
    BackendTimeout,
    BackendUnavailable,
    ConversationGone,
    Finished,
    ReasoningDelta,
    RunStarted,
    ToolCall,
    ToolResult,
)
from agents.models import Agent
from agents.services.agents import agent_pause, agent_resume
from chat.models import Delivery, Message, Participant, Turn
from chat.services.messages import conversation_open, message_send
from chat.services.turns import WrongState, turn_cancel, turn_discard, turn_retry
from chat.turns import claim, run, sweep
from chat.turns.slots import Slots
from ops import leases
from ops.models import AuditEvent, Service
from tests.support.scripted_backend import Gate
from tests.support.stage import ALICE, BOB, Stage, in_threads

pytestmark = pytest.mark.django_db
KEEPS = "scripted_memory"


def ask(stage: Stage, text: str = "Hello", name: str = "Ada", kind: str = "scripted") -> Turn:
    """A message in a conversation of its own with an agent that has no room."""
    agent = Agent.objects.filter(name=name).first() or stage.agent(name, kind=kind, homeserver=False)
    conversation = conversation_open(agent=agent, actor="test")
    turn = message_send(
        agent=agent, text=text, conversation=conversation, speaker_name="Alice", speaker_id="alice"
    ).turn
    assert turn is not None
    return turn


def again(turn: Turn, text: str) -> Turn:
    """The next message of the same conversation."""
    sent = message_send(agent=turn.agent, text=text, conversation=turn.conversation)
    assert sent.turn is not None
    return sent.turn


def state(turn: Turn) -> str:
    turn.refresh_from_db()
    return str(turn.state)


# Order and lanes


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
    stage.world.default = lambda request: (lambda _: barrier.wait(10), "A")
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


# Fencing


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


# Failures


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


# What the backend is told


def test_a_backend_without_memory_is_sent_the_bounded_history(stage: Stage, settings: Any) -> None:
    settings.HISTORY_MESSAGES = 3
    turn = ask(stage, "One")
    stage.run_turns()
    for text in ("Two", "Three"):
        again(turn, text)
        stage.run_turns()
    notice = BackendRejected("400")
    stage.world.script(notice)
    again(turn, "Four")
    stage.run_turns()
    redacted = again(turn, "Five")
    Message.objects.filter(pk=redacted.message_id).update(state="redacted")
    last = again(turn, "Six")
    again(turn, "Seven")
    stage.run_turns()
    request = next(one for one in stage.world.requests if one.text == last.message.text)
    told = [(item.role, item.text, item.name) for item in request.history]
    assert [one[:2] for one in told] == [("user", "Three"), ("assistant", "You said: Three"), ("user", "Four")]
    assert told[1][2] == "Ada"
    settings.HISTORY_MESSAGES = 0
    again(turn, "Eight")
    stage.run_turns()
    assert list(stage.world.requests[-1].history) == []


def test_a_backend_with_memory_is_sent_the_new_message_only(stage: Stage) -> None:
    turn = ask(stage, "One", kind=KEEPS)
    again(turn, "Two")
    stage.run_turns()
    assert [list(request.history) for request in stage.world.requests] == [[], []]


def test_each_conversation_has_its_own_on_the_server(stage: Stage) -> None:
    first, second = ask(stage, "One", kind=KEEPS), ask(stage, "Two")
    again(first, "Three")
    stage.run_turns()
    refs = {request.text: request.conversation_ref for request in stage.world.requests}
    assert refs == {"One": "conv-1", "Two": "conv-2", "Three": "conv-1"}
    assert len({key for _, _, key in stage.world.conversations}) == 2
    assert second.conversation.participants.get(kind="agent").backend_ref == "conv-2"


def test_a_shared_memory_has_no_conversations(stage: Stage) -> None:
    turn = ask(stage, kind=KEEPS)
    Agent.objects.update(memory_policy="shared")
    stage.run_turns()
    assert state(turn) == "done"
    assert (stage.world.conversations, stage.world.requests[0].conversation_ref) == ([], "")


def test_a_conversation_that_the_server_lost_is_opened_again(stage: Stage) -> None:
    turn = ask(stage, kind=KEEPS)
    stage.world.script(ConversationGone("conv-1 does not exist"))
    stage.run_turns()
    stage.hurry()
    stage.run_turns()
    assert state(turn) == "done"
    assert [request.conversation_ref for request in stage.world.requests] == ["conv-1", "conv-2"]


def test_the_backend_is_told_who_speaks(stage: Stage) -> None:
    agent = stage.agent()
    stage.enters(agent, ALICE, BOB)
    stage.fake.users[ALICE] = {"displayname": "Alice", "avatar_url": ""}
    stage.says(agent, "Hello", ALICE)
    stage.says(agent, "Hi", BOB)
    stage.run_turns()
    speakers = [(request.speaker.name, request.speaker.kind, request.speaker.id) for request in stage.world.requests]
    assert speakers == [("Alice", "person", ALICE), ("bob", "person", BOB)]


def test_tools_and_reasoning_are_kept_beside_the_answer(stage: Stage) -> None:
    turn = ask(stage)
    stage.world.script(
        ReasoningDelta("Let me "), ReasoningDelta("think\x00."), ToolCall("c1", "look", '{"a": "\x00"}'),
        ToolResult("c1", "look", "found \ud83d\ude00 \ud83d", True), "Here ", "it is.", Finished("end", 11, 7),
    )  # fmt: skip
    stage.run_turns()
    reply = Message.objects.get(role="assistant")
    assert reply.text == "Here it is."
    assert [part["type"] for part in reply.parts] == ["reasoning", "tool_call", "tool_result", "text"]
    assert reply.parts[0]["text"] == "Let me think."
    assert reply.parts[2]["output"] == "found 😀 �"
    assert (reply.parts[3]["start"], reply.parts[3]["end"]) == (0, 11)
    turn.refresh_from_db()
    assert (turn.input_tokens, turn.output_tokens, turn.finish_reason, turn.reply_id) == (11, 7, "end", reply.pk)
    assert (reply.in_reply_to_id, reply.sender.kind) == (turn.message_id, "agent")


def test_text_that_a_database_cannot_keep_is_mended(stage: Stage) -> None:
    turn = ask(stage)
    stage.world.script("A\x00 smile \ud83d", "\ude00 and half a one \ud83d", " end")
    stage.run_turns()
    assert state(turn) == "done"
    assert Message.objects.get(role="assistant").text == "A smile 😀 and half a one � end"


# Stopping, pausing, switching off


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


# Sweep


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


# Operators


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
