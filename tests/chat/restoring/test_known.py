"""What a room says from before a restore, beside the rows that the backup has: what is one of them, and what only looks like it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agents.matrix.keys import HISTORICAL, MARKER
from chat.models import Conversation, Delivery, DeliveryState, Message, Person, Turn, TurnState
from chat.restoring import history
from chat.restoring.past import Said, put_together, split_at
from chat.services.conversations import conversation_of, next_seq, participant
from tests.support.stage import ALICE, BOB, Stage

pytestmark = pytest.mark.django_db
EARLIER = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Room:
    """Ada's room, of which events are taken in as history; ``asked`` and ``answered`` are rows that the backup has."""

    def __init__(self, stage: Stage) -> None:
        self.agent = stage.agent()
        stage.enters(self.agent, ALICE, BOB)
        self.row = stage.room()
        self.ada = str(self.agent.mapping.account.user_id)
        self.talk = conversation_of(self.row, self.agent)

    def event(self, name: str, sender: str, body: str, *, at: datetime = EARLIER, **content: Any) -> dict[str, Any]:
        return {
            "type": "m.room.message", "event_id": f"${name}", "room_id": self.row.room_id, "sender": sender,
            "origin_server_ts": int(at.timestamp() * 1000), "content": {"msgtype": "m.text", "body": body, **content},
        }  # fmt: skip

    def answer(self, name: str, body: str, *, at: datetime = EARLIER, **marker: int) -> dict[str, Any]:
        return self.event(name, self.ada, body, at=at, **{MARKER: marker})

    def edit(self, name: str, of: str, body: str, *, at: datetime = EARLIER, **marker: int) -> dict[str, Any]:
        new = {"msgtype": "m.text", "body": body}
        relation = {"rel_type": "m.replace", "event_id": f"${of}"}
        return self.event(
            name, self.ada, f"* {body}", at=at, **{"m.new_content": new, "m.relates_to": relation, MARKER: marker}
        )

    def take_in(self, *events: dict[str, Any]) -> int:
        return history.take_in(self.row, events, self.agent)

    def message(self, role: str, text: str, *, talk: Conversation | None = None, **more: Any) -> Message:
        talk = talk or self.talk
        kind, name = ("agent", str(self.agent.pk)) if role == "assistant" else ("guest", ALICE)
        agent = self.agent.pk if role == "assistant" else None
        sender = participant(talk.pk, kind=kind, external_id=name, name=name, agent_id=agent)
        values = {
            "transport": "turn" if role == "assistant" else "matrix",
            "received_at": EARLIER,
            "stored_at": EARLIER,
        }
        return Message.objects.create(
            conversation=talk, seq=next_seq(talk.pk), role=role, text=text, sender=sender, **{**values, **more}
        )

    def turn(self, asked: Message, **more: Any) -> Turn:
        values = {"state": TurnState.DONE, "created_at": EARLIER, "not_before": EARLIER, **more}
        return Turn.objects.create(
            conversation=asked.conversation,
            agent=self.agent,
            message=asked,
            seq=asked.seq,
            lane=f"t{asked.pk}",
            **values,
        )

    def delivery(self, answer: Message | None, turn: Turn, **more: Any) -> Delivery:
        values = {"state": DeliveryState.DISCARDED, "error_code": "restored", "error_reason": "Why", **more}
        return Delivery.objects.create(
            **{"message": answer, "turn": turn, "target": "matrix", "room": self.row, "created_at": EARLIER}
            | {"not_before": EARLIER, "lane": history.room_lane(self.row.pk), **values}
        )

    def said(self) -> list[tuple[str, str]]:
        return list(Message.objects.filter(conversation=self.talk).order_by("seq").values_list("role", "text"))


@pytest.fixture
def room(stage: Stage) -> Room:
    return Room(stage)


def later(**more: float) -> datetime:
    return EARLIER + timedelta(**more)


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


def test_what_is_no_message_does_not_become_one(room: Room):
    notice = {"msgtype": "m.notice"}
    room.take_in(
        room.event("a", room.ada, "Another program under our name"),
        room.event("e", history.homeserver_of(room.row.homeserver).sender_id, "Under Switchboard's"),
        room.event("b", BOB, "A machine says", **notice),
        room.event("c", BOB, "  "),
        room.event("d", ALICE, "A word"),
    )
    assert room.said() == [("user", "A word")]


