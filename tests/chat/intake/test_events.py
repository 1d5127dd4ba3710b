"""Events of every kind, shape and age: none stops the others, and each leaves a trace."""

from __future__ import annotations

import time
from typing import Any

import pytest

from agents.models import Mapping
from chat.models import Message, Participant, RefusedEvent, Turn
from tests.chat.intake.helpers import edit_of, event, refused
from tests.support.fake_homeserver import SERVER_NAME
from tests.support.stage import ALICE, BOB, Stage

pytestmark = pytest.mark.django_db


MALFORMED: list[Any] = [
    None,
    7,
    "text",
    [],
    {},
    {"room_id": None},
    {"room_id": 5, "type": "m.room.message"},
    {"room_id": "x" * 300},
    {"room_id": "ROOM"},
    {"room_id": "ROOM", "type": ["m.room.message"], "event_id": "$l"},
    {"room_id": "ROOM", "type": {"a": 1}, "event_id": ["x"]},
    {"room_id": "ROOM", "type": "m.room.message", "event_id": "$a"},
    {"room_id": "ROOM", "type": "m.room.message", "event_id": "$b", "sender": ALICE, "content": None},
    {"room_id": "ROOM", "type": "m.room.message", "event_id": "$c", "sender": ALICE, "content": {"body": 5, "msgtype": "m.text"}},
    {"room_id": "ROOM", "type": "m.room.message", "event_id": "$d", "sender": 7, "content": {"body": "x", "msgtype": "m.text"}},
    {"room_id": "ROOM", "type": "m.room.message", "sender": ALICE, "content": {"body": "x", "msgtype": "m.text"}},
    {"room_id": "ROOM", "type": "m.room.redaction", "event_id": "$e", "sender": ALICE, "content": ["redacts"]},
    {"room_id": "ROOM", "type": "m.room.redaction", "event_id": "$f", "sender": ALICE, "content": {"redacts": 7}},
    {"room_id": "ROOM", "type": "m.room.member", "state_key": ALICE, "sender": ALICE, "content": "join"},
    {"room_id": "ROOM", "type": "m.room.member", "state_key": "", "sender": 1, "content": {"membership": ["join"]}},
    {"room_id": "ROOM", "type": "m.room.encryption", "state_key": 5, "event_id": "$g"},
    {"room_id": "ROOM", "type": "m.room.message", "event_id": "$h\x00\ud800", "sender": "@a\x00:b", "content": {"body": "x", "msgtype": "m.text"}},
    {"room_id": "ROOM", "type": "m.room.message", "event_id": "$i", "sender": ALICE, "origin_server_ts": 10**30, "content": {"body": "far future", "msgtype": "m.text"}},
    {"room_id": "ROOM", "type": "m.room.message", "event_id": "$j" * 300, "sender": ALICE, "content": {"body": "long id", "msgtype": "m.text", "switchboard": {"hop": 10**12}}},
    {"room_id": "ROOM", "type": "m.room.message", "event_id": "$k", "sender": ALICE, "content": {"body": "nul \x00 and half \ud83d a smile", "msgtype": "m.text"}},
]  # fmt: skip
READABLE = {"far future", "long id", "nul  and half � a smile"}


@pytest.mark.parametrize("number", range(len(MALFORMED)))
def test_a_malformed_event_does_not_stop_the_good_ones(house: Stage, client: Any, room_id: str, number: int) -> None:
    bad = MALFORMED[number]
    if isinstance(bad, dict) and bad.get("room_id") == "ROOM":
        bad = {**bad, "room_id": room_id}
    answer = house.push(client, event(house, "Before"), bad, event(house, "After"))
    assert answer.status_code == 200
    texts = list(Message.objects.order_by("seq").values_list("text", flat=True))
    assert [text for text in texts if text not in READABLE] == ["Before", "After"]
    assert house.push(client, bad).status_code == 200


