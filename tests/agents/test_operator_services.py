"""What operators decide about rooms: putting an agent back on the homeserver adopts what is there and doubles nothing."""

from __future__ import annotations

from typing import Any

import pytest

from agents.matrix.errors import MatrixError
from agents.models import Invitation, Room
from agents.services.rooms import mapping_recreate
from ops.models import AuditEvent
from tests.support.stage import _fake_homeserver, stage

__all__ = ["_fake_homeserver", "stage"]

pytestmark = pytest.mark.django_db(transaction=True)


def made(stage: Any) -> int:
    return len(stage.fake.rooms)


def test_what_is_there_is_kept(stage: Any) -> None:
    agent = stage.agent()
    room_id, rooms = agent.mapping.room.room_id, made(stage)
    done = mapping_recreate(mapping=agent.mapping, actor="person:ada")
    assert (done.account, done.room, done.room_id) == ("adopted", "kept", room_id)
    assert made(stage) == rooms
    event = AuditEvent.objects.get(action="mapping.recreated")
    assert event.actor == "person:ada"


def test_a_room_that_is_gone_gets_a_new_one_and_the_address(stage: Any) -> None:
    agent = stage.agent()
    room = agent.mapping.room
    former = room.room_id
    stage.says(agent, "before the loss")
    with stage.fake.lock:
        del stage.fake.rooms[former]
        del stage.fake.aliases[room.alias]
    done = mapping_recreate(mapping=agent.mapping, actor="person:ada")
    assert (done.room, done.former_room_id) == ("created", former)
    room.refresh_from_db()
    assert room.room_id == done.room_id != former
    assert room.in_space
    assert stage.fake.aliases[room.alias] == room.room_id
    space = Room.objects.get(kind="space")
    assert stage.fake.children(space.room_id) == {room.room_id}
    again = mapping_recreate(mapping=agent.mapping, actor="person:ada")
    assert (again.room, again.room_id) == ("kept", room.room_id)


def test_a_lost_account_is_made_again_and_enters_its_room(stage: Any) -> None:
    agent = stage.agent()
    rooms = made(stage)
    stage.fake.lose_account(agent.mapping.account.user_id)
    done = mapping_recreate(mapping=agent.mapping, actor="person:ada")
    assert done.account == "registered"
    assert done.room in {"kept", "rejoined"}
    assert made(stage) == rooms
    assert stage.fake.users[agent.mapping.account.user_id]["displayname"] == "Ada"


def test_a_lost_space_is_made_again_and_lists_the_room(stage: Any) -> None:
    agent = stage.agent()
    space = Room.objects.get(kind="space")
    with stage.fake.lock:
        del stage.fake.rooms[space.room_id]
        del stage.fake.aliases[space.alias]
    mapping_recreate(mapping=agent.mapping, actor="person:ada")
    former = space.room_id
    space.refresh_from_db()
    assert space.room_id != former
    assert stage.fake.children(space.room_id) == {agent.mapping.room.room_id}


def test_a_homeserver_that_is_away_changes_nothing_and_says_so(stage: Any) -> None:
    agent = stage.agent()
    room_id = agent.mapping.room.room_id
    stage.fake.fail("joined_rooms", status=502, times=50)
    with pytest.raises(MatrixError):
        mapping_recreate(mapping=agent.mapping, actor="person:ada")
    mapping = stage.mapping()
    assert mapping.room.room_id == room_id
    assert mapping.problem
    assert not AuditEvent.objects.filter(action="mapping.recreated").exists()
    stage.fake.faults.clear()
    mapping_recreate(mapping=mapping, actor="person:ada")
    assert stage.mapping().problem == ""
    assert not Invitation.objects.filter(room=mapping.room, state="failed").exists()