def test_what_another_agent_said_in_the_room_is_by_that_agent(room: Room, stage: Stage):
    """Without our marker: it speaks to the room's agent, as anybody does."""
    bob = stage.agent("Bob")
    room.take_in(room.event("a", str(bob.mapping.account.user_id), "From Bob"))
    message = Message.objects.get(text="From Bob")
    assert (message.role, message.sender.kind, message.sender.agent, message.sender.external_id) == (
        "user", "agent", bob, str(bob.pk),
    )  # fmt: skip


def test_whoever_is_quoted_is_the_one_of_that_name_or_nobody_known(room: Room, stage: Stage):
    Person.objects.create_user("grace", display_name="Grace")
    for name in ("twin1", "twin2"):
        Person.objects.create_user(name, display_name="Twin")
    Person.objects.create_user("mary")
    sender = history.homeserver_of(room.row.homeserver).sender_id
    room.take_in(
        *(
            room.event(name, sender, f"**{name}:** Hello of {name}", **{MARKER: {"message": 10**9 + number}})
            for number, name in enumerate(("Grace", "Twin", "mary", "Nobody"))
        )
    )
    found = {one.sender.name: one.sender for one in Message.objects.filter(conversation=room.talk)}
    assert {name: (one.kind, one.external_id) for name, one in found.items()} == {
        "Grace": ("person", "grace"),
        "Twin": ("guest", "quoted:Twin"),
        "mary": ("person", "mary"),
        "Nobody": ("guest", "quoted:Nobody"),
    }
    assert room.said()[0] == ("user", "Hello of Grace")


def test_what_was_changed_is_changed_once(room: Room):
    """A room is walked as often as it takes; what reads so already is left, and keeps its revision."""
    known = room.message("user", "Teh", external_id="$q")
    back = room.message("user", "", external_id="$gone", state="redacted")
    edit = room.event("e", ALICE, "* The", **{
        "m.new_content": {"msgtype": "m.text", "body": "The"}, "m.relates_to": {"rel_type": "m.replace", "event_id": "$q"},
    })  # fmt: skip
    redaction = {**room.event("f", ALICE, ""), "type": "m.room.redaction", "redacts": "$gone"}
    room.take_in(edit, redaction)
    known.refresh_from_db()
    back.refresh_from_db()
    assert (known.text, len(known.parts)) == ("The", 1)
    revisions = known.revision, back.revision, Conversation.objects.get(pk=room.talk.pk).revision
    room.take_in(edit, redaction)
    known.refresh_from_db()
    back.refresh_from_db()
    assert (known.revision, back.revision, Conversation.objects.get(pk=room.talk.pk).revision) == revisions
    assert len(known.parts) == 1


def test_what_is_known_and_was_changed_since_reads_as_it_does_in_the_room(room: Room):
    """Word and change are in one walk; the word itself is known."""
    known = room.message("user", "Teh", external_id="$q")
    edit = room.event("e", ALICE, "* The", **{
        "m.new_content": {"msgtype": "m.text", "body": "The"}, "m.relates_to": {"rel_type": "m.replace", "event_id": "$q"},
    })  # fmt: skip
    assert room.take_in(room.event("q", ALICE, "Teh"), edit) == 0
    known.refresh_from_db()
    assert known.text == "The"


def test_a_change_by_somebody_else_hides_no_change_by_whoever_said_it(room: Room):
    """Anybody in the room can send such an event; clients pass it over."""
    theirs = room.event("f", BOB, "* forged", **{
        "m.new_content": {"msgtype": "m.text", "body": "forged"}, "m.relates_to": {"rel_type": "m.replace", "event_id": "$a"},
    })  # fmt: skip
    room.take_in(
        room.answer("a", "The be", turn=10**9), room.edit("b", "a", "The beginning and the end", turn=10**9), theirs
    )
    assert room.said() == [("assistant", "The beginning and the end")]


def test_a_change_of_words_changes_neither_what_they_reply_to_nor_the_file(room: Room):
    room.message("user", "Older", external_id="$old")
    info = {"mimetype": "image/png", "size": 70}
    reply = {"m.relates_to": {"m.in_reply_to": {"event_id": "$old"}}}
    image = room.event("i", BOB, "cat.png", url="mxc://fake.test/abc", info=info, **reply)
    image["content"]["msgtype"] = "m.image"
    edit = room.event("e", BOB, "* dog.png", **{
        "m.new_content": {"msgtype": "m.text", "body": "dog.png"}, "m.relates_to": {"rel_type": "m.replace", "event_id": "$i"},
    })  # fmt: skip
    assert room.take_in(image, edit) == 1
    message = Message.objects.get(external_id="$i")
    assert "mxc://fake.test/abc" in str(message.parts)
    assert message.in_reply_to.text == "Older"


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


