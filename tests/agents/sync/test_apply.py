"""Sync against a homeserver: everything once, adopted when it is there already, and whole again after any crash."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from agents.backends.base import AgentInfo
from agents.backends.errors import BackendUnavailable
from agents.models import Account, Agent, Invitation, Mapping, Room, SyncRun, SyncState
from agents.services import sync as sync_service
from ops.models import AuditEvent, Service
from tests.support.fake_homeserver import SERVER_NAME
from tests.support.stage import ALICE, BOB, Stage

pytestmark = pytest.mark.django_db

ADA = f"#agent_scripts__id-ada:{SERVER_NAME}".replace("id-ada", "id_ada")
SPACE = f"#agent_space:{SERVER_NAME}"


def assert_whole(house: Stage, *names: str, people: tuple[str, ...] = ()) -> None:
    """Rows and homeserver agree: one account, one room, one place in the space for each agent, everybody invited."""
    fake = house.fake
    assert set(Agent.objects.exclude(state="archived").values_list("name", flat=True)) == set(names)
    assert len(fake.users) == len(names) + 1
    assert len(fake.rooms) == len(names) + 1, "no room may be doubled"
    assert Room.objects.count() == len(names) + 1
    assert Account.objects.count() == len(names)
    space = Room.objects.get(kind="space")
    assert fake.aliases[SPACE] == space.room_id
    children = fake.children(str(space.room_id))
    for name in names:
        mapping = house.mapping(name)
        room = fake.rooms[str(mapping.room.room_id)]
        assert fake.aliases[mapping.room.alias] == room.room_id
        assert room.room_id in children
        assert room.creator == mapping.account.user_id
        assert room.membership(mapping.account.user_id) == "join"
        assert fake.users[mapping.account.user_id]["displayname"] == name
        assert room.state[("m.room.name", "")]["content"] == {"name": name}
        assert mapping.status == "connected"
    for room in Room.objects.all():
        for person in people:
            assert fake.rooms[str(room.room_id)].membership(person) == "invite"
            assert Invitation.objects.get(room=room, user_id=person).state == "invited"
    assert len(children) == len(names)


def test_everything_is_made_once(house: Stage, settings: Any) -> None:
    settings.MATRIX_INVITE = [ALICE, BOB]
    house.lists("scripts", "Ada", "Bea", "Cy", description="Helps")
    report = house.sync()
    assert report.state == SyncState.DONE
    assert report.findings == []
    assert report.applied["agent.create"] == 3
    assert_whole(house, "Ada", "Bea", "Cy", people=(ALICE, BOB))
    room = house.fake.rooms[str(house.room().room_id)]
    assert room.state[("m.room.topic", "")]["content"] == {"topic": "Chat with Ada. Helps"}
    assert house.fake.calls("alias_delete") == []


def test_an_unchanged_pass_only_looks_and_writes_its_own_row_only(house: Stage, settings: Any) -> None:
    settings.MATRIX_INVITE = [ALICE]
    counts = []
    for number in (3, 40):
        house.lists("scripts", *(f"A{one}" for one in range(number)))
        house.sync()
        asked = len(house.fake.requests)
        with CaptureQueriesContext(
            connection,
        ) as queries:
            report = house.sync()
        assert report.plan.steps == []
        looked = house.fake.requests[asked:]
        assert {call.method for call in looked} == {"GET"}
        assert len(looked) <= 4 * number + 6, "a handful of requests for each mapping, and a few for the space"
        writes = [query["sql"] for query in queries if re.match(r"\s*(INSERT|UPDATE|DELETE)", query["sql"])]
        assert [re.search(r'"(\w+)"', sql)[1] for sql in writes] == ["agents_syncrun"] * 2  # type: ignore[index]
        counts.append(len(queries))
    assert counts[0] == counts[1], "the number of queries must not grow with the number of agents"
    run = SyncRun.objects.first()
    assert (run.counts, run.plan, run.findings) == ({}, [], [])


def test_everything_is_adopted_when_the_database_was_lost(house: Stage, settings: Any) -> None:
    settings.MATRIX_INVITE = [ALICE, BOB]
    house.lists("scripts", "Ada", "Bea")
    house.sync()
    house.fake.person_joins(str(house.room().room_id), ALICE)
    rooms = {
        mapping.agent.external_id: mapping.room.room_id for mapping in Mapping.objects.select_related("agent", "room")
    }
    Mapping.objects.all().delete()
    Account.objects.all().delete()
    Room.objects.all().delete()
    Agent.objects.all().delete()
    house.fake.requests.clear()
    house.sync()
    found = {
        mapping.agent.external_id: mapping.room.room_id for mapping in Mapping.objects.select_related("agent", "room")
    }
    assert found == rooms
    assert len(house.fake.rooms) == 3
    assert house.fake.calls("invite") == [], "everybody was invited before"
    assert Invitation.objects.get(room=house.room(), user_id=ALICE).state == "joined"
    house.fake.requests.clear()
    assert house.sync().plan.steps == []
    assert AuditEvent.objects.filter(action="room.adopted").count() == 2


def test_an_adopted_space_gets_the_name_that_is_wanted(house: Stage) -> None:
    house.sync()
    Room.objects.all().delete()
    Service.objects.filter(kind="homeserver").update(options={"server_name": SERVER_NAME, "space_name": "Team"})
    house.sync()
    space = house.fake.room_of(SPACE)
    assert space.state[("m.room.name", "")]["content"] == {"name": "Team"}
    assert Room.objects.get(kind="space").name == "Team"


def test_a_half_made_room_behind_the_alias_is_replaced(house: Stage) -> None:
    """A createRoom that was killed after the alias: the room has nobody in it."""
    house.lists("scripts", "Ada")
    ghost = house.fake.new_room("@agent_ghost:" + SERVER_NAME)
    ghost.state.pop(("m.room.member", ghost.creator))
    house.fake.aliases[ADA] = ghost.room_id
    house.sync()
    assert house.room().alias == ADA
    assert house.room().room_id != ghost.room_id
    assert house.fake.aliases[ADA] == house.room().room_id


def test_an_alias_that_leads_nowhere_is_taken_back(house: Stage) -> None:
    house.lists("scripts", "Ada")
    house.fake.aliases[ADA] = "!gone"
    report = house.sync()
    assert report.findings == []
    assert house.fake.aliases[ADA] == house.room().room_id


@pytest.mark.parametrize("half_made", [False, True])
def test_a_refused_invitee_does_not_cost_the_room(house: Stage, settings: Any, half_made: bool) -> None:
    settings.MATRIX_INVITE = [ALICE, BOB]
    house.fake.unknown_people = {BOB}
    house.fake.half_made_rooms = half_made
    house.lists("scripts", "Ada")
    report = house.sync()
    assert report.findings == []
    assert len(house.fake.rooms) == 2
    room = house.fake.rooms[str(house.room().room_id)]
    assert room.membership(ALICE) == "invite"
    assert room.membership(BOB) == ""
    refused = Invitation.objects.get(room=house.room(), user_id=BOB)
    assert (refused.state, refused.attempts) == ("failed", 1)
    assert "cannot be invited" in refused.error
    # No loop: it is left alone until its time has come, then tried once, and the pause grows.
    assert house.sync().plan.steps == []
    Invitation.objects.filter(pk=refused.pk).update(not_before=timezone.now() - timedelta(seconds=1))
    assert [step.kind for step in house.sync().plan.steps] == ["invite"]
    first, refused = refused.not_before, Invitation.objects.get(pk=refused.pk)
    assert refused.attempts == 2
    assert refused.not_before - timezone.now() > timedelta(seconds=90)
    assert first is not None
    house.fake.unknown_people = set()
    Invitation.objects.filter(user_id=BOB).update(not_before=None)
    house.sync()
    assert set(Invitation.objects.values_list("state", flat=True)) == {"invited"}


def test_a_refused_token_is_not_a_refused_person(house: Stage, settings: Any) -> None:
    house.lists("scripts", "Ada")
    house.sync()
    settings.MATRIX_INVITE = [ALICE]
    house.fake.token = "another"
    report = house.sync()
    assert report.state == SyncState.FAILED
    assert "token" in report.error
    assert Invitation.objects.count() == 0
    assert len(house.fake.calls("invite")) == 1


def test_rename_archive_and_return(house: Stage) -> None:
    house.lists("scripts", "Ada", "Bea")
    house.sync()
    room_id, space_id = str(house.room().room_id), str(Room.objects.get(kind="space").room_id)
    ada, bea = house.world.agents["scripts"]
    house.world.agents["scripts"] = [type(ada)(ada.external_id, "Ada Lovelace", "Counts"), bea]
    house.sync()
    user = house.mapping("Ada Lovelace").account.user_id
    assert house.fake.users[user]["displayname"] == "Ada Lovelace"
    assert house.fake.rooms[room_id].state[("m.room.name", "")]["content"] == {"name": "Ada Lovelace"}
    house.world.agents["scripts"] = [bea]
    house.sync()
    assert house.fresh("Ada Lovelace").state == "missing"
    Agent.objects.filter(state="missing").update(missing_since=timezone.now() - timedelta(minutes=1))
    house.sync()
    assert house.fresh("Ada Lovelace").state == "archived"
    assert house.fake.children(space_id) == {house.room("Bea").room_id}
    assert room_id in house.fake.rooms, "what was said there stays"
    assert house.sync().plan.steps == []
    house.world.agents["scripts"] = [ada, bea]
    house.sync()
    assert house.fresh().state == "active"
    assert room_id in house.fake.children(space_id)
    assert len(house.fake.rooms) == 3
    assert house.sync().plan.steps == []


def test_a_homeserver_that_is_down_is_a_finding_and_clears(house: Stage) -> None:
    house.lists("scripts", "Ada")
    house.sync()
    house.lists("scripts", "Ada", "Bea", "Cy", "Di", "Eve")
    house.fake.fail("register", times=99, status=502)
    report = house.sync()
    assert report.state == SyncState.FAILED
    assert "does not answer" in report.error
    assert len(house.fake.calls("register")) <= 6, "it gives up after a few"
    troubled = Mapping.objects.exclude(problem="")
    assert troubled.count() == 3
    assert troubled.first().status == "trouble"
    assert "does not answer" in troubled.first().problem
    house.fake.faults.clear()
    report = house.sync()
    assert report.state == SyncState.DONE
    assert Mapping.objects.exclude(problem="").count() == 0
    assert_whole(house, "Ada", "Bea", "Cy", "Di", "Eve")


def test_a_homeserver_that_is_not_there_at_all(house: Stage) -> None:
    Service.objects.filter(kind="homeserver").update(base_url="http://127.0.0.1:9", options={})
    house.lists("scripts", "Ada")
    report = house.sync()
    assert "does not answer" in " ".join(finding.sentence for finding in report.findings)
    assert house.fresh().state == "active", "agents are taken up all the same"


def test_without_a_homeserver_agents_are_taken_up(house: Stage) -> None:
    Service.objects.filter(kind="homeserver").delete()
    house.lists("scripts", "Ada")
    report = house.sync()
    assert [finding.code for finding in report.findings] == ["homeserver.none"]
    assert Agent.objects.get().name == "Ada"
    assert Mapping.objects.count() == 0


def test_a_rate_limit_leaves_the_rest_for_the_next_pass(house: Stage) -> None:
    house.lists("scripts", "Ada", "Bea")
    house.fake.fail("createRoom", status=429, errcode="M_LIMIT_EXCEEDED", retry_after_ms=100)
    report = house.sync()
    assert "M_LIMIT_EXCEEDED" in report.findings[0].sentence
    house.sync()
    assert_whole(house, "Ada", "Bea")


def test_one_agents_trouble_does_not_stop_the_others(house: Stage) -> None:
    house.lists("scripts", "Ada", "Bea")
    house.fake.fail("profile_put", status=400, errcode="M_UNKNOWN", error="no such name")
    report = house.sync()
    assert [finding.target for finding in report.findings] == ["Ada"]
    assert house.mapping("Bea").status == "connected"
    assert "no such name" in house.mapping("Ada").problem
    house.sync()
    assert_whole(house, "Ada", "Bea")


def test_a_service_that_cannot_be_read_does_not_stop_the_others(house: Stage) -> None:
    house.service("other")
    house.service("broken")
    house.lists("scripts", "Ada")
    house.lists("other", "Bea")
    house.sync()
    house.world.listing_error = {"scripts": BackendUnavailable("refused"), "broken": RuntimeError("a bug")}
    house.lists("other", "Bea", "Cy")
    report = house.sync()
    assert {finding.target: finding.code for finding in report.findings} == {
        "scripts": "backend.unavailable",
        "broken": "backend.crashed",
    }
    assert house.fresh().state == "active"
    assert house.mapping("Cy").status == "connected"


def test_two_letta_servers_with_the_same_agent_id(house: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    from agents.sync import rows

    homeserver = sync_service.open_homeserver()
    first = house.service("letta-a", "letta", base_url="http://127.0.0.1:1")
    second = house.service("letta-b", "letta", base_url="http://127.0.0.1:1")
    one = Agent.objects.create(service=first, external_id="agent-1", name="One")
    two = Agent.objects.create(service=second, external_id="agent-1", name="Two")
    users = [rows.reserve_mapping(homeserver, agent).account.localpart for agent in (one, two)]
    assert users[0] == "agent_1"
    assert users[1].startswith("agent_letta_b__")
    assert [rows.reserve_mapping(homeserver, agent).account.localpart for agent in (one, two)] == users


def test_what_a_deleted_agent_left_behind_is_taken_over(house: Stage) -> None:
    house.lists("scripts", "Ada")
    house.sync()
    room_id = house.room().room_id
    Agent.objects.all().delete()
    report = house.sync()
    assert report.findings == []
    assert house.room().room_id == room_id
    assert_whole(house, "Ada")


def test_odd_descriptions_settle(house: Stage) -> None:
    """Names and pictures that are too long, and text that a database or a homeserver would refuse."""
    odd = AgentInfo(
        "id-odd",
        "N\x00" * 400,
        "half \ud83d \x00",
        "data:image/png;base64," + "A" * 3000,
        "m\x00" * 300,
        {"a\x00": ["\x00b", {"c": "\ud83d", "d": 1.5, "e": None}]},
    )
    house.world.agents["scripts"] = [
        odd,
        AgentInfo("id-nameless", " \x00"),
        AgentInfo("i" * 256, "Too long"),
        AgentInfo("", "No id"),
    ]
    assert house.sync().findings == []
    assert house.sync().plan.steps == []
    agent = Agent.objects.get(external_id="id-odd")
    assert (agent.name, agent.description, agent.avatar_url) == ("N" * 255, "half \ufffd ", "")
    assert agent.metadata == {"a": ["b", {"c": "\ufffd", "d": 1.5, "e": None}]}
    assert Agent.objects.get(external_id="id-nameless").name == "id-nameless"
    assert Agent.objects.count() == 2


def test_a_picture_is_uploaded_once_and_a_bad_one_does_not_hurt(house: Stage) -> None:
    house.lists("scripts", "Ada", avatar_url="data:image/png;base64,iVBORw0KGgo=")
    house.lists("scripts", "Ada", "Bea", avatar_url="data:image/png;base64,iVBORw0KGgo=")
    house.sync()
    assert len(house.fake.media) == 2
    user = house.mapping().account.user_id
    assert house.fake.users[user]["avatar_url"].startswith("mxc://")
    house.lists("scripts", "Ada", "Bea", avatar_url="http://127.0.0.1:9/inside.png")
    assert house.sync().findings == []
    assert house.sync().plan.steps == []
