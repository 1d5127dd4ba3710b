"""What a homeserver brings becomes messages: each once, in order, committed before it is acknowledged, whatever else comes along."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import DatabaseError

from agents.models import Agent, Mapping, Room
from chat.intake import store as store_module
from chat.matrix import views
from chat.models import Conversation, Delivery, Message, Participant, RefusedEvent, Turn
from ops.models import Service
from tests.support.fake_homeserver import HS_TOKEN, SERVER_NAME
from tests.support.stage import ALICE, BOB, STRANGER, Stage, in_threads

pytestmark = pytest.mark.django_db


@pytest.fixture
def house(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """An agent named Ada with Alice in its room. Requests are handled on the test's own database connection."""

    async def here(work: Any) -> Any:
        return await sync_to_async(views._guarded, thread_sensitive=True)(work)

    monkeypatch.setattr(views, "_in_pool", here)
    monkeypatch.setattr(views, "close_old_connections", lambda: None)
    stage.enters(stage.agent())
    return stage


@pytest.fixture
def room_id(house: Stage) -> str:
    return str(house.room().room_id)


def event(house: Stage, text: str = "Hello", person: str = ALICE, **content: Any) -> dict[str, Any]:
    return house.fake.person_says(str(house.room().room_id), person, text, **content)


def refused() -> dict[str, int]:
    found: dict[str, int] = {}
    for reason in RefusedEvent.objects.values_list("reason", flat=True):
        found[reason] = found.get(reason, 0) + 1
    return found


# The endpoint


def test_a_transaction_becomes_messages_and_turns(house: Stage, client: Any) -> None:
    answer = house.push(client, event(house, "One"), event(house, "Two"))
    assert (answer.status_code, answer.json()) == (200, {})
    one, two = Message.objects.order_by("seq")
    assert (one.text, two.text, two.seq - one.seq) == ("One", "Two", 1)
    assert one.transport == "matrix"
    assert one.sender.external_id == ALICE
    assert one.said_at is not None
    assert list(Turn.objects.order_by("id").values_list("message_id", "state")) == [
        (one.pk, "queued"),
        (two.pk, "queued"),
    ]


@pytest.mark.parametrize(
    ("headers", "query", "status", "errcode"),
    [
        ({}, "", 401, "M_MISSING_TOKEN"),
        ({"Authorization": "Bearer wrong"}, "", 403, "M_FORBIDDEN"),
        ({"Authorization": "Bearer "}, "", 401, "M_MISSING_TOKEN"),
        ({"Authorization": f"Basic {HS_TOKEN}"}, "", 401, "M_MISSING_TOKEN"),
        ({}, "?access_token=wrong", 403, "M_FORBIDDEN"),
        ({}, f"?access_token={HS_TOKEN}", 200, None),
        ({"Authorization": f"bearer {HS_TOKEN}"}, "", 200, None),
        ({"Authorization": "Bearer wröng"}, "", 403, "M_FORBIDDEN"),
    ],
    ids=range(8),
)
def test_only_the_homeserver_may_call(
    house: Stage, client: Any, headers: dict[str, str], query: str, status: int, errcode: str | None
) -> None:
    body = json.dumps({"events": [event(house)]})
    answer = client.put(
        f"/_matrix/app/v1/transactions/1{query}", body, content_type="application/json", headers=headers
    )
    assert (answer.status_code, answer.json().get("errcode")) == (status, errcode)
    assert Message.objects.count() == (1 if status == 200 else 0)


def test_the_old_address_works_too(house: Stage, client: Any) -> None:
    body = json.dumps({"events": [event(house)]})
    assert (
        client.put(f"/transactions/1?access_token={HS_TOKEN}", body, content_type="application/json").status_code == 200
    )
    assert Message.objects.count() == 1


