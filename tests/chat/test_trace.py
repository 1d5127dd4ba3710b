"""Why is it silent? The way of a message, hop by hop, in each state that it can be in; and finding the agent one means."""

from __future__ import annotations

from typing import Any

import pytest

from agents.backends.errors import BackendRejected, BackendUnavailable
from agents.models import Agent, Room
from chat.models import Delivery, Message, Turn
from chat.queries import find_agents
from chat.services.pruning import prune_refused
from chat.services.turns import turn_cancel
from chat.trace import trace, traces
from chat.turns import claim
from tests.support.stage import ALICE, Stage

pytestmark = pytest.mark.django_db


@pytest.fixture
def house(stage: Stage) -> Stage:
    stage.enters(stage.agent())
    return stage


def hops(message: Message | None = None) -> list[tuple[str, str]]:
    return [(hop.name, hop.lamp) for hop in trace(message or Message.objects.filter(role="user").latest("pk"))]


def last(message: Message | None = None) -> Any:
    return trace(message or Message.objects.filter(role="user").latest("pk"))[-1]


BEGINNING = [("said", "good"), ("received", "good"), ("stored", "good")]


def test_a_message_that_was_answered(house: Stage) -> None:
    house.says(house.fresh(), "Hello")
    house.drain()
    found = trace(Message.objects.get(role="user"))
    assert [(hop.name, hop.lamp) for hop in found] == [
        *BEGINNING, ("started", "good"), ("first_token", "good"), ("finished", "good"), ("delivered", "good")
    ]  # fmt: skip
    assert found[-1].label == "Delivered to Ada"
    times = [hop.at for hop in found[1:]]
    assert times == sorted(times)  # type: ignore[type-var]
    assert all(hop.after_ms is not None and hop.after_ms >= 0 for hop in found[2:])


def test_a_message_that_waits(house: Stage) -> None:
    house.says(house.fresh(), "One")
    assert hops() == [*BEGINNING, ("started", "working")]
    assert last().note == "Waiting for a worker."
    first = claim.load(Turn.objects.get().pk)
    assert first is not None
    house.says(house.fresh(), "Two")
    claim.claim_turn(first)
    assert last().note == "The agent is busy with an earlier message."
    assert last(first.message).note == "The agent is answering."
    Agent.objects.update(paused=True)
    assert last().note == "The agent is paused."


def test_a_message_that_is_tried_again(house: Stage) -> None:
    house.world.script(BackendUnavailable("502 from there"))
    house.says(house.fresh(), "Hello")
    house.run_turns()
    assert last().lamp == "trouble"
    assert "Tried 1 time;" in last().note
    assert "502 from there" in last().note
    house.hurry()
    house.run_turns()
    assert next(hop for hop in trace(Message.objects.get(role="user")) if hop.name == "started").note == "Attempt 2."


def test_a_message_that_failed(house: Stage) -> None:
    house.world.script(BackendRejected("400 bad input"))
    house.says(house.fresh(), "Hello")
    house.drain()
    finished = next(hop for hop in trace(Message.objects.get(role="user")) if hop.name == "finished")
    assert (finished.lamp, finished.note, finished.label) == ("trouble", "400 bad input", "Failed")


def test_a_message_that_was_stopped(house: Stage) -> None:
    house.says(house.fresh(), "Hello")
    turn_cancel(turn=Turn.objects.get(), actor="alice")
    assert (last().label, last().lamp) == ("Stopped", "off")


def test_a_message_whose_agent_waits_for_approval(house: Stage) -> None:
    house.says(house.fresh(), "Hello")
    Turn.objects.update(state="waiting_approval")
    assert (last().lamp, last().note) == ("working", "The agent waits for somebody's approval.")


@pytest.mark.parametrize(("state", "lamp"), [("queued", "working"), ("dead", "trouble"), ("discarded", "off")])
def test_an_answer_that_was_not_delivered(house: Stage, state: str, lamp: str) -> None:
    house.says(house.fresh(), "Hello")
    house.run_turns()
    Delivery.objects.update(state=state, sent_at=None)
    assert (last().name, last().lamp, last().at) == ("delivered", lamp, None)
    Delivery.objects.update(state="streaming")
    assert last().name == "finished"


def test_a_message_that_was_not_to_be_answered(house: Stage) -> None:
    Room.objects.update(quiet=True)
    said = house.says(house.fresh(), "Hello")
    assert (last().lamp, last().label) == ("trouble", "Not answered")
    assert "quiet" in last().note
    house.receive({"type": "m.room.redaction", "room_id": said["room_id"], "event_id": "$r", "sender": ALICE, "redacts": said["event_id"]})  # fmt: skip
    assert last().note == "Its sender took it back."
    Message.objects.update(state="stored", guard="")
    assert last().note == "Nobody was to answer it."


def test_many_messages_cost_no_more_than_one(house: Stage, django_assert_num_queries: Any) -> None:
    for number in range(6):
        house.says(house.fresh(), f"Number {number}")
    house.drain()
    messages = list(Message.objects.filter(role="user"))
    with django_assert_num_queries(2):
        assert len(traces(messages)) == 6


def test_agents_are_found_by_what_people_call_them(house: Stage) -> None:
    bea = house.agent("Bea Smith")
    ada = house.fresh()
    user = bea.mapping.account.user_id
    for name in ("Bea Smith", "bea smith", bea.external_id, user, str(bea.pk), "smith"):
        assert [agent.name for agent in find_agents(name)] == ["Bea Smith"], name
    assert {agent.name for agent in find_agents("a")} == {"Ada", "Bea Smith"}
    for odd in ("", "²", "٣", "9" * 40, "nobody", "%", "_"):
        assert isinstance(list(find_agents(odd)), list)
    assert list(find_agents("nobody")) == []
    Agent.objects.filter(pk=ada.pk).update(state="archived")
    assert list(find_agents("Ada")) == []


def test_notes_about_refused_events_are_forgotten_in_time(house: Stage) -> None:
    from datetime import timedelta

    from django.utils import timezone

    from chat.models import RefusedEvent

    house.receive({"room_id": "!elsewhere", "event_id": "$1", "type": "m.room.message", "sender": ALICE})
    assert prune_refused() == 0
    RefusedEvent.objects.update(at=timezone.now() - timedelta(days=15))
    assert prune_refused() == 1
