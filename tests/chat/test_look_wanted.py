"""Events that say that a room is no longer as we left it: the next sync looks at it, whosever turn it is."""

from __future__ import annotations

from typing import Any

import pytest

from agents.models import Room
from tests.support.stage import ALICE, BOB, Stage

pytestmark = pytest.mark.django_db


def wanted(stage: Stage, kind: str, key: str, content: dict[str, Any], sender: str) -> bool:
    """Whether the event asks for a look."""
    room = stage.room()
    Room.objects.filter(pk=room.pk).update(look_wanted_at=None)
    event = {
        "type": kind, "state_key": key, "content": content, "sender": sender, "room_id": room.room_id,
        "event_id": f"${kind}.{key}.{sender}", "origin_server_ts": 1,
    }  # fmt: skip
    stage.receive(event)
    return stage.room().look_wanted_at is not None


def test_what_others_change_is_looked_at_and_what_we_did_is_not(stage: Stage) -> None:
    agent = stage.agent()
    own = agent.mapping.account.user_id
    kicked, there = {"membership": "leave"}, {"membership": "join", "displayname": "Ada"}
    for kind, key, content, sender, looked in (
        ("m.room.member", own, kicked, ALICE, True),
        ("m.room.member", own, kicked, own, True),
        ("m.room.member", own, there, own, False),
        ("m.room.member", own, {**there, "displayname": "Eve"}, own, True),
        ("m.room.member", BOB, kicked, ALICE, True),
        ("m.room.member", BOB, kicked, BOB, False),
        ("m.room.member", BOB, {"membership": "join"}, BOB, False),
        ("m.room.name", "", {"name": "The pub"}, ALICE, True),
        ("m.room.name", "", {"name": "Ada"}, ALICE, False),
        ("m.room.name", "", {"name": "Ada"}, own, False),
        ("m.room.power_levels", "", {"users": {}}, ALICE, True),
        ("m.room.power_levels", "", {"users": {}}, own, False),
        ("m.room.tombstone", "", {"replacement_room": "!next"}, own, True),
        ("m.room.pinned_events", "", {"pinned": []}, ALICE, False),
    ):
        assert wanted(stage, kind, key, content, sender) is looked, (kind, key, content, sender)


def test_the_next_pass_looks_and_forgets_the_wish(stage: Stage) -> None:
    agent = stage.agent()
    room = stage.fake.rooms[str(agent.mapping.room.room_id)]
    room.state[("m.room.name", "")]["content"] = {"name": "The pub"}
    assert wanted(stage, "m.room.name", "", {"name": "The pub"}, ALICE)
    stage.sync(trigger="beat")
    report = stage.sync(trigger="beat")
    assert report.plan.steps == []
    assert room.state[("m.room.name", "")]["content"] == {"name": "Ada"}
    assert stage.room().look_wanted_at is None