@pytest.mark.parametrize(
    ("body", "errcode"),
    [
        ("{", "M_NOT_JSON"),
        ("", "M_NOT_JSON"),
        (b"\xff\xfe", "M_NOT_JSON"),
        ("[" * 100_000, "M_NOT_JSON"),
        ("[]", "M_BAD_JSON"),
        ("{}", "M_BAD_JSON"),
        ('{"events": {}}', "M_BAD_JSON"),
        ('{"events": null}', "M_BAD_JSON"),
        ("null", "M_BAD_JSON"),
    ],
    ids=range(9),
)
def test_a_body_that_is_no_transaction(house: Stage, client: Any, body: Any, errcode: str) -> None:
    answer = house.push(client, body=body)
    assert (answer.status_code, answer.json()["errcode"]) == (400, errcode)
    assert Message.objects.count() == 0


def test_an_empty_transaction_is_fine(house: Stage, client: Any) -> None:
    assert (
        house.push(client, body='{"events": [], "ephemeral": [1], "de.sorunome.msc2409.to_device": null}').status_code
        == 200
    )


def test_a_transaction_that_is_too_large_is_not_even_parsed(
    house: Stage, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "MAX_BODY", 1000)
    assert house.push(client, event(house, "x" * 2000)).status_code == 413
    assert Message.objects.count() == 0


def test_a_large_transaction_is_taken(house: Stage, client: Any) -> None:
    assert house.push(client, *(event(house, f"{number} " + "y" * 20_000) for number in range(100))).status_code == 200
    assert list(Message.objects.order_by("seq").values_list("text", flat=True)[:2]) == [
        "0 " + "y" * 20_000,
        "1 " + "y" * 20_000,
    ]
    assert Message.objects.count() == 100


def test_other_methods_and_parts_of_the_interface(house: Stage, client: Any) -> None:
    headers = {"Authorization": f"Bearer {HS_TOKEN}"}
    assert client.get("/_matrix/app/v1/transactions/1", headers=headers).status_code == 405
    assert client.get("/_matrix/app/v1/thirdparty/protocol/irc", headers=headers).json()["errcode"] == "M_UNRECOGNIZED"
    assert client.get("/_matrix/app/v1/ping", headers=headers).status_code == 405
    assert (
        client.post("/_matrix/app/v1/ping", "{}", content_type="application/json", headers=headers).status_code == 200
    )
    assert client.post("/_matrix/app/v1/ping", "{}", content_type="application/json").status_code == 401


def test_without_a_homeserver_nobody_may_call(house: Stage, client: Any) -> None:
    body = event(house)
    Service.objects.filter(kind="homeserver").update(enabled=False)
    assert house.push(client, body).status_code == 403


def test_user_queries_make_agents_accounts(house: Stage, client: Any) -> None:
    headers = {"Authorization": f"Bearer {HS_TOKEN}"}
    user = house.mapping().account.user_id

    def ask(name: str) -> int:
        return int(client.get(f"/_matrix/app/v1/users/{name}", headers=headers).status_code)

    house.fake.lose_account(user)
    assert ask(user.replace("@", "%40").replace(":", "%3A")) == 200
    assert user in house.fake.users
    assert ask(f"@switchboard:{SERVER_NAME}") == 200
    assert ask(f"@agent_nobody:{SERVER_NAME}") == 404
    assert ask("%00") == 404
    Agent.objects.update(state="archived")
    assert ask(user) == 404
    assert client.get(f"/_matrix/app/v1/users/{user}").status_code == 401


def test_room_queries_make_agents_rooms(house: Stage, client: Any) -> None:
    headers = {"Authorization": f"Bearer {HS_TOKEN}"}
    alias = house.room().alias
    Room.objects.filter(kind="agent").update(room_id=None)
    house.fake.aliases.pop(alias)
    path = "/_matrix/app/v1/rooms/" + alias.replace("#", "%23")
    assert client.get(path, headers=headers).status_code == 200
    assert house.fake.aliases[alias] == house.room().room_id
    made = len(house.fake.rooms)
    assert client.get(path, headers=headers).status_code == 200
    assert len(house.fake.rooms) == made
    assert client.get("/_matrix/app/v1/rooms/%23nobody:x", headers=headers).status_code == 404


