"""What an answer looks like in a room: whole, in few events, harmless, and from the right account."""

from __future__ import annotations

import re
from typing import Any

import pytest

from agents.models import Account, Agent
from chat.deliveries import run as delivery_run
from chat.deliveries.run import DeliveryFailed, run_delivery
from chat.matrix.deliver import MAX_EVENTS
from chat.models import Delivery, Message
from chat.services.messages import message_send
from tests.chat.deliveries.helpers import answered, sent
from tests.support.fake_homeserver import SERVER_NAME
from tests.support.stage import Stage

pytestmark = pytest.mark.django_db


def paragraphs(count: int) -> str:
    return "\n\n".join(f"Paragraph {number}: " + "word " * 800 for number in range(count))


def test_a_long_answer_is_cut_into_events_in_order(house: Stage, room_id: str) -> None:
    text = paragraphs(20)
    answered(house, "Hello", text)
    house.run_deliveries()
    events = sent(house, room_id)
    assert 2 <= len(events) <= MAX_EVENTS
    assert re.findall(r"Paragraph \d+", " ".join(event["content"]["body"] for event in events)) == [
        f"Paragraph {number}" for number in range(20)
    ]
    assert all(len(str(event["content"]).encode()) < 65_000 for event in events)


def test_a_very_long_answer_goes_along_as_a_file(house: Stage, room_id: str) -> None:
    text = paragraphs(200).strip()
    answered(house, "Hello", text)
    house.run_deliveries()
    events = sent(house, room_id)
    assert len(events) == MAX_EVENTS
    whole = events[-1]["content"]
    assert (whole["msgtype"], whole["filename"]) == ("m.file", "answer.md")
    assert house.fake.media[whole["url"]].decode() == text


@pytest.mark.parametrize("at", range(2, 12))
def test_a_long_answer_goes_on_where_it_stopped(house: Stage, room_id: str, at: int) -> None:
    delivery = answered(house, "Hello", paragraphs(200))
    house.fake.fail("send", times=at, slow=0.0)
    house.fake.fail("send", times=1, status=502)
    for _ in range(4):
        house.hurry()
        house.run_deliveries()
    delivery.refresh_from_db()
    assert delivery.state == "sent"
    events = sent(house, room_id)
    assert len(events) == MAX_EVENTS
    assert len({event["content"]["body"] for event in events}) == MAX_EVENTS


def test_a_long_answer_after_a_preview_stays_within_its_events(house: Stage, room_id: str) -> None:
    delivery = answered(house, "Hello", paragraphs(100))
    shown = house.fake.add(room_id, house.mapping().account.user_id, {"msgtype": "m.text", "body": "Paragraph"})
    Delivery.objects.update(shown=[{"txn": "t", "event_id": shown["event_id"], "digest": "x"}], edits=9)
    house.run_deliveries()
    delivery.refresh_from_db()
    assert delivery.state == "sent"
    assert 9 + len(sent(house, room_id)) <= MAX_EVENTS
    assert sent(house, room_id)[-1]["content"]["msgtype"] == "m.file"


def test_hostile_markup_is_disarmed(house: Stage, room_id: str) -> None:
    answered(
        house,
        "Hello",
        "**bold** <script>alert(1)</script> <img src=x onerror=y> [x](javascript:alert(1)) <mx-reply>q</mx-reply>",
    )
    house.run_deliveries()
    content = sent(house, room_id)[0]["content"]
    assert "<strong>bold</strong>" in content["formatted_body"]
    for bad in ("<script", "<img", 'href="javascript', "<mx-reply"):
        assert bad not in content["formatted_body"]


def test_a_persons_words_from_elsewhere_are_shown_by_switchboard(house: Stage, room_id: str) -> None:
    message_send(agent=house.fresh(), text="Hello from the API", speaker_name="Carol *x* <b>", speaker_id="carol")
    house.drain()
    mirror, answer = sent(house, room_id)
    assert mirror["sender"] == f"@switchboard:{SERVER_NAME}"
    assert mirror["content"]["body"] == "**Carol x b:** Hello from the API"
    assert mirror["content"]["formatted_body"].startswith("<p><strong>Carol x b:</strong>")
    assert answer["sender"] == house.mapping().account.user_id
    house.receive(mirror, answer)
    assert Message.objects.count() == 2, "our own words coming back are nothing new"
    assert house.room().switchboard_joined is True
    invited = len(house.fake.calls("invite"))
    message_send(agent=house.fresh(), text="Again", speaker_id="carol")
    house.drain()
    assert len(house.fake.calls("invite")) == invited, "it comes in once"
    assert len(sent(house, room_id)) == 4


def test_an_answer_points_to_its_question_only_where_it_is_unclear(house: Stage, room_id: str) -> None:
    house.says(house.fresh(), "First")
    asked = house.says(house.fresh(), "Second")
    house.drain()
    first, second = sent(house, room_id)
    assert "m.in_reply_to" in str(first["content"]["m.relates_to"])
    assert second["content"]["m.relates_to"]["m.in_reply_to"]["event_id"] == asked["event_id"]
    house.says(house.fresh(), "Third")
    house.drain()
    assert "m.relates_to" not in sent(house, room_id)[-1]["content"]


def test_the_target_may_be_another_one(house: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    from chat.deliveries.run import register_target

    monkeypatch.setattr(delivery_run, "_handlers", dict(delivery_run._handlers))
    tried: list[int] = []

    def hook(row: Delivery) -> dict[str, Any]:
        tried.append(row.attempts)
        raise DeliveryFailed("closed", code="hook.closed", retry_after=3)

    register_target("webhook", hook)
    delivery = answered(house)
    Delivery.objects.update(target="webhook")
    run_delivery(delivery.pk)
    delivery.refresh_from_db()
    assert (delivery.state, delivery.attempts, delivery.error_code) == ("queued", 1, "hook.closed")
    assert Account.objects.count() == Agent.objects.count() == 1
    assert tried == [1]