def test_what_we_noticed_is_a_notice_of_nobodys(room: Room):
    notice = room.answer("a", "It failed.", message=10**9)
    notice["content"]["msgtype"] = "m.notice"
    room.take_in(room.event("q", BOB, "Asked"), notice)
    message = Message.objects.get(text="It failed.")
    assert (message.role, message.sender.name, message.in_reply_to) == ("notice", "Switchboard", None)


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


def test_a_line_that_another_restore_drew_meanwhile_stays(room: Room):
    room.row.history_until = EARLIER
    room.row.save(update_fields=["history_until"])
    type(room.row).objects.filter(pk=room.row.pk).update(history_until=later(hours=1))
    history.is_over(room.row)
    assert type(room.row).objects.get(pk=room.row.pk).history_until == later(hours=1)
    fresh = type(room.row).objects.get(pk=room.row.pk)
    history.is_over(fresh)
    assert type(room.row).objects.get(pk=room.row.pk).history_until is None


def test_what_the_room_was_told_before_it_was_ours_counts_for_it_all_the_same(room: Room):
    room.row.taken_over_at = later(hours=1)
    encryption = {
        **room.event("e", BOB, ""), "type": "m.room.encryption", "state_key": "", "content": {"algorithm": "m.megolm.v1.aes-sha2"},
    }  # fmt: skip
    assert room.take_in(encryption, room.event("w", BOB, "Not ours")) == 0
    assert type(room.row).objects.get(pk=room.row.pk).encrypted


def test_a_file_comes_back_with_what_is_known_of_it_also_without_a_word(room: Room):
    info = {"mimetype": "image/png", "size": 70}
    image = room.event("i", BOB, "cat.png", url="mxc://fake.test/abc", info=info)
    image["content"]["msgtype"] = "m.image"
    bare = room.event("f", BOB, "", url="mxc://fake.test/def")
    bare["content"]["msgtype"] = "m.file"
    assert room.take_in(image, bare) == 2
    first, second = Message.objects.filter(conversation=room.talk).order_by("seq")
    assert "mxc://fake.test/abc" in str(first.parts)
    assert "mxc://fake.test/def" in str(second.parts)


def test_an_answer_in_pieces_is_known_by_any_of_them(room: Room):
    pieces = [room.answer(name, name.upper(), message=10**9) for name in ("a", "b")]
    assert room.take_in(*pieces) == 1
    message = Message.objects.get(conversation=room.talk)
    assert (message.text, message.external_id) == ("A\n\nB", "$a")
    assert room.take_in(*pieces) == 0
    Message.objects.update(external_id="$b")
    assert room.take_in(*pieces) == 0


def test_an_edit_of_ours_tells_the_answer_that_stands_further_back(room: Room):
    assert room.take_in(room.edit("e", "far", "As it reads now", message=10**9)) == 1
    assert room.said() == [("assistant", "As it reads now")]


def test_copies_of_what_was_said_earlier_are_nothing_new(room: Room):
    assert room.take_in(room.event("c", BOB, "A copy", **{HISTORICAL: True})) == 0


def test_the_line_itself_is_history(room: Room):
    on, after = room.event("a", BOB, "On"), room.event("b", BOB, "After", at=later(milliseconds=1))
    assert split_at([on, after], EARLIER) == ([on], [after])


def one(*events: dict[str, Any]) -> list[Said]:
    return put_together(events, lambda sender: sender.startswith("@agent_")).said


def test_pieces_of_one_answer_are_one_message_and_its_edits_tell_when(room: Room):
    first = room.answer("a", "One", turn=3)
    second = room.answer("b", "Two", turn=3, message=7, at=later(minutes=1))
    edit = room.edit("c", "a", "One whole", turn=3, message=7, at=later(minutes=2))
    (said,) = one(first, second, edit)
    assert (said.ids, [piece.body for piece in said.pieces]) == (["$a", "$b"], ["One whole", "Two"])
    assert (said.at, said.told_at, said.marker["message"]) == (EARLIER, later(minutes=2), 7)
    # Somebody else's edit says nothing about it.
    foreign = room.event("d", BOB, "* x", at=later(minutes=9), **{
        "m.new_content": {"msgtype": "m.text", "body": "x"}, "m.relates_to": {"rel_type": "m.replace", "event_id": "$a"},
    })  # fmt: skip
    assert one(first, foreign)[0].told_at == EARLIER
