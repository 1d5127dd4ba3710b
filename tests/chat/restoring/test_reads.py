"""What a room says from before a restore, as it reads in the end: changes, pieces, files, quotes; and what of it is no message."""

from __future__ import annotations

from typing import Any

import pytest

from agents.matrix.keys import HISTORICAL, MARKER
from chat.models import Conversation, Message, Person
from chat.restoring import history
from chat.restoring.past import Said, put_together, split_at
from tests.chat.restoring.conftest import EARLIER, Room, later
from tests.support.stage import ALICE, BOB, Stage

pytestmark = pytest.mark.django_db


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


def test_what_we_noticed_is_a_notice_of_nobodys(room: Room):
    notice = room.answer("a", "It failed.", message=10**9)
    notice["content"]["msgtype"] = "m.notice"
    room.take_in(room.event("q", BOB, "Asked"), notice)
    message = Message.objects.get(text="It failed.")
    assert (message.role, message.sender.name, message.in_reply_to) == ("notice", "Switchboard", None)


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