def test_an_event_that_breaks_us_is_refused_not_repeated_for_ever(
    house: Stage, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from chat.matrix import one_event

    parse = one_event.parse_message

    def parse_or_break(raw: Any) -> Any:
        if raw["content"].get("body") == "poison":
            raise ZeroDivisionError
        return parse(raw)

    monkeypatch.setattr(one_event, "parse_message", parse_or_break)
    assert house.push(client, event(house, "poison"), event(house, "fine")).status_code == 200
    assert list(Message.objects.values_list("text", flat=True)) == ["fine"]
    assert "ZeroDivisionError" in RefusedEvent.objects.get(reason="malformed").sentence


def test_an_unknown_room_is_noted(house: Stage) -> None:
    house.receive({**event(house), "room_id": "!elsewhere"})
    assert refused() == {"unknown_room": 1}
    assert Message.objects.count() == 0


def test_the_same_refused_event_is_noted_once(house: Stage) -> None:
    said = {**event(house), "room_id": "!elsewhere"}
    house.receive(said)
    house.receive(said)
    assert refused() == {"unknown_room": 1}


def test_our_own_events_come_back_and_are_passed_over(house: Stage, room_id: str) -> None:
    house.says(house.fresh(), "Hello")
    house.drain()
    own = house.fake.messages_of(room_id)[-1]
    assert own["sender"] == house.mapping().account.user_id
    house.receive(own)
    unmarked = house.fake.add(room_id, own["sender"], {"msgtype": "m.text", "body": "by another program"})
    sender = house.fake.add(room_id, f"@switchboard:{SERVER_NAME}", {"msgtype": "m.text", "body": "hm"})
    house.receive(unmarked, sender)
    assert Message.objects.filter(role="user").count() == 1
    assert refused() == {"own": 2}


def test_history_is_not_answered(house: Stage, room_id: str) -> None:
    old = {**event(house), "origin_server_ts": int((time.time() - 3600) * 1000)}
    copied = event(house, **{"m.letta_historical": True})
    house.receive(old, copied)
    assert refused() == {"historical": 2}
    assert Turn.objects.count() == 0


def test_a_little_clock_drift_is_no_history(house: Stage) -> None:
    house.receive({**event(house), "origin_server_ts": int((time.time() - 60) * 1000)})
    assert Message.objects.count() == 1


def test_an_edit_reaches_an_agent_that_has_not_begun(house: Stage) -> None:
    said = event(house, "Helo")
    house.receive(said, edit_of(house, said, "Hello"))
    message = Message.objects.get()
    assert message.text == "Hello"
    assert message.parts[0]["before"] == "Helo"
    house.drain()
    assert [request.text for request in house.world.requests] == ["Hello"]


def test_an_edit_by_somebody_else_changes_nothing(house: Stage) -> None:
    said = event(house, "Hello")
    house.receive(said)
    house.receive(edit_of(house, said, "Bad words", BOB), edit_of(house, {"event_id": "$unknown"}, "x"))
    assert Message.objects.get().text == "Hello"


@pytest.mark.parametrize("version", ["old", "v11"])
def test_a_redaction_takes_the_words_and_the_turn_back(house: Stage, room_id: str, version: str) -> None:
    said = event(house, "A secret")
    house.receive(said)
    redaction = {"type": "m.room.redaction", "room_id": room_id, "event_id": "$red", "sender": ALICE, "content": {}}
    redaction.update({"redacts": said["event_id"]} if version == "old" else {"content": {"redacts": said["event_id"]}})
    house.receive(redaction)
    message = Message.objects.get()
    assert (message.state, message.text) == ("redacted", "")
    house.drain()
    assert house.world.requests == []
    assert Turn.objects.get().state == "cancelled"


def test_kinds_of_events_that_are_not_answered(house: Stage, room_id: str) -> None:
    house.receive(
        event(house, "A bot's notice", msgtype="m.notice"),
        house.fake.add(room_id, ALICE, {"m.relates_to": {"rel_type": "m.annotation", "key": "+"}}, "m.reaction"),
        house.fake.add(room_id, ALICE, {}, "org.example.custom"),
        event(house, "   "),
    )
    assert Turn.objects.count() == 0
    assert refused() == {"notice": 1, "not_a_message": 1, "empty": 1}


def test_a_file_is_described_to_the_agent(house: Stage) -> None:
    house.receive(
        event(house, "cat.png", msgtype="m.image", url="mxc://x/1", info={"mimetype": "image/png", "size": 12345}),
        event(house, "Look!", msgtype="m.file", url="mxc://x/2", filename="a.pdf", info={"size": "big"}),
    )
    (one, first), (two, second) = Message.objects.order_by("seq").values_list("text", "parts")
    assert first == [{"type": "media", "url": "mxc://x/1", "name": "cat.png", "size": 12345}]
    assert second == [{"type": "media", "url": "mxc://x/2", "name": "a.pdf", "size": None}]
    assert one == "[image “cat.png” (image/png, 12,345 bytes)]"
    assert two == "Look!\n[file “a.pdf” (unknown type)]"


def test_encryption_is_told_once(house: Stage, room_id: str) -> None:
    sealed = [
        house.fake.add(room_id, ALICE, {"algorithm": "m.megolm.v1.aes-sha2"}, "m.room.encrypted") for _ in range(3)
    ]
    state = {**house.fake.add(room_id, ALICE, {"algorithm": "x"}, "m.room.encryption"), "state_key": ""}
    house.receive(state, *sealed)
    house.receive(*sealed, state)
    house.drain()
    assert house.fake.shown(room_id).count(Message.objects.get(role="notice").text) == 1
    assert refused() == {"encrypted": 3}
    assert house.room().encrypted is True


def test_a_reply_points_to_what_it_answers(house: Stage) -> None:
    said = event(house, "First")
    house.receive(said)
    house.receive(event(house, "Second", **{"m.relates_to": {"m.in_reply_to": {"event_id": said["event_id"]}}}))
    assert Message.objects.get(text="Second").in_reply_to.text == "First"


def test_the_speaker_has_the_name_of_the_profile(house: Stage) -> None:
    house.fake.users[ALICE] = {"displayname": "Alice \x00Liddell", "avatar_url": ""}
    house.receive(event(house))
    assert Participant.objects.get(external_id=ALICE).name == "Alice Liddell"
    house.receive(event(house, "again"))
    assert len(house.fake.calls("profile_get")) == 1, "asked now and then only"


def test_the_agents_removal_and_return_show_on_its_mapping(house: Stage, room_id: str) -> None:
    user = house.mapping().account.user_id
    out = {**house.fake.add(room_id, ALICE, {"membership": "leave"}, "m.room.member"), "state_key": user}
    back = {**house.fake.add(room_id, user, {"membership": "join"}, "m.room.member"), "state_key": user}
    house.receive(out)
    assert "removed the agent" in house.mapping().problem
    house.receive(back)
    assert house.mapping().problem == ""
    house.receive(out, back)
    assert house.mapping().problem == ""
    house.receive({**house.fake.add(room_id, ALICE, {"replacement_room": "!new"}, "m.room.tombstone"), "state_key": ""})
    assert "upgraded" in Mapping.objects.get().problem


def test_answers_of_people_to_invitations_are_noted(house: Stage, settings: Any) -> None:
    settings.MATRIX_INVITE = [BOB]
    house.sync()
    invitation = house.room().invitations.get(user_id=BOB)
    for membership, state in (("join", "joined"), ("leave", "left"), ("knock", "left")):
        house.receive(
            {
                **house.fake.add(str(house.room().room_id), BOB, {"membership": membership}, "m.room.member"),
                "state_key": BOB,
            }
        )
        invitation.refresh_from_db()
        assert invitation.state == state
    assert house.sync().plan.steps == [], "who left is left alone"
