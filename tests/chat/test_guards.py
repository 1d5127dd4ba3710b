"""Guards keep a message from being answered, never from being kept, and tell a person so at most once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from agents.models import Room
from chat.models import Delivery, Message, Turn
from chat.services.messages import CannotSend, message_send
from tests.support.stage import ALICE, BOB, Stage

pytestmark = pytest.mark.django_db


@pytest.fixture
def house(stage: Stage) -> Stage:
    """Ada and Bea; Alice is in both rooms, and each agent's account is in the other's room as well."""
    for name in ("Ada", "Bea"):
        stage.enters(stage.agent(name), ALICE)
    stage.fake.person_joins(str(stage.room("Ada").room_id), stage.mapping("Bea").account.user_id)
    return stage


def held() -> list[str]:
    return list(Message.objects.filter(state="held").order_by("seq").values_list("guard", flat=True))


def as_bea(house: Stage, text: str) -> None:
    """Another program lets Bea's account speak in Ada's room."""
    house.says(house.fresh("Ada"), text, house.mapping("Bea").account.user_id)


def test_agents_may_answer_each_other_a_few_times(house: Stage, settings: Any) -> None:
    settings.MAX_HOPS = 3
    house.says(house.fresh("Ada"), "Talk to each other")
    for number in range(5):
        as_bea(house, f"Round {number}")
        house.drain()
    messages = Message.objects.filter(sender__kind="agent", role="user").order_by("seq")
    assert [message.hop for message in messages] == [1, 2, 3, 4, 5]
    assert held() == ["hop_limit", "hop_limit"]
    assert len(house.world.requests) == 4
    assert house.world.requests[1].speaker.kind == "agent"
    assert house.world.requests[1].speaker.name == "Bea"
    assert not Message.objects.filter(role="notice").exists(), "machines are not told"
    # A person speaks, and they may go on.
    house.says(house.fresh("Ada"), "Go on")
    as_bea(house, "Gladly")
    house.drain()
    assert len(house.world.requests) == 6


def test_agents_may_not_flood_a_conversation(house: Stage, settings: Any) -> None:
    settings.MAX_HOPS, settings.AGENT_REPLIES_PER_MINUTE = 100, 3
    for number in range(5):
        as_bea(house, f"Flood {number}")
    assert held() == ["reply_limit"] * 2
    Turn.objects.update(created_at=timezone.now() - timedelta(minutes=2))
    as_bea(house, "Later")
    assert len(held()) == 2


def test_the_same_words_to_many_agents_are_a_flood(house: Stage, settings: Any) -> None:
    settings.FANOUT_LIMIT = 4
    agents = [house.agent(f"N{number}") for number in range(8)]
    for agent in agents:
        house.enters(agent, ALICE)
        house.says(agent, "Dear all")
    assert held() == ["fan_out"] * 4
    assert Turn.objects.count() == 4
    assert Message.objects.filter(role="notice").count() == 1, "told once, not once a room"
    house.drain()
    notice = Message.objects.get(role="notice")
    assert "more than 4 agents" in notice.text
    house.says(agents[7], "Only you")
    house.says(agents[6], "Dear all", BOB)
    assert len(held()) == 4


def test_fan_out_is_seen_by_every_process(house: Stage, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process has seen some of the messages only; the rows know them all."""
    from chat.intake import guards

    settings.FANOUT_LIMIT = 4
    for number in range(6):
        agent = house.agent(f"N{number}")
        house.enters(agent, ALICE)
        if number == 4:
            recent = guards._RecentTexts()
            recent.note(ALICE, "Dear all", 999)
            monkeypatch.setattr(guards, "_recent", recent)
        house.says(agent, "Dear all")
    assert held() == ["fan_out"] * 2


def test_the_recent_texts_are_bounded() -> None:
    from chat.intake.guards import _RecentTexts

    recent = _RecentTexts(limit=3)
    for number in range(10):
        assert recent.note("a", str(number), 1) == 1
    assert recent.note("a", "9", 2) == 2
    assert recent.note("a", "0", 2) == 1


def test_a_quiet_room_answers_when_the_agent_is_mentioned(house: Stage) -> None:
    ada = house.fresh("Ada")
    Room.objects.filter(mapping__agent=ada).update(quiet=True)
    house.says(ada, "Just between us")
    house.says(ada, "What does ADA think?")
    house.says(ada, "And you?", **{"m.mentions": {"user_ids": [ada.mapping.account.user_id]}})
    house.says(ada, "Not you", **{"m.mentions": {"user_ids": [BOB]}})
    assert held() == ["quiet", "quiet"]
    assert Turn.objects.count() == 2
    assert not Message.objects.filter(role="notice").exists(), "a quiet room is quiet"
    house.drain()
    history = house.world.requests[0].history
    assert [item.text for item in history] == ["Just between us"], "what was said is known all the same"


def test_a_message_that_is_too_long_is_kept_and_told(house: Stage, settings: Any) -> None:
    settings.MAX_MESSAGE_CHARS = 1000
    room_id = str(house.room("Ada").room_id)
    said = house.fake.person_says(room_id, ALICE, "x" * 1001)
    house.receive(said)
    house.receive(said)
    house.drain()
    message = Message.objects.get(guard="too_long")
    assert len(message.text) == 1001
    notices = [event for event in house.fake.messages_of(room_id) if event["content"]["msgtype"] == "m.notice"]
    assert len(notices) == 1
    assert "1,001 characters" in notices[0]["content"]["body"]
    assert house.world.requests == []
    house.says(house.fresh("Ada"), "x" * 1000)
    assert Turn.objects.count() == 1


def test_what_an_api_caller_says_is_guarded_too(house: Stage, settings: Any) -> None:
    settings.MAX_MESSAGE_CHARS = 1000
    ada = house.fresh("Ada")
    for _ in range(2):
        with pytest.raises(CannotSend, match=r"1,001 characters|too_long") as caught:
            message_send(agent=ada, text="x" * 1001, external_id="same")
        assert caught.value.code == "guard.too_long"
    assert Message.objects.filter(role="user").count() == 1


def test_a_conversation_without_an_agent_keeps_what_is_said(house: Stage) -> None:
    room_id = str(house.room("Ada").room_id)
    house.says(house.fresh("Ada"), "Hello")
    Delivery.objects.all().delete()
    Room.objects.filter(room_id=room_id).update(kind="direct")
    house.mapping("Ada").delete()
    Turn.objects.all().delete()
    house.receive(house.fake.person_says(room_id, ALICE, "Anybody?"))
    assert held() == ["no_agent"]
