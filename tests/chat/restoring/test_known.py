"""What a room says from before a restore, beside the rows that the backup has: what is one of them, and what only looks like it."""

from __future__ import annotations

from typing import Any

import pytest

from chat.models import Conversation, Delivery, Message, Turn, TurnState
from chat.restoring import history
from tests.chat.restoring.conftest import Room, later
from tests.support.stage import ALICE, BOB, Stage

pytestmark = pytest.mark.django_db


def test_an_answer_that_took_long_is_not_doubled(room: Room):
    """The room shows a preview from long before the row was written: the edit that names the row counts."""
    turn = room.turn(room.message("user", "Long?", external_id="$q"))
    answer = room.message("assistant", "At last", stored_at=later(minutes=20))
    Turn.objects.filter(pk=turn.pk).update(reply=answer)
    preview = room.answer("a", "At", turn=turn.pk)
    final = room.edit("b", "a", "At last", at=later(minutes=20, seconds=1), turn=turn.pk, message=answer.pk)
    assert room.take_in(preview, final) == 0
    assert room.said() == [("user", "Long?"), ("assistant", "At last")]


def test_the_same_number_may_stand_for_something_else_by_now(room: Room):
    """Numbers begin anew on an empty database: a row that is younger than the event, or of another conversation, is another."""
    younger = room.message("assistant", "Of another life", stored_at=later(minutes=6))
    elsewhere = room.message("assistant", "Elsewhere", talk=Conversation.objects.create(title="Another"))
    assert room.take_in(room.answer("a", "Mine", message=younger.pk)) == 1
    assert room.take_in(room.answer("b", "Mine too", message=elsewhere.pk)) == 1
    assert [text for _, text in room.said()] == ["Of another life", "Mine", "Mine too"]
    # Clocks differ a little.
    near = room.message("assistant", "Near", stored_at=later(minutes=4))
    assert room.take_in(room.answer("c", "Near", message=near.pk)) == 0


def test_a_preview_is_an_answer_that_is_known_only_where_its_turn_is_that_one(room: Room):
    asked = room.message("user", "Asked", external_id="$q")
    reply = room.message("assistant", "Whole answer")
    known = room.turn(asked, reply=reply)
    assert room.take_in(room.answer("a", "Whole", turn=known.pk)) == 0
    Turn.objects.filter(pk=known.pk).update(created_at=later(minutes=6))
    assert room.take_in(room.answer("b", "Of another life", turn=known.pk)) == 1
    other = Conversation.objects.create(title="Another")
    there = room.turn(room.message("user", "There", talk=other), reply=room.message("assistant", "There", talk=other))
    assert room.take_in(room.answer("c", "Here", turn=there.pk)) == 1
    assert [text for role, text in room.said() if role == "assistant"] == ["Whole answer", "Of another life", "Here"]


def test_only_the_delivery_that_the_restore_ended_in_this_room_is_known_as_sent(room: Room):
    asked = room.message("user", "Asked", external_id="$q")
    answer = room.message("assistant", "Answer")
    turn = room.turn(asked, reply=answer)
    ended = room.delivery(answer, turn)
    elsewhere = room.delivery(answer, turn, room=None, target="webhook", lane="w1")
    refused = room.delivery(answer, turn, error_code="refused", lane="x1", notice=True)
    room.take_in(room.answer("a", "Answer", message=answer.pk, at=later(minutes=1)))
    for one in (ended, elsewhere, refused):
        one.refresh_from_db()
    assert (ended.state, ended.sent_at, ended.error_code, ended.error_reason) == ("sent", later(minutes=1), "", "")
    assert ended.shown == [{"txn": "", "event_id": "$a"}]
    assert (elsewhere.state, refused.state) == ("discarded", "discarded")


def test_an_answer_belongs_to_the_question_before_it_known_or_not(room: Room):
    room.message("user", "Known", external_id="$q")
    room.take_in(
        room.event("q", ALICE, "Known"),
        room.answer("a", "First", message=10**9),
        room.event("r", BOB, "New"),
        room.answer("b", "Second", message=10**9 + 1),
    )
    answers = Message.objects.filter(role="assistant").order_by("seq")
    assert [(one.text, one.in_reply_to.text) for one in answers] == [("First", "Known"), ("Second", "New")]


