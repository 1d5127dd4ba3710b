"""Client mode's ear: what an answer of ``/sync`` becomes, in order and once, whatever is cut off or left out."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone

from agents.matrix.client import AppserviceClient
from agents.matrix.errors import RateLimited, Refused
from agents.models import Account, AccountSession, AccountWay, Room
from agents.services.backends import open_homeserver
from agents.services.sessions import operator_account
from chat.matrix import gaps, hearing, sync_loop, watch
from chat.matrix.sync_loop import Ear
from chat.models import Message, RefusedEvent, SyncCursor
from ops.models import Service
from tests.support.fake_homeserver import AS_TOKEN, SERVER_NAME
from tests.support.stage import ALICE, Stage

pytestmark = pytest.mark.django_db


class House:
    """Ada and Alice in a room that Switchboard's own account hears; ``answers`` is what the next syncs say."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.answers: list[dict[str, Any] | Exception] = []
        self.asked: list[str | None] = []

    @property
    def room_id(self) -> str:
        return str(self.stage.room().room_id)

    def sync(self, since: str | None) -> dict[str, Any]:
        self.asked.append(since)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def says(self, *texts: str) -> list[dict[str, Any]]:
        return [self.stage.fake.person_says(self.room_id, ALICE, text) for text in texts]

    def told(self, batch: str, *events: dict[str, Any], limited: bool = False, **rooms: Any) -> None:
        """The next answer: these events of Ada's room."""
        timeline = [{key: value for key, value in event.items() if key != "room_id"} for event in events]
        news = {self.room_id: {"timeline": {"events": timeline, "limited": limited}}} if events or limited else {}
        self.answers.append({"next_batch": batch, "rooms": {"join": news, **rooms}})

    def ear(self) -> Ear:
        return Ear(open_homeserver())

    def listening(self) -> Ear:
        """An ear that knows where it is."""
        ear = self.ear()
        self.told("s0")
        ear.once()
        watch.catch_up_rooms()
        return ear


