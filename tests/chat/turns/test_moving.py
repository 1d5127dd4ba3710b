"""An agent moves to another server: account, room and conversation stay, the new server is told what was said, the old one is left alone."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.management import CommandError, call_command

from agents.models import Agent, Drift, Mapping, Room
from agents.services.moving import CannotMove, agent_move, agent_release
from agents.sync.takeover import MARK
from chat.models import Conversation, Message, Turn
from ops.models import AuditEvent, Service
from tests.chat.turns.helpers import KEEPS
from tests.support.stage import Stage

pytestmark = pytest.mark.django_db


def made(stage: Stage, kind: str = "scripted") -> tuple[Agent, Service]:
    """Ada in her room, who was asked something, and another server that lists ``id-new``."""
    ada = stage.agent("Ada")
    stage.enters(ada)
    stage.says(ada, "Who are you?")
    stage.drain()
    service = stage.service("elsewhere", kind)
    stage.lists(service, "New")
    return stage.fresh("Ada"), service


def place(agent: Agent) -> tuple[int, int, str | None]:
    mapping = Mapping.objects.get(agent=agent)
    assert mapping.room is not None
    return mapping.account_id, mapping.room.pk, mapping.room.room_id


@pytest.mark.parametrize("kind", ["scripted", KEEPS])
def test_another_server_answers_in_the_same_room_and_knows_what_was_said(stage: Stage, kind: str) -> None:
    ada, service = made(stage, kind)
    before, rooms = place(ada), len(stage.fake.rooms)
    agent_move(agent=ada, service=service, external_id="id-new", actor="person:olga")
    report = stage.sync()
    assert set(report.plan.counts) <= {"account.profile", "room.describe"}, "only its name follows the new server"
    assert not Drift.objects.exists(), "a name that is not written yet is no drift"
    ada = Agent.objects.get(pk=ada.pk)
    assert (ada.name, ada.service, ada.external_id, ada.state) == ("New", service, "id-new", "active")
    assert place(ada) == before
    assert len(stage.fake.rooms) == rooms
    stage.world.requests.clear()
    stage.says(stage.fresh("New"), "And now?")
    stage.says(stage.fresh("New"), "Still there?")
    stage.drain()
    asked = [(one.agent_external_id, one.text, [item.text for item in one.history]) for one in stage.world.requests]
    earlier = ["Who are you?", "You said: Who are you?"]
    later = [] if kind == KEEPS else [*earlier, "And now?"]
    assert asked[0] == ("id-new", "And now?", earlier)
    assert asked[1][1] == "Still there?"
    assert asked[1][2][: len(later)] == later
    if kind == KEEPS:
        assert asked[1][2] == [], "it keeps the history itself from now on"
    assert Conversation.objects.count() == 1
    assert Message.objects.filter(role="assistant").count() == 3
    assert AuditEvent.objects.get(action="agent.moved").before == {
        "service": "scripted-service",
        "external_id": "id-ada",
    }


def test_a_room_says_whose_it_is_when_names_do_not_any_more(stage: Stage) -> None:
    ada, service = made(stage)
    agent_move(agent=ada, service=service, external_id="id-new", actor="test")
    account = Mapping.objects.get(agent=ada).account.user_id
    mark = {"service": "elsewhere", "agent": "id-new", "account": account}
    room = stage.fake.rooms[str(place(ada)[2])]
    space = stage.fake.rooms[str(Room.objects.get(kind="space").room_id)]
    assert room.state[(MARK, "")]["content"] == mark
    assert space.state[("m.space.child", room.room_id)]["content"][MARK] == mark
    # Home again: the name says it all.
    agent_move(agent=ada, service=Service.objects.get(name="scripted-service"), external_id="id-ada", actor="test")
    assert room.state[(MARK, "")]["content"] == {}
    assert MARK not in space.state[("m.space.child", room.room_id)]["content"]
    assert stage.sync().plan.counts.get("agent.create") is None


def test_what_is_left_behind_is_taken_up_only_when_it_is_released(stage: Stage) -> None:
    ada, service = made(stage)
    agent_move(agent=ada, service=service, external_id="id-new", actor="test")
    stage.sync()
    assert stage.sync().plan.steps == []
    left = Agent.objects.get(service__name="scripted-service", external_id="id-ada")
    assert (left.state, left.name) == ("archived", "Ada (moved)")
    agent_release(agent=left, actor="test")
    report = stage.sync()
    assert report.findings == []
    again = Mapping.objects.select_related("account", "room").get(agent=left)
    assert again.account.user_id != Mapping.objects.get(agent=ada).account.user_id
    assert again.room is not None
    assert again.room.room_id
    assert stage.sync().plan.steps == []


def test_two_rooms_need_a_word_which_goes_on(stage: Stage) -> None:
    ada, service = made(stage)
    stage.sync()
    other = Agent.objects.get(service=service)
    own, theirs = place(ada), place(other)
    with pytest.raises(CannotMove, match="has a room already"):
        agent_move(agent=ada, service=service, external_id="id-new", actor="test")
    agent_move(agent=ada, service=service, external_id="id-new", actor="test", keep="theirs")
    other.refresh_from_db()
    assert (place(ada), place(other)) == (theirs, own)
    assert (other.external_id, other.state) == ("id-ada", "archived")
    agent_move(
        agent=ada, service=Service.objects.get(name="scripted-service"), external_id="id-ada", actor="test", keep="own"
    )
    assert place(ada) == theirs


def test_what_cannot_be_done_is_said(stage: Stage) -> None:
    ada, service = made(stage)
    with pytest.raises(CannotMove, match="lists no agent 'id-nobody'"):
        agent_move(agent=ada, service=service, external_id="id-nobody", actor="test")
    with pytest.raises(CannotMove, match="is on scripted-service already"):
        agent_move(agent=ada, service=ada.service, external_id="id-ada", actor="test")
    Turn.objects.update(state="running")
    with pytest.raises(CannotMove, match="is answering just now"):
        agent_move(agent=ada, service=service, external_id="id-new", actor="test")
    assert Agent.objects.get(pk=ada.pk).external_id == "id-ada"


def test_the_command_moves(stage: Stage, capsys: Any) -> None:
    ada, service = made(stage)
    with pytest.raises(CommandError, match="no service named 'nowhere'"):
        call_command("move_agent", "Ada", to="nowhere")
    call_command("move_agent", "Ada", to="elsewhere", external_id="id-new")
    assert "is answered by elsewhere now" in capsys.readouterr().out
    assert Agent.objects.get(pk=ada.pk).service == service