def test_an_answer_belongs_to_the_question_of_its_turn_where_that_is_known(room: Room):
    """Two asked before either was answered."""
    first = room.message("user", "First?", external_id="$q")
    turn = room.turn(first, state=TurnState.CANCELLED, error_code="restored", error_reason="Why")
    room.take_in(
        room.event("q", ALICE, "First?"), room.event("r", BOB, "Second?"), room.answer("a", "Yes", turn=turn.pk)
    )
    answer = Message.objects.get(text="Yes")
    assert answer.in_reply_to == first
    turn.refresh_from_db()
    assert (turn.state, turn.reply, turn.error_code, turn.error_reason) == ("done", answer, "", "")


@pytest.mark.parametrize("state", [TurnState.FAILED, TurnState.TIMED_OUT, TurnState.DEAD])
def test_a_turn_that_had_been_given_up_and_was_taken_up_again_is_answered(room: Room, state: str):
    turn = room.turn(room.message("user", "Asked", external_id="$q"), state=state, error_code="unreachable")
    room.take_in(room.answer("a", "After all", turn=turn.pk))
    turn.refresh_from_db()
    assert (turn.state, turn.reply.text) == ("done", "After all")


def test_a_turn_that_somebody_stopped_stays_stopped(room: Room):
    turn = room.turn(room.message("user", "Asked", external_id="$q"), state=TurnState.CANCELLED, error_code="stopped")
    room.take_in(room.answer("a", "Half", turn=turn.pk))
    turn.refresh_from_db()
    assert (turn.state, turn.reply) == ("cancelled", None)
    assert ("assistant", "Half") in room.said()


def test_who_replied_to_what_and_when_it_was_said(room: Room):
    room.message("user", "Older", external_id="$old")
    other = Conversation.objects.create(title="Another")
    room.message("user", "Foreign", talk=other, external_id="$foreign")
    relation = {"m.in_reply_to": {"event_id": "$old"}}
    room.take_in(
        room.event("r", BOB, "To that", at=later(minutes=3), **{"m.relates_to": relation}),
        room.event("s", BOB, "To nothing of ours", **{"m.relates_to": {"m.in_reply_to": {"event_id": "$foreign"}}}),
    )
    reply = Message.objects.get(text="To that")
    assert (reply.in_reply_to.text, reply.said_at, reply.received_at) == ("Older", later(minutes=3), later(minutes=3))
    assert reply.stored_at > later(days=1), "when it was stored is of this life"
    assert Message.objects.get(text="To nothing of ours").in_reply_to is None
    assert (reply.guard, reply.sender.kind, reply.sender.external_id) == ("restored", "guest", BOB)


def test_in_the_portal_the_conversation_goes_on_behind_what_was_taken_in(
    room: Room, stage: Stage, django_capture_on_commit_callbacks: Any
):
    """There a conversation is a tree: whatever is no branch of its end is not shown."""
    before = room.message("user", "Before", external_id="$q")
    Conversation.objects.filter(pk=room.talk.pk).update(portal=True, head=before)
    with django_capture_on_commit_callbacks(execute=True):
        room.take_in(room.event("r", BOB, "Since"), room.answer("a", "Answer", message=10**9))
    since, answer = Message.objects.get(text="Since"), Message.objects.get(text="Answer")
    assert (since.parent, answer.parent) == (before, since)
    assert Conversation.objects.get(pk=room.talk.pk).head == answer
    assert (since.guard, answer.guard) == ("restored", ""), "an answer needs no reason for not being answered"
    told = [frame["message"] for frame in stage.frames if frame["type"] == "message"]
    assert told == [since.pk, answer.pk], "open pages show it"


def test_all_of_it_is_taken_in_however_the_portions_fall(room: Room, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(history, "AT_ONCE", 2)
    assert room.take_in(*(room.event(f"e{number}", BOB, f"Word {number}") for number in range(5))) == 5
    assert [text for _, text in room.said()] == [f"Word {number}" for number in range(5)]


def test_of_a_turn_shown_in_several_places_the_rooms_own_delivery_is_settled(room: Room):
    turn = room.turn(room.message("user", "Asked", external_id="$q"), state=TurnState.CANCELLED, error_code="restored")
    other = room.delivery(None, turn, room=None, target="webhook", lane="w1")
    own = room.delivery(None, turn)
    room.delivery(None, turn, room=None, target="webhook", lane="w2")
    room.take_in(room.answer("a", "Answer", turn=turn.pk))
    assert Delivery.objects.filter(state="discarded").count() == 2
    other.refresh_from_db()
    own.refresh_from_db()
    assert (own.state, own.message.text) == ("sent", "Answer")
    assert (other.state, other.message) == ("discarded", None)
