"""An answer that stops at a tool call until somebody allows or refuses it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from agents.backends.base import Approval
from agents.backends.chunks import Finished, ReasoningDelta, ToolCall, ToolResult
from agents.backends.errors import BackendNeedsApproval, BackendUnavailable
from chat.models import Message, Role, Turn, UsageDay
from chat.services import approvals
from chat.services.approvals import approval_decide, waiting_longer_than
from chat.services.turns import WrongState, turn_cancel, turn_retry
from chat.turns.sweep import sweep
from ops.models import AuditEvent
from tests.chat.portal_helpers import begin, say, shown
from tests.chat.turns.helpers import KEEPS, again, ask, state
from tests.support.stage import ALICE, Stage

pytestmark = pytest.mark.django_db

CALL = ToolCall("c1", "send_parcel", '{"address": "Kiel"}', needs_approval=True)
ASKS = (ReasoningDelta("Hm."), "Let me see.", CALL, Finished("approval", 10, 4))


def waits(stage: Stage, *steps: Any, kind: str = KEEPS) -> Turn:
    """A turn that has stopped for approval."""
    stage.world.script(*(steps or ASKS))
    turn = ask(stage, kind=kind)
    stage.run_turns()
    assert state(turn) == "waiting_approval"
    return turn


def decide(turn: Turn, approve: bool = True, call: str = "c1", reason: str = "") -> Turn:
    return approval_decide(turn=turn, call_id=call, approve=approve, reason=reason, actor="person:grace")


def test_the_answer_stops_and_goes_on_behind_what_stood_there(
    stage: Stage, django_capture_on_commit_callbacks: Any
) -> None:
    turn = waits(stage)
    asked = turn.approvals[0]
    assert (asked["id"], asked["name"], asked["arguments"]) == ("c1", "send_parcel", CALL.arguments)
    assert (asked["approve"], turn.worker, turn.lease_until, turn.attempts) == (None, "", None, 0)
    assert (turn.partial, [part["type"] for part in turn.partial_parts]) == ("Let me see.", ["reasoning", "tool_call"])
    stage.world.script(ToolResult("c1", "send_parcel", "sent"), "It is on its way.", Finished("end", 20, 6))
    with django_capture_on_commit_callbacks(execute=True):
        decide(turn)
    assert state(turn) == "queued"
    assert turn.pk in stage.woken_turns
    stage.run_turns()
    assert state(turn) == "done"
    first, second = stage.world.requests
    assert (list(first.approvals), list(second.approvals)) == ([], [Approval("c1", True)])
    assert (second.unheard, second.conversation_ref) == (False, first.conversation_ref)
    assert second.idempotency_id != first.idempotency_id
    assert turn.reply.text == "Let me see.\n\nIt is on its way."
    assert [(part["type"], part["start"], part["end"]) for part in turn.reply.parts] == [
        ("reasoning", 0, 0),
        ("text", 0, 11),
        ("tool_call", 11, 11),
        ("tool_result", 11, 11),
        ("text", 11, 30),
    ]
    assert (turn.input_tokens, turn.output_tokens, turn.finish_reason) == (30, 10, "end")
    usage = UsageDay.objects.get()
    assert (usage.messages, usage.answers, usage.input_tokens, usage.output_tokens) == (1, 1, 30, 10)
    granted = AuditEvent.objects.get(action="approval.granted")
    assert (granted.actor, granted.message) == ("person:grace", "send_parcel")


def test_a_refusal_is_told_with_its_reason_and_shown(stage: Stage) -> None:
    turn = waits(stage)
    stage.world.script("Then not.")
    decide(turn, False, reason="Too dear.")
    stage.run_turns()
    assert list(stage.world.requests[-1].approvals) == [Approval("c1", False, "Too dear.")]
    turn.refresh_from_db()
    result = next(part for part in turn.reply.parts if part["type"] == "tool_result")
    assert (result["id"], result["ok"], result["output"]) == ("c1", False, "Denied: Too dear.")


def test_it_goes_on_when_all_are_decided(stage: Stage) -> None:
    turn = waits(stage, CALL, ToolCall("c2", "pay", "{}", needs_approval=True), Finished("approval"))
    decide(turn)
    assert state(turn) == "waiting_approval"
    assert not stage.world.requests[1:]
    decide(turn)  # the same word again
    with pytest.raises(WrongState):
        decide(turn, False)
    with pytest.raises(WrongState):
        decide(turn, call="c9")
    decide(turn, False, call="c2")
    stage.run_turns()
    assert [(one.call_id, one.approve) for one in stage.world.requests[-1].approvals] == [("c1", True), ("c2", False)]
    assert state(turn) == "done"


def test_an_answer_can_stop_more_than_once(stage: Stage) -> None:
    turn = waits(stage)
    stage.world.script(
        ToolResult("c1", "send_parcel", "sent"), "Now pay.", ToolCall("c2", "pay", "{}", True), Finished("approval")
    )
    decide(turn)
    stage.run_turns()
    assert state(turn) == "waiting_approval"
    stage.world.script("Paid.")
    decide(turn, call="c2")
    stage.run_turns()
    turn.refresh_from_db()
    assert [one.call_id for one in stage.world.requests[-1].approvals] == ["c2"]
    assert turn.reply.text == "Let me see.\n\nNow pay.\n\nPaid."
    assert len({request.idempotency_id for request in stage.world.requests}) == 3


def test_a_repeated_attempt_begins_where_the_answer_had_stopped(stage: Stage) -> None:
    turn = waits(stage)
    stage.world.script("It is on", BackendUnavailable("503"))
    decide(turn)
    stage.run_turns()
    stage.hurry()
    stage.world.script("It is on its way.")
    stage.run_turns()
    turn.refresh_from_db()
    assert turn.reply.text == "Let me see.\n\nIt is on its way."
    assert [request.attempt for request in stage.world.requests] == [1, 1, 2]


def test_what_is_said_meanwhile_waits_and_other_conversations_do_not(stage: Stage) -> None:
    turn = waits(stage)
    behind, elsewhere = again(turn, "And?"), ask(stage, "Elsewhere")
    stage.run_turns()
    assert (state(behind), state(elsewhere)) == ("queued", "done")
    decide(turn)
    stage.run_turns()
    assert (state(turn), state(behind)) == ("done", "done")


def test_stopping_refuses_the_calls_and_keeps_what_was_said(stage: Stage) -> None:
    turn = waits(stage)
    turn_cancel(turn=turn, actor="person:grace")
    stage.run_turns()
    assert state(turn) == "cancelled"
    assert turn.reply.text == "Let me see.\n\n*(stopped)*"
    assert stage.world.refused == [("id-ada", ("c1",), "conv-1")]
    assert len(stage.world.requests) == 1
    assert (turn.input_tokens, turn.output_tokens) == (10, 4)
    with pytest.raises(WrongState):
        decide(turn)


def test_stopping_after_the_word_was_given_stops_too(stage: Stage) -> None:
    turn = waits(stage)
    decide(turn)
    turn_cancel(turn=turn, actor="person:grace")
    stage.run_turns()
    assert state(turn) == "cancelled"
    assert stage.world.refused == [("id-ada", ("c1",), "conv-1")]


def test_nobody_answers_in_time(stage: Stage, settings: Any) -> None:
    talk = begin(stage, kind=KEEPS)
    stage.world.script(*ASKS)
    turn = say(talk, "Send it.").turn
    stage.run_turns()
    assert sweep().get("expired_approvals", 0) == 0
    Turn.objects.update(not_before=timezone.now() - timedelta(seconds=1))
    assert sweep()["expired_approvals"] == 1
    assert sweep().get("expired_approvals", 0) == 0
    stage.world.script("Then not.")
    stage.run_turns()
    assert list(stage.world.requests[-1].approvals) == [Approval("c1", False, "Nobody decided in time.")]
    assert state(turn) == "done"
    assert shown(talk) == [
        "Send it.",
        "Nobody allowed send_parcel in time, so it was denied. Ada goes on without it.",
        "Let me see.\n\nThen not.",
    ]


def test_which_have_been_waiting_for_long(stage: Stage, settings: Any) -> None:
    turn = waits(stage)
    assert list(waiting_longer_than(1)) == []
    Turn.objects.update(not_before=turn.not_before - timedelta(minutes=5))
    assert list(waiting_longer_than(4)) == [turn]
    assert list(waiting_longer_than(6)) == []


def test_a_room_is_told_and_can_answer(stage: Stage) -> None:
    ada = stage.agent(kind=KEEPS)
    room = stage.enters(ada)
    stage.world.script(*ASKS)
    stage.says(ada, "Send it.")
    stage.drain()
    told = stage.fake.messages_of(room)[-1]["content"]["body"]
    assert told.startswith('Ada asks for permission to call `send_parcel(address: "Kiel")`. Answer `!approve`')
    assert "within 24 h" in told
    stage.world.script(ToolResult("c1", "send_parcel", "sent"), "It is on its way.")
    stage.says(ada, "!approve")
    stage.drain()
    turn = Turn.objects.get()
    assert (turn.state, turn.approvals[0]["by"]) == ("done", f"guest:{ALICE}")
    word = Message.objects.get(text="!approve")
    assert (word.guard, word.turns.count()) == ("command", 0)
    assert stage.fake.shown(room)[-1].endswith("It is on its way.")


def test_a_room_can_refuse_with_a_reason(stage: Stage) -> None:
    ada = stage.agent(kind=KEEPS)
    stage.enters(ada)
    stage.world.script(*ASKS)
    stage.says(ada, "Send it.")
    stage.drain()
    stage.says(ada, "!deny: Not to Kiel")
    stage.drain()
    assert list(stage.world.requests[-1].approvals) == [Approval("c1", False, "Not to Kiel")]


def test_the_words_of_a_command_are_ordinary_words_elsewhere(stage: Stage) -> None:
    ada = stage.agent(kind=KEEPS)
    stage.enters(ada)
    stage.says(ada, "!approve")
    stage.drain()
    assert [request.text for request in stage.world.requests] == ["!approve"]
    assert approvals.word_in("!approved") is None
    assert approvals.word_in("I !approve") is None


def test_calls_of_a_run_that_others_began_are_answered_with_the_message(stage: Stage) -> None:
    turn = waits(stage, BackendNeedsApproval("409 PENDING_APPROVAL", calls=[CALL]))
    assert turn.approvals[0]["foreign"]
    stage.world.script(ToolResult("c1", "send_parcel", "sent"), "Sent, and hello to you.")
    decide(turn)
    stage.run_turns()
    first, second = stage.world.requests
    assert (second.unheard, second.text, second.idempotency_id) == (True, "Hello", first.idempotency_id)
    assert state(turn) == "done"


def test_stopping_leaves_calls_of_others_alone(stage: Stage) -> None:
    turn = waits(stage, BackendNeedsApproval("409 PENDING_APPROVAL", calls=[CALL]))
    turn_cancel(turn=turn, actor="person:grace")
    stage.run_turns()
    assert (state(turn), stage.world.refused) == ("cancelled", [])


def test_calls_that_cannot_be_read_end_in_an_honest_error(stage: Stage) -> None:
    stage.world.script(BackendNeedsApproval("409 PENDING_APPROVAL"))
    turn = ask(stage, kind=KEEPS)
    stage.run_turns()
    assert (state(turn), turn.error_code) == ("failed", "backend.needs_approval")
    assert "waiting for somebody to approve" in turn.error_public
    stage.world.script(Finished("approval"))
    turn_retry(turn=turn, actor="test")
    stage.run_turns()
    assert (state(turn), turn.error_code) == ("failed", "backend.needs_approval")


def test_a_message_waits_for_the_approval_in_another_conversation_and_is_told_once(stage: Stage) -> None:
    waits(stage)
    other = ask(stage, "Elsewhere")
    for _ in range(2):
        stage.world.script(BackendNeedsApproval("409 PENDING_APPROVAL", calls=[CALL]))
        stage.run_turns()
        stage.hurry()
    assert (state(other), other.attempts, other.approvals) == ("queued", 0, [])
    notice = Message.objects.get(role=Role.NOTICE)
    assert "in another conversation" in notice.text