def test_a_homeserver_that_does_not_answer_a_query_back(house: Stage, client: Any) -> None:
    house.fake.fail("register", times=5, status=502)
    answer = client.get(
        f"/_matrix/app/v1/users/{house.mapping().account.user_id}", headers={"Authorization": f"Bearer {HS_TOKEN}"}
    )
    assert answer.status_code == 503


def test_a_database_failure_is_not_acknowledged(house: Stage, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    said = [event(house, "One"), event(house, "Two")]

    def broken(*arguments: Any, **named: Any) -> None:
        raise DatabaseError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(store_module, "lane_of", broken)
        assert house.push(client, *said).status_code == 503
    assert (Message.objects.count(), Turn.objects.count()) == (0, 0), "all or nothing"
    assert house.push(client, *said).status_code == 200
    assert Message.objects.count() == 2


def test_what_could_not_be_stored_does_not_count_as_seen(
    house: Stage, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = event(house)

    def broken(*arguments: Any, **named: Any) -> None:
        raise DatabaseError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(store_module, "lane_of", broken)
        house.push(client, said)
    assert house.room().last_event_id != said["event_id"]
    house.push(client, said)
    assert house.room().last_event_id == said["event_id"]


# Once, and in order


def test_the_same_event_again_is_one_message(house: Stage, client: Any) -> None:
    said = event(house)
    for txn in ("1", "1", "2"):
        assert house.push(client, said, said, txn=txn).status_code == 200
    assert (Message.objects.count(), Turn.objects.count()) == (1, 1)


def test_transactions_out_of_order_lose_nothing(house: Stage, client: Any) -> None:
    one, two, three = (event(house, text) for text in ("One", "Two", "Three"))
    for txn, said in (("3", three), ("1", one), ("2", two), ("1", one)):
        house.push(client, said, txn=txn)
    assert sorted(Message.objects.values_list("text", flat=True)) == ["One", "Three", "Two"]
    assert sorted(Message.objects.values_list("seq", flat=True)) == [1, 2, 3]


@pytest.mark.django_db(transaction=True)
def test_the_same_event_in_many_threads_at_once_is_one_message(house: Stage) -> None:
    said = [event(house, f"Number {number}") for number in range(5)]
    for _ in range(3):
        results = in_threads(6, lambda number: house.receive(*said))
        assert [result for result in results if isinstance(result, BaseException)] == []
    assert (Message.objects.count(), Turn.objects.count(), Conversation.objects.count()) == (5, 5, 1)
    assert list(Message.objects.order_by("seq").values_list("seq", flat=True)) == [1, 2, 3, 4, 5]


@pytest.mark.django_db(transaction=True)
def test_the_real_path_through_the_pool_of_threads(stage: Stage, client: Any) -> None:
    stage.enters(stage.agent())
    said = event(stage)
    results = in_threads(2, lambda number: stage.push(type(client)(), said, txn=str(number)).status_code)
    assert results == [200, 200]
    assert Message.objects.count() == 1
    close = views._pool.submit
    for future in [
        close(lambda: (time.sleep(0.05), __import__("django.db").db.connections.close_all())) for _ in range(4)
    ]:
        future.result()


# Bad and unusual events


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
    from chat.matrix import events

    parse = events.parse_message

    def parse_or_break(raw: Any) -> Any:
        if raw["content"].get("body") == "poison":
            raise ZeroDivisionError
        return parse(raw)

    monkeypatch.setattr(events, "parse_message", parse_or_break)
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


def edit_of(house: Stage, said: dict[str, Any], text: str, person: str = ALICE) -> dict[str, Any]:
    return event(
        house,
        f"* {text}",
        person,
        **{
            "m.new_content": {"msgtype": "m.text", "body": text},
            "m.relates_to": {"rel_type": "m.replace", "event_id": said["event_id"]},
        },
    )


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
    one, two = Message.objects.order_by("seq").values_list("text", flat=True)
    assert one == "[image “cat.png” (image/png, 12,345 bytes); its content cannot be passed on]"
    assert two == "Look!\n[file “a.pdf” (unknown type); its content cannot be passed on]"


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


# Direct chats


def invitation_to(house: Stage, person: str) -> tuple[str, dict[str, Any]]:
    room = house.fake.new_room(person)
    user = house.mapping().account.user_id
    invitation = house.fake._state(room, "m.room.member", user, {"membership": "invite", "is_direct": True}, person)
    return room.room_id, invitation


def test_an_agent_follows_an_invitation_and_answers_there(house: Stage) -> None:
    direct, invitation = invitation_to(house, ALICE)
    house.receive(invitation)
    assert house.fake.rooms[direct].membership(house.mapping().account.user_id) == "join"
    house.receive(house.fake.person_says(direct, ALICE, "Psst"))
    house.drain()
    assert house.fake.shown(direct) == ["Psst", "You said: Psst"]
    assert house.fake.messages_of(direct)[-1]["sender"] == house.mapping().account.user_id
    assert Room.objects.get(room_id=direct).kind == "direct"
    assert Conversation.objects.count() == 1, "the agent's own room has not been spoken in"
    for _, action in house.courtesies:
        action()
    assert house.sync().plan.steps == []


def test_an_invitation_and_the_first_words_in_one_transaction(house: Stage) -> None:
    direct, invitation = invitation_to(house, ALICE)
    house.receive(invitation, house.fake.person_says(direct, ALICE, "Psst"))
    assert Message.objects.get().text == "Psst"


def test_a_strangers_invitation_is_not_followed(house: Stage) -> None:
    direct, invitation = invitation_to(house, STRANGER)
    house.receive(invitation, house.fake.person_says(direct, STRANGER, "Psst"))
    assert house.fake.rooms[direct].membership(house.mapping().account.user_id) == "invite"
    assert not Room.objects.filter(kind="direct").exists()
    assert refused() == {"unknown_room": 1}


def test_an_operator_may_let_other_servers_invite(house: Stage) -> None:
    Service.objects.filter(kind="homeserver").update(
        options={"server_name": SERVER_NAME, "accept_invites_from": ["elsewhere.test"]}
    )
    direct, invitation = invitation_to(house, STRANGER)
    house.receive(invitation)
    assert Room.objects.filter(room_id=direct, kind="direct").exists()
    local, invitation = invitation_to(house, ALICE)
    house.receive(invitation)
    assert not Room.objects.filter(room_id=local).exists()


def test_an_invitation_that_cannot_be_followed_now_comes_again(house: Stage, client: Any) -> None:
    direct, invitation = invitation_to(house, ALICE)
    house.fake.fail("join", times=1, status=429, errcode="M_LIMIT_EXCEEDED", retry_after_ms=10)
    assert house.push(client, invitation).status_code == 503
    assert house.push(client, invitation).status_code == 200
    assert Room.objects.filter(room_id=direct).exists()


def test_an_invitation_that_was_withdrawn_is_forgotten(house: Stage) -> None:
    direct, invitation = invitation_to(house, ALICE)
    house.fake.rooms.pop(direct)
    house.receive(invitation)
    assert not Room.objects.filter(kind="direct").exists()


# Courtesies


def test_a_read_receipt_goes_out_unless_the_answer_overtakes_it(house: Stage, room_id: str) -> None:
    said = event(house)
    house.receive(said)
    [(_, read)] = house.courtesies
    read()
    assert house.fake.receipts == [(room_id, house.mapping().account.user_id, said["event_id"])]
    house.courtesies.clear()
    house.receive(event(house, "Second"))
    [(_, read), *_] = house.courtesies
    house.drain()
    read()
    assert len(house.fake.receipts) == 1
    assert Delivery.objects.filter(state="sent").count() == 2


def test_typing_shows_while_a_turn_runs(house: Stage, room_id: str) -> None:
    house.says(house.fresh(), "Hello")

    def look(request: Any) -> None:
        for _, action in list(house.courtesies):
            action()

    house.world.script(look, "Hi")
    house.run_turns()
    user = house.mapping().account.user_id
    assert house.fake.typing == [(room_id, user, True)]
    for _, action in list(house.courtesies):
        action()
    assert house.fake.typing[-1] == (room_id, user, False)
