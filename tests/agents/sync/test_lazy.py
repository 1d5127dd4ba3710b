"""Agents that get account and address at once, and their room when somebody first looks for it."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from django.utils import timezone

from agents.models import Account, Agent, Mapping, Room
from agents.services.rooms import room_wanted
from agents.sync import bulk
from chat.matrix.queries import room_exists, user_exists
from ops.models import AuditEvent, Service
from tests.support.fake_homeserver import SERVER_NAME
from tests.support.stage import ALICE, BOB, Stage

pytestmark = pytest.mark.django_db
NAMES = [f"A{number}" for number in range(7)]


@pytest.fixture
def lazy(stage: Stage, monkeypatch: Any) -> Stage:
    stage.homeserver(options={"server_name": SERVER_NAME, "rooms": "lazy"})
    stage.service()
    monkeypatch.setattr(bulk, "SLICE", 3)
    stage.lists("scripts", *NAMES)
    return stage


def service() -> Service:
    return Service.objects.get(kind="homeserver")


def test_accounts_and_names_but_no_rooms(lazy: Stage) -> None:
    report = lazy.sync()
    assert report.findings == []
    assert report.applied == {
        "space.create": 1, "agent.create": 7, "mapping.create": 7, "account.register": 7, "account.profile": 7,
    }  # fmt: skip
    kinds = [call.kind for call in lazy.fake.requests if call.kind in ("register", "profile_put")]
    assert kinds[-8:] == ["register", *["profile_put"] * 7], "all can be found before the first is called by its name"
    assert len(lazy.fake.rooms) == 1
    assert AuditEvent.objects.filter(action="agent.created").count() == 7
    asked = len(lazy.fake.requests)
    assert lazy.sync().plan.steps == []
    assert {call.method for call in lazy.fake.requests[asked:]} == {"GET"}, "it looks, and writes nothing"


def test_an_account_that_fails_is_made_by_the_next_pass(lazy: Stage) -> None:
    lazy.fake.fail("register", status=500, times=1)
    first = lazy.sync()
    assert first.findings
    assert lazy.sync().findings == []
    assert Account.objects.filter(registered_at=None).count() == 0
    assert Agent.objects.count() == Mapping.objects.count() == 7
    assert lazy.sync().plan.steps == []


def test_first_contact_makes_the_room_once(lazy: Stage, settings: Any) -> None:
    settings.MATRIX_INVITE = [ALICE]
    settings.MATRIX_ROOMS = "lazy"
    lazy.sync()
    mapping = lazy.mapping("A3")
    assert mapping.room is not None
    assert mapping.status == "ready"
    assert room_exists(service(), mapping.room.alias) is True
    assert room_exists(service(), mapping.room.alias) is True
    assert room_exists(service(), f"#agent_nobody:{SERVER_NAME}") is False
    assert len(lazy.fake.calls("createRoom")) == 2, "the space and this one"
    assert lazy.mapping("A3").status == "connected"
    room = lazy.fake.rooms[str(lazy.room("A3").room_id)]
    assert room.membership(ALICE) == "invite"
    assert room.room_id in lazy.fake.children(str(Room.objects.get(kind="space").room_id))
    assert lazy.sync().plan.steps == []
    settings.MATRIX_INVITE = [ALICE, BOB]
    assert [step.kind for step in lazy.sync().plan.steps] == ["invite", "invite"], "to the space and to the one room"
    assert room_wanted(mapping=lazy.mapping("A3"), actor="test").room_id == room.room_id


def test_an_account_that_is_asked_for_is_there_with_its_name(lazy: Stage) -> None:
    lazy.fake.fail("profile_put", status=500, times=50)
    lazy.sync()
    lazy.fake.faults.clear()
    account = lazy.mapping("A1").account
    assert user_exists(service(), account.user_id) is True
    assert lazy.fake.users[account.user_id]["displayname"] == "A1"


def test_rows_that_are_lost_stop_sync_although_there_are_no_rooms(lazy: Stage) -> None:
    lazy.sync()
    for model in (Mapping, Account, Room, Agent):
        model.objects.all().delete()
    report = lazy.sync()
    assert report.state == "stopped"
    assert [finding.code for finding in report.findings] == ["sync.state_lost"]
    assert not Room.objects.exists()


def test_a_homeserver_that_has_lost_everything_stops_sync_and_is_filled_with_force(stage: Stage) -> None:
    stage.homeserver()
    stage.service()
    stage.lists("scripts", *NAMES)
    stage.sync()
    former = {name: stage.room(name).room_id for name in NAMES}
    stage.fake.reset()
    stage.fake._numbers = itertools.count(1000)
    report = stage.sync()
    assert (report.state, report.plan.steps) == ("stopped", [])
    assert [finding.code for finding in report.findings] == ["sync.homeserver_empty"]
    assert stage.fake.users == {}
    report = stage.sync(dry_run=True, force=True)
    assert report.plan.counts["room.create"] == 7
    assert Account.objects.filter(registered_at=None).count() == 0, "a dry run changes nothing"
    report = stage.sync(force=True)
    assert report.findings == []
    for name in NAMES:
        room = stage.room(name)
        assert room.room_id != former[name]
        assert room.predecessors == [former[name]]
        assert stage.fake.aliases[room.alias] == room.room_id
    assert len(stage.fake.rooms) == 8
    assert stage.sync().plan.steps == []
    assert AuditEvent.objects.get(action="homeserver.refilled").after["rooms"] == 8


def test_one_lost_account_stops_nothing(stage: Stage) -> None:
    stage.homeserver()
    stage.service()
    stage.lists("scripts", *NAMES)
    stage.sync()
    stage.fake.lose_account(stage.mapping("A2").account.user_id)
    assert stage.sync().state == "done"


def test_what_is_told_again_is_not_answered(stage: Stage) -> None:
    agent = stage.agent("Ada")
    stage.enters(agent)
    stage.says(agent, "Who are you?")
    stage.drain()
    asked = len(stage.world.requests)
    stage.fake.reset()
    stage.sync(force=True)
    room = stage.fake.rooms[str(stage.room("Ada").room_id)]
    told = [event for event in room.events if event["type"] == "m.room.message"]
    assert [event["content"]["body"] for event in told][1:] == ["**alice:** Who are you?", "You said: Who are you?"]
    assert told[2]["sender"] == stage.mapping("Ada").account.user_id
    assert all(event["content"]["m.letta_historical"] for event in told)
    stage.receive(*told)
    stage.drain()
    assert len(stage.world.requests) == asked
    assert timezone.now() > stage.room("Ada").created_at