@pytest.fixture
def house(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> House:
    for module in (sync_loop, watch):
        monkeypatch.setattr(module, "close_old_connections", lambda: None)
    stage.enters(stage.agent(), ALICE, f"@switchboard:{SERVER_NAME}")
    service = Service.objects.get(kind="homeserver")
    Service.objects.filter(pk=service.pk).update(options={**service.options, "mode": "client"})
    operator_account(open_homeserver())
    # The stage knows one token; whose it is does not matter here.
    Account.objects.update(
        secrets={"access_token": AS_TOKEN},
        session=AccountSession.GOOD,
        way=AccountWay.SESSION,
        registered_at=timezone.now(),
    )
    Room.objects.update(switchboard_joined=True)
    house = House(stage)
    monkeypatch.setattr(AppserviceClient, "sync", lambda self, user, since=None, wait=0, filter=None: house.sync(since))
    return house


def texts() -> list[str]:
    return list(Message.objects.filter(role="user").order_by("seq").values_list("text", flat=True))


def test_an_answer_becomes_messages_and_then_the_cursor_moves(house: House) -> None:
    ear = house.listening()
    house.told("s1", *house.says("one", "two"))
    assert ear.once() == 2
    assert texts() == ["one", "two"]
    assert SyncCursor.objects.get(user_id=ear.cursor.user_id).next_batch == "s1"
    house.stage.drain()
    assert [request.text for request in house.stage.world.requests] == ["one", "two"]


def test_what_a_crash_left_between_rows_and_cursor_is_read_again_and_stored_once(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    ear = house.listening()
    said = house.says("once")
    house.told("s1", *said)

    def crash(self: Ear, next_batch: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Ear, "_keep", crash)
        with pytest.raises(KeyboardInterrupt):
            ear.once()
    house.told("s1", *said)
    house.ear().once()
    assert house.asked[-2:] == ["s0", "s0"]
    assert texts() == ["once"]


def test_what_the_homeserver_left_out_is_walked_before_what_it_sent(house: House) -> None:
    ear = house.listening()
    *_, last = house.says("left out", "left out too", "sent")
    house.told("s1", last, limited=True)
    ear.once()
    assert texts() == ["left out", "left out too", "sent"]


def test_the_first_answer_is_only_where_we_are_and_rooms_are_walked_for_the_rest(house: House) -> None:
    ear = house.ear()
    said = house.says("before anybody listened")
    house.told("s0", *said)
    ear.once()
    assert texts() == []
    watch.catch_up_rooms()
    assert texts() == ["before anybody listened"]


def test_a_homeserver_that_does_not_know_the_cursor_is_listened_to_anew(house: House) -> None:
    ear = house.listening()
    epoch = gaps.current_epoch(Service.objects.get(kind="homeserver"))
    house.says("meanwhile")
    house.answers.append(Refused("Invalid stream token", errcode="M_UNKNOWN", status=400))
    assert ear.once() == 0
    house.told("t0")
    ear.once()
    assert house.asked[-2:] == ["s0", None]
    assert gaps.current_epoch(Service.objects.get(kind="homeserver")) > epoch
    watch.catch_up_rooms()
    assert texts() == ["meanwhile"]


def test_without_an_appservice_a_name_like_an_agents_may_be_a_persons(house: House) -> None:
    ear = house.listening()
    smith = f"@agent_smith:{SERVER_NAME}"
    house.stage.fake.person_joins(house.room_id, smith)
    house.told("s1", house.stage.fake.person_says(house.room_id, smith, "I am a person"))
    ear.once()
    assert texts() == ["I am a person"]
    assert not RefusedEvent.objects.filter(reason="own").exists()


def test_our_own_account_that_is_put_out_of_a_room_comes_back(house: House) -> None:
    ear = house.listening()
    house.told("s1", leave={house.room_id: {}})
    ear.once()
    assert not house.stage.room().switchboard_joined
    assert [room.room_id for room in hearing.unheard(ear.homeserver.service)] == [house.room_id]
    # Said while it was out: walked when it is back.
    house.says("is anybody there?")
    assert hearing.look_after(ear.homeserver) == 1
    assert house.stage.room().switchboard_joined
    assert texts() == ["is anybody there?"]


def test_an_account_that_was_made_anew_is_read_from_its_beginning(house: House) -> None:
    ear = house.listening()
    service = ear.homeserver.service
    agent = house.stage.mapping().account
    SyncCursor.objects.create(homeserver=service, user_id=agent.user_id, next_batch="a9")
    epoch = gaps.current_epoch(service)
    sync_loop.begin_anew(ear.homeserver, agent)
    assert not SyncCursor.objects.filter(user_id=agent.user_id).exists()
    assert gaps.current_epoch(service) == epoch, "an agent's account says nothing about what rooms missed"
    sync_loop.begin_anew(ear.homeserver, operator_account(ear.homeserver))
    assert SyncCursor.objects.get(user_id=ear.homeserver.sender_id).next_batch == ""
    assert gaps.current_epoch(service) > epoch
    # An ear that was open meanwhile notices: the answer to its old question counts for nothing.
    former = house.ear()
    former.cursor.next_batch = "s0"
    house.told("t1", *house.says("not from this answer"))
    assert former.once() == 0
    assert texts() == []
    assert former.cursor.next_batch == ""


def test_an_invitation_to_a_room_that_an_agent_makes_just_now_is_no_chat_of_a_person(house: House) -> None:
    ear = house.listening()
    agent, room = house.stage.mapping().account, house.stage.room()
    room_id = house.room_id
    Room.objects.filter(pk=room.pk).update(room_id=None, switchboard_joined=False)
    invitation = {
        "type": "m.room.member", "state_key": ear.homeserver.sender_id, "sender": agent.user_id,
        "content": {"membership": "invite"},
    }  # fmt: skip
    house.told("s1", invite={room_id: {"invite_state": {"events": [invitation]}}})
    ear.once()
    assert not Room.objects.filter(kind="direct").exists()
    Room.objects.filter(pk=room.pk).update(room_id=room_id)
    assert hearing.look_after(ear.homeserver) == 1


def test_a_limit_on_joins_holds_up_no_messages(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    ear = house.listening()
    Room.objects.filter(pk=house.stage.room().pk).update(switchboard_joined=False)
    limited = RateLimited("Too many", errcode="M_LIMIT_EXCEEDED", status=429, retry_after=10)

    def refuse(*_: Any, **__: Any) -> str:
        raise limited

    monkeypatch.setattr(AppserviceClient, "join", refuse)
    monkeypatch.setattr(hearing, "_wait_until", 0.0)
    invitation = {
        "type": "m.room.member", "state_key": ear.homeserver.sender_id,
        "sender": house.stage.mapping().account.user_id, "content": {"membership": "invite"},
    }  # fmt: skip
    house.told("s1", invite={house.room_id: {"invite_state": {"events": [invitation]}}})
    ear.once()
    assert SyncCursor.objects.get(user_id=ear.homeserver.sender_id).next_batch == "s1"
    # Meanwhile the room is read as its agent does.
    house.says("can you hear me?")
    assert hearing.look_after(ear.homeserver) == 0
    assert texts() == ["can you hear me?"]
