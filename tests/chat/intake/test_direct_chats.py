"""Agents follow invitations of their homeserver's people; and the small courtesies of a room."""

from __future__ import annotations

from typing import Any

import pytest

from agents.models import Room
from chat.models import Conversation, Delivery, Message
from ops.models import Service
from tests.chat.intake.helpers import event, refused
from tests.support.fake_homeserver import SERVER_NAME
from tests.support.stage import ALICE, STRANGER, Stage

pytestmark = pytest.mark.django_db


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
