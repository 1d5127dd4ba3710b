"""The outbox: in order, once, through outages and crashes, and a dead letter when nothing helps."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from agents.models import Room
from chat.deliveries import run as delivery_run
from chat.deliveries.run import run_delivery
from chat.deliveries.txn import txn_id
from chat.matrix.deliver import ATTEMPTS_WHEN_SHUT_OUT
from chat.models import Delivery
from chat.services.deliveries import delivery_discard, delivery_retry
from chat.services.turns import WrongState
from chat.turns import sweep
from ops.models import AuditEvent, Service
from tests.chat.deliveries.helpers import answered, sent
from tests.support.stage import ALICE, Stage, in_threads

pytestmark = pytest.mark.django_db


def test_an_answer_comes_from_the_agents_account(house: Stage, room_id: str) -> None:
    delivery = answered(house)
    house.run_deliveries()
    delivery.refresh_from_db()
    assert delivery.state == "sent"
    assert delivery.sent_at is not None
    [event] = sent(house, room_id)
    assert event["sender"] == house.mapping().account.user_id
    assert event["content"]["msgtype"] == "m.text"
    assert event["content"]["switchboard"]["turn"] == delivery.turn_id
    assert delivery.shown[0]["event_id"] == event["event_id"]
    house.run_deliveries()
    run_delivery(delivery.pk)
    assert len(sent(house, room_id)) == 1


def test_transaction_ids_are_deterministic(house: Stage) -> None:
    delivery = answered(house)
    house.run_deliveries()
    calls = [call for call in house.fake.calls("send") if call.query.get("device_id")]
    assert {call.path.rsplit("/", 1)[-1] for call in calls} == {txn_id(delivery, "part0")}
    assert re.fullmatch(rf"sb\.{delivery.pk}\.[0-9a-f]+\.part0", txn_id(delivery, "part0"))
    later = Delivery(pk=delivery.pk, created_at=delivery.created_at + timedelta(seconds=1))
    assert txn_id(later, "part0") != txn_id(delivery, "part0"), "a restored database meets no future ids"


@pytest.mark.parametrize("lost", ["answer", "row"])
def test_a_crash_after_sending_makes_no_second_event(house: Stage, room_id: str, lost: str) -> None:
    delivery = answered(house)
    if lost == "answer":
        house.fake.fail("device", times=1, status=502)
        run_delivery(delivery.pk)
        house.hurry()
        house.fake.fail("send", times=1, reset=True)
        run_delivery(delivery.pk)
        house.hurry()
        house.fake.fail("send", times=2, reset=True)
    else:
        with pytest.MonkeyPatch.context() as patch:

            def dies(*arguments: Any, **named: Any) -> None:
                raise KeyboardInterrupt

            patch.setattr(delivery_run, "_end", dies)
            with pytest.raises(KeyboardInterrupt):
                run_delivery(delivery.pk)
        Delivery.objects.update(lease_until=timezone.now() - timedelta(seconds=1), worker="elsewhere:1:1")
        assert sweep.sweep()["freed_deliveries"] == 1
    house.run_deliveries()
    house.hurry()
    house.run_deliveries()
    delivery.refresh_from_db()
    assert delivery.state == "sent"
    assert len(sent(house, room_id)) == 1


def test_a_room_is_told_in_order(house: Stage, room_id: str) -> None:
    first, second, third = (answered(house, text) for text in ("One", "Two", "Three"))
    run_delivery(third.pk)
    assert sent(house, room_id) == []
    house.fake.fail("send", times=1, status=502)
    run_delivery(first.pk)
    run_delivery(second.pk)
    assert sent(house, room_id) == [], "whoever waits holds its place"
    house.hurry()
    run_delivery(first.pk)
    assert [event["content"]["body"] for event in sent(house, room_id)] == [
        "You said: One",
        "You said: Two",
        "You said: Three",
    ]


@pytest.mark.django_db(transaction=True)
def test_workers_at_once_send_each_answer_once(stage: Stage) -> None:
    stage.enters(stage.agent())
    rows = [answered(stage, f"Number {number}") for number in range(4)]
    results = in_threads(8, lambda number: [run_delivery(row.pk) for row in rows])
    assert not any(isinstance(result, BaseException) for result in results)
    stage.run_deliveries()
    room_id = str(stage.room().room_id)
    assert [event["content"]["body"] for event in sent(stage, room_id)] == [
        f"You said: Number {number}" for number in range(4)
    ]


OUTAGES: list[tuple[dict[str, Any], str]] = [
    ({"status": 502}, "HTTP 502"),
    ({"status": 429, "errcode": "M_LIMIT_EXCEEDED", "retry_after_ms": 30_000}, "M_LIMIT_EXCEEDED"),
    ({"status": 401, "errcode": "M_UNKNOWN_TOKEN"}, "M_UNKNOWN_TOKEN"),
    ({"garbage": True}, "HTTP 200"),
]


@pytest.mark.parametrize(("fault", "code"), OUTAGES, ids=[one[1] for one in OUTAGES])
def test_an_outage_uses_up_no_attempt(
    house: Stage, room_id: str, fault: dict[str, Any], code: str, settings: Any
) -> None:
    settings.DELIVERY_ATTEMPTS = 2
    delivery = answered(house)
    if fault.get("status") == 502:
        fault = {**fault, "errcode": ""}
    house.fake.fail("send", times=1000, **fault)
    for _ in range(6):
        house.hurry()
        before = timezone.now()
        run_delivery(delivery.pk)
        delivery.refresh_from_db()
        assert (delivery.state, delivery.attempts, delivery.error_code) == ("queued", 0, code)
        assert (delivery.not_before - before).total_seconds() > (29 if fault.get("retry_after_ms") else 1)
        assert ("wake_deliveries", delivery.pk) == house.timers[-1][:2]
    house.fake.faults.clear()
    house.hurry()
    house.run_deliveries()
    delivery.refresh_from_db()
    assert (delivery.state, delivery.error_code) == ("sent", "")
    assert len(sent(house, room_id)) == 1


def test_an_event_that_the_homeserver_fails_on_holds_its_room_up_for_a_while_only(
    house: Stage, room_id: str, settings: Any
) -> None:
    settings.DELIVERY_ATTEMPTS = 3
    poison, after = answered(house), answered(house)
    house.fake.fail("send", times=3, status=500)
    for _ in range(3):
        house.hurry()
        run_delivery(poison.pk)
    poison.refresh_from_db()
    assert (poison.state, poison.attempts, poison.error_code) == ("dead", 3, "M_UNKNOWN")
    house.run_deliveries()
    after.refresh_from_db()
    assert after.state == "sent"
    assert len(sent(house, room_id)) == 1


def test_a_homeserver_that_is_not_there(house: Stage) -> None:
    delivery = answered(house)
    Service.objects.filter(kind="homeserver").update(base_url="http://127.0.0.1:9")
    run_delivery(delivery.pk)
    delivery.refresh_from_db()
    assert (delivery.state, delivery.attempts) == ("queued", 0)
    assert "does not answer" in delivery.error_reason


def test_a_room_that_is_not_made_yet_waits(house: Stage) -> None:
    delivery = answered(house)
    Room.objects.filter(kind="agent").update(room_id=None)
    run_delivery(delivery.pk)
    delivery.refresh_from_db()
    assert (delivery.state, delivery.attempts, delivery.error_code) == ("queued", 0, "delivery.no_room")


def test_a_lost_account_is_made_again_and_walks_back_in(house: Stage, room_id: str) -> None:
    delivery = answered(house)
    account = house.mapping().account
    house.fake.lose_account(account.user_id)
    house.run_deliveries()
    delivery.refresh_from_db()
    assert delivery.state == "sent"
    assert len(sent(house, room_id)) == 1
    house.sync()
    assert house.fake.users[account.user_id]["displayname"] == "Ada", "its name comes back with the next sync"


def test_an_account_that_was_shut_out_gives_up_after_a_few(house: Stage, room_id: str) -> None:
    delivery = answered(house)
    account = house.mapping().account.user_id
    room = house.fake.rooms[room_id]
    house.fake._state(room, "m.room.member", account, {"membership": "ban"}, ALICE)
    for _ in range(10):
        house.hurry()
        run_delivery(delivery.pk)
    delivery.refresh_from_db()
    assert (delivery.state, delivery.attempts) == ("dead", ATTEMPTS_WHEN_SHUT_OUT)
    assert delivery.error_code == "M_FORBIDDEN"
    # The next answer is not held up by a dead letter, and goes the same way.
    house.fake._state(room, "m.room.member", account, {"membership": "join"}, account)
    answered(house, "Again")
    house.run_deliveries()
    assert [event["content"]["body"] for event in sent(house, room_id)] == ["You said: Again"]
    delivery_retry(delivery=delivery, actor="op")
    house.run_deliveries()
    assert len(sent(house, room_id)) == 2


def test_what_can_never_be_sent_is_a_dead_letter_at_once(house: Stage) -> None:
    delivery = answered(house)
    house.fake.fail("send", times=5, status=413, errcode="M_TOO_LARGE", error="event too large")
    house.run_deliveries()
    delivery.refresh_from_db()
    assert (delivery.state, delivery.attempts, delivery.error_code) == ("dead", 1, "M_TOO_LARGE")
    assert "event too large" in delivery.error_reason


def test_our_own_faults_are_tried_a_limited_number_of_times(
    house: Stage, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.DELIVERY_ATTEMPTS = 3
    delivery = answered(house)

    def crashes(row: Delivery) -> dict[str, Any]:
        raise ZeroDivisionError("oh")

    monkeypatch.setitem(delivery_run._handlers, "matrix", crashes)
    for _ in range(5):
        house.hurry()
        run_delivery(delivery.pk)
    delivery.refresh_from_db()
    assert (delivery.state, delivery.attempts, delivery.error_code) == ("dead", 3, "delivery.crashed")


def test_a_delivery_that_kills_workers_is_given_up(house: Stage, settings: Any) -> None:
    delivery = answered(house)
    Delivery.objects.update(attempts=settings.DELIVERY_ATTEMPTS + delivery_run.LOST_CLAIMS)
    run_delivery(delivery.pk)
    delivery.refresh_from_db()
    assert (delivery.state, delivery.error_code) == ("dead", "worker.lost")


def test_a_worker_that_lost_its_lease_sends_no_more(
    house: Stage, room_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivery = answered(house, "Hello", "x " * 40_000)
    real = delivery_run._handlers["matrix"]

    def loses(row: Delivery) -> dict[str, Any]:
        Delivery.objects.filter(pk=row.pk).update(fence=row.fence + 1)
        return real(row)

    monkeypatch.setitem(delivery_run._handlers, "matrix", loses)
    run_delivery(delivery.pk)
    delivery.refresh_from_db()
    assert (delivery.state, delivery.shown) == ("running", [])
    assert len(sent(house, room_id)) == 1


def test_an_operator_decides_about_dead_letters(house: Stage, room_id: str) -> None:
    delivery = answered(house)
    with pytest.raises(WrongState):
        delivery_retry(delivery=delivery, actor="op")
    with pytest.raises(WrongState):
        delivery_discard(delivery=delivery, actor="op")
    Delivery.objects.update(state="dead", attempts=12, error_code="x", error_reason="y")
    delivery_retry(delivery=delivery, actor="op")
    assert (delivery.state, delivery.attempts, delivery.error_code) == ("queued", 0, "")
    house.run_deliveries()
    assert len(sent(house, room_id)) == 1
    Delivery.objects.update(state="dead")
    delivery_discard(delivery=delivery, actor="op")
    assert delivery.state == "discarded"
    house.run_deliveries()
    assert len(sent(house, room_id)) == 1
    assert set(AuditEvent.objects.filter(target_type="chat.delivery").values_list("actor", flat=True)) <= {"op"}
    assert AuditEvent.objects.filter(action__in=["delivery.retried", "delivery.discarded"]).count() == 2
