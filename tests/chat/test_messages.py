"""Saying something to an agent from anywhere but Matrix."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth import get_user_model

from agents.models import Agent, Room
from chat import tasks, wakeup, wiring
from chat.checks import dead_letters, turns_moving
from chat.models import Conversation, Message, Turn
from chat.schedule import beat
from chat.services.messages import CannotSend, conversation_open, message_send
from tests.support.stage import ALICE, Stage, in_threads

pytestmark = pytest.mark.django_db


def test_what_is_said_is_heard_in_the_agents_room(stage: Stage) -> None:
    agent = stage.agent()
    person = get_user_model().objects.create(username="carol", display_name="Carol")
    sent = message_send(agent=agent, text="Hello\x00 \ud83d", person=person)
    assert sent.turn is not None
    assert sent.repeated is False
    assert sent.message.text == "Hello �"
    assert sent.message.sender.person == person
    stage.drain()
    assert [text.rpartition("** ")[2] for text in stage.fake.shown(str(stage.room().room_id))] == [
        "Hello �",
        "You said: Hello �",
    ]
    assert stage.world.requests[0].speaker.name == "Carol"


def test_without_a_room_there_is_one_conversation_an_agent(stage: Stage) -> None:
    agent = stage.agent(homeserver=False)
    first, second = message_send(agent=agent, text="One"), message_send(agent=agent, text="Two")
    assert first.message.conversation == second.message.conversation
    apart = conversation_open(agent=agent, title="Apart", actor="op")
    third = message_send(agent=agent, text="Three", conversation=apart)
    assert third.message.conversation == apart
    assert Conversation.objects.count() == 2


def test_an_external_id_makes_a_repetition_one_message(stage: Stage) -> None:
    agent = stage.agent(homeserver=False)
    first = message_send(agent=agent, text="Hello", external_id="key-1")
    second = message_send(agent=agent, text="Hello", external_id="key-1")
    assert (second.repeated, second.message, second.turn) == (True, first.message, first.turn)
    message_send(agent=agent, text="Hello", external_id="key-1", transport="mcp")
    message_send(agent=agent, text="Hello")
    message_send(agent=agent, text="Hello")
    assert Message.objects.count() == 4


@pytest.mark.django_db(transaction=True)
def test_a_repetition_at_the_same_moment_is_one_message(stage: Stage) -> None:
    agent = stage.agent(homeserver=False)
    message_send(agent=agent, text="First")
    sent = in_threads(6, lambda number: message_send(agent=agent, text="Hello", external_id="key-1"))
    assert not any(isinstance(one, BaseException) for one in sent)
    assert sorted(one.repeated for one in sent) == [False] + [True] * 5
    assert len({one.turn.pk for one in sent}) == 1
    assert Turn.objects.count() == 2


@pytest.mark.parametrize("text", ["", "  \n", "\x00"])
def test_nothing_is_not_said(stage: Stage, text: str) -> None:
    with pytest.raises(CannotSend) as caught:
        message_send(agent=stage.agent(homeserver=False), text=text)
    assert caught.value.code == "message.empty"


def test_an_archived_agent_hears_nothing(stage: Stage) -> None:
    agent = stage.agent(homeserver=False)
    Agent.objects.update(state="archived")
    agent.refresh_from_db()
    with pytest.raises(CannotSend) as caught:
        message_send(agent=agent, text="Hello")
    assert caught.value.code == "agent.archived"
    assert Message.objects.count() == 0


def test_who_speaks_to_one_agent_is_heard_in_a_quiet_room(stage: Stage) -> None:
    agent = stage.agent()
    Room.objects.update(quiet=True)
    assert message_send(agent=agent, text="Hello").turn is not None


@pytest.mark.django_db(transaction=True)
def test_workers_are_woken_after_the_commit(stage: Stage) -> None:
    agent = stage.agent()
    sent = message_send(agent=agent, text="Hello")
    assert sent.turn is not None
    assert stage.woken_turns == [sent.turn.pk]
    assert len(stage.woken_deliveries) == 1, "the words are shown in the room"


def test_a_lost_wake_up_is_no_failure_and_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []

    def broken(task: str, arguments: Any, **named: Any) -> None:
        told.append(arguments)
        raise ConnectionError("the broker is down")

    monkeypatch.setattr(wakeup.current_app, "send_task", broken)
    monkeypatch.setattr(wakeup, "_broker_rests_until", 0.0)
    few = tuple(range(wakeup.AT_ONCE))
    wakeup.wake_turns([*few, 100])
    wakeup.wake_deliveries([3])
    assert told == [few], "the broker is left alone for a while"
    monkeypatch.setattr(wakeup, "_broker_rests_until", 0.0)
    wakeup.wake_deliveries([3])
    assert told == [few, (3,)]


def test_tasks_do_what_their_names_say(stage: Stage) -> None:
    agent = stage.agent()
    room_id = stage.enters(agent)
    stage.says(agent, "Hello")
    tasks.sweep.run()
    tasks.run_turn.run(Turn.objects.get().pk)
    tasks.run_turn.run(Turn.objects.get().pk)
    tasks.run_turn.run(999_999)
    tasks.deliver.run(999_999)
    tasks.catch_up.run()
    tasks.prune.run()
    assert stage.fake.shown(room_id) == ["Hello", "You said: Hello"]
    assert {entry["task"] for entry in beat().values()} >= {"chat.sweep", "chat.catch_up", "chat.prune"}


def test_operators_with_a_matrix_account_are_invited(stage: Stage) -> None:
    people = get_user_model().objects
    people.create(username="op", is_staff=True, matrix_user_id=ALICE)
    people.create(username="gone", is_staff=True, is_active=False, matrix_user_id="@gone:fake.test")
    people.create(username="user", matrix_user_id="@user:fake.test")
    people.create(username="web", is_staff=True)
    assert wiring.operators_on_matrix() == [ALICE]
    stage.agent()
    assert {call.body.get("invite", [None])[0] for call in stage.fake.calls("createRoom")} == {ALICE}


def test_checks_see_what_is_stuck_and_what_is_dead(stage: Stage) -> None:
    from datetime import timedelta

    from django.utils import timezone

    assert turns_moving().status == dead_letters().status == "pass"
    sent = message_send(agent=stage.agent(homeserver=False), text="Hello")
    Turn.objects.update(not_before=timezone.now() - timedelta(minutes=2))
    assert turns_moving().status == "fail"
    Agent.objects.update(paused=True)
    assert turns_moving().status == "pass"
    Turn.objects.filter(pk=sent.turn.pk).update(state="dead")
    assert dead_letters().status == "fail"
