"""What a backend is told with a message, and what is kept of its answer."""

from __future__ import annotations

from typing import Any

import pytest

from agents.backends.chunks import Finished, ReasoningDelta, ToolCall, ToolResult
from agents.backends.errors import BackendRejected, ConversationGone
from agents.models import Agent
from chat.models import Message
from tests.chat.turns.helpers import KEEPS, again, ask, state
from tests.support.stage import ALICE, BOB, Stage

pytestmark = pytest.mark.django_db


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
