"""Whatever a homeserver lost on the way is found again, in order and once; and an outage is noticed at once."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.utils import timezone

from agents.models import Room
from agents.services.backends import open_homeserver
from chat.matrix import gaps, tripwire, views, watch
from chat.matrix.tripwire import Broken, Tripwire
from chat.models import Delivery, Message, RefusedEvent, Turn
from ops.locks import named_lock
from ops.models import Service
from tests.support.fake_homeserver import FakeHomeserver
from tests.support.stage import ALICE, BOB, Stage

pytestmark = pytest.mark.django_db


@pytest.fixture
def house(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Ada with Alice in its room, who has said one thing that arrived."""

    async def here(work: Any) -> Any:
        return await sync_to_async(views._guarded, thread_sensitive=True)(work)

    monkeypatch.setattr(views, "_in_pool", here)
    monkeypatch.setattr(views, "close_old_connections", lambda: None)
    monkeypatch.setattr(watch, "close_old_connections", lambda: None)
    stage.enters(stage.agent())
    stage.says(stage.fresh(), "Before")
    return stage


@pytest.fixture
def caught_up(stage: Stage) -> list[str]:
    """Calls of the task that walks rooms."""
    return stage.woken_tasks


def lost(house: Stage, *texts: str, person: str = ALICE) -> list[dict[str, Any]]:
    """Said, but the transaction never came."""
    return [house.fake.person_says(str(house.room().room_id), person, text) for text in texts]


def texts() -> list[str]:
    return list(Message.objects.filter(role="user").order_by("seq").values_list("text", flat=True))


def raise_epoch() -> int:
    return gaps.raise_epoch(Service.objects.get(kind="homeserver"), "test")


def test_without_a_gap_nothing_is_walked(house: Stage) -> None:
    before = len(house.fake.calls("messages"))
    house.says(house.fresh(), "After")
    assert len(house.fake.calls("messages")) == before


def test_missed_events_are_found_before_newer_ones_are_stored(house: Stage) -> None:
    lost(house, "Lost one", "Lost two")
    raise_epoch()
    house.says(house.fresh(), "After")
    assert texts() == ["Before", "Lost one", "Lost two", "After"]
    assert list(Message.objects.order_by("seq").values_list("seq", flat=True)) == [1, 2, 3, 4]
    house.run_turns()
    assert [request.text for request in house.world.requests] == texts()
    walks = len(house.fake.calls("messages"))
    house.says(house.fresh(), "And on")
    assert len(house.fake.calls("messages")) == walks, "once an epoch"


def test_what_was_lost_is_found_behind_something_newer_that_came_before_the_epoch_rose(house: Stage) -> None:
    lost(house, "Lost")
    house.says(house.fresh(), "Newer")
    assert texts() == ["Before", "Newer"]
    raise_epoch()
    watch.catch_up_rooms()
    assert texts() == ["Before", "Newer", "Lost"]


def test_what_was_known_long_before_ends_the_walk(house: Stage) -> None:
    house.fake.page_limit = 2
    for number in range(10):
        house.says(house.fresh(), f"Old {number}")
    long_ago = timezone.now() - timedelta(hours=1)
    Message.objects.update(stored_at=long_ago)
    Room.objects.update(last_event_at=long_ago)
    lost(house, "Lost")
    raise_epoch()
    before = len(house.fake.calls("messages"))
    watch.catch_up_rooms()
    assert texts()[-1] == "Lost"
    assert len(house.fake.calls("messages")) - before <= 2


def test_the_walk_goes_back_over_many_pages(house: Stage) -> None:
    house.fake.page_limit = 7
    lost(house, *(f"Lost {number}" for number in range(40)))
    raise_epoch()
    assert watch.catch_up_rooms() >= 1
    assert texts() == ["Before", *(f"Lost {number}" for number in range(40))]
    assert len(house.fake.calls("messages")) >= 6


def test_what_arrives_late_after_all_is_nothing_new(house: Stage) -> None:
    late = lost(house, "Lost one", "Lost two")
    raise_epoch()
    watch.catch_up_rooms()
    report = house.receive(*late)
    assert (report.stored, report.repeated) == (0, 2)
    assert texts() == ["Before", "Lost one", "Lost two"]
    assert Turn.objects.count() == 3


def test_our_own_words_and_old_ones_are_not_walked_into_messages(house: Stage) -> None:
    house.drain()
    raise_epoch()
    watch.catch_up_rooms()
    assert texts() == ["Before"]
    assert not RefusedEvent.objects.filter(reason="own").exists()


def test_edits_and_redactions_in_a_gap_count(house: Stage) -> None:
    one, two = lost(house, "Helo", "Secret")
    room_id = str(house.room().room_id)
    house.fake.person_says(
        room_id, ALICE, "* Hello",
        **{"m.new_content": {"msgtype": "m.text", "body": "Hello"}, "m.relates_to": {"rel_type": "m.replace", "event_id": one["event_id"]}},
    )  # fmt: skip
    house.fake.add(room_id, ALICE, {"redacts": two["event_id"]}, "m.room.redaction")
    raise_epoch()
    watch.catch_up_rooms()
    house.run_turns()
    assert [request.text for request in house.world.requests] == ["Before", "Hello"]
    assert Message.objects.get(external_id=two["event_id"]).state == "redacted"


def test_a_homeserver_that_does_not_answer_has_to_send_again(house: Stage, client: Any) -> None:
    lost(house, "Lost")
    raise_epoch()
    after = house.fake.person_says(str(house.room().room_id), ALICE, "After")
    house.fake.fail("messages", times=2, status=502)
    assert house.push(client, after).status_code == 503
    assert texts() == ["Before"], "order before haste"
    assert house.push(client, after).status_code == 503
    assert house.push(client, after).status_code == 200
    assert texts() == ["Before", "Lost", "After"]


def test_a_room_that_we_are_not_in_any_more_is_passed_over(house: Stage) -> None:
    user = house.mapping().account.user_id
    house.fake._state(house.fake.rooms[str(house.room().room_id)], "m.room.member", user, {"membership": "leave"}, user)
    epoch = raise_epoch()
    watch.catch_up_rooms()
    assert house.room().caught_up_epoch == epoch


def test_direct_chats_are_walked_too(house: Stage) -> None:
    user = house.mapping().account.user_id
    direct = house.fake.new_room(BOB)
    house.receive(house.fake._state(direct, "m.room.member", user, {"membership": "invite"}, BOB))
    house.fake.person_says(direct.room_id, BOB, "Lost here")
    raise_epoch()
    watch.catch_up_rooms()
    assert "Lost here" in texts()


def test_rooms_are_walked_those_with_the_latest_words_first(house: Stage) -> None:
    house.enters(house.agent("Bea"))
    house.enters(house.agent("Cy"))
    house.says(house.fresh("Cy"), "Last")
    epoch = raise_epoch()
    rooms = gaps.rooms_to_walk(Service.objects.get(kind="homeserver"), epoch)
    assert [room.name for room in rooms] == ["Cy", "Ada", "Bea"]
    assert watch.catch_up_rooms() == 3
    assert watch.catch_up_rooms() == 0
    assert {room.caught_up_epoch for room in Room.objects.exclude(kind="space")} == {epoch}


def test_walking_stops_when_the_homeserver_goes_and_goes_on_later(house: Stage) -> None:
    house.enters(house.agent("Bea"))
    lost(house, "Lost")
    raise_epoch()
    house.fake.fail("messages", times=1, status=502)
    assert watch.catch_up_rooms() == 0
    assert watch.catch_up_rooms() == 2
    assert "Lost" in texts()


def test_one_process_walks_at_a_time(house: Stage) -> None:
    raise_epoch()
    with named_lock("chat.catch_up"):
        assert watch.catch_up_rooms() == 0
    assert watch.catch_up_rooms() == 1


def test_a_gap_without_end_is_bounded(house: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gaps, "MOST_PAGES", 3)
    house.fake.page_limit = 2
    lost(house, *(f"Lost {number}" for number in range(20)))
    raise_epoch()
    watch.catch_up_rooms()
    assert texts() == ["Before", *(f"Lost {number}" for number in range(14, 20))]


def test_garbage_in_a_page_of_history(house: Stage) -> None:
    room = house.fake.rooms[str(house.room().room_id)]
    lost(house, "Lost")
    room.events.append({"event_id": ["x"], "type": "m.room.message", "origin_server_ts": True})
    room.events.append({"event_id": "$nul\x00\ud800", "type": 7, "origin_server_ts": "now"})
    room.events.append({"event_id": "$old", "type": "m.room.message", "origin_server_ts": 1})
    raise_epoch()
    watch.catch_up_rooms()
    assert texts() == ["Before", "Lost"]


def test_a_walk_ends_at_what_is_too_old(house: Stage) -> None:
    """Sixty old events and no known one: it does not read the whole history."""
    room = house.fake.rooms[str(house.room().room_id)]
    known = room.events.pop()
    assert known["content"]["body"] == "Before"
    for number in range(500):
        room.events.append({"event_id": f"$old{number}", "type": "m.room.message", "origin_server_ts": 1000 + number})
    lost(house, "Lost")
    raise_epoch()
    watch.catch_up_rooms()
    assert texts() == ["Before", "Lost"]
    assert len(house.fake.calls("messages")) == 2


# The homeserver goes and comes back


def test_when_it_came_back_everything_is_looked_after(house: Stage, caught_up: list[str]) -> None:
    house.fake.fail("send", times=1, status=502)
    house.drain()
    waiting = Delivery.objects.get()
    assert waiting.state == "queued"
    service = Service.objects.get(kind="homeserver")
    before = gaps.current_epoch(service)
    house.woken_deliveries.clear()
    watch.came_back(open_homeserver(), "test")
    assert gaps.current_epoch(service) == before + 1
    assert len(house.fake.calls("ping")) == 1
    assert house.woken_deliveries == [waiting.pk]
    assert caught_up == ["chat.catch_up"]
    house.run_deliveries()
    waiting.refresh_from_db()
    assert waiting.state == "sent"


def test_a_ping_that_does_not_reach_us_is_no_failure(house: Stage, caught_up: list[str]) -> None:
    house.fake.ping_fails = "M_CONNECTION_FAILED"
    assert watch.ping(open_homeserver()) is False
    house.fake.ping_fails = ""
    assert watch.ping(open_homeserver()) is True
    house.fake.fail("ping", times=5, status=502)
    assert watch.ping(open_homeserver()) is False


def test_the_wire_holds_while_the_homeserver_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tripwire, "ASK_EVERY", 0.02)
    with FakeHomeserver() as server:
        wire = Tripwire(server.url)
        wire.watch(threading.Event(), 0.1)
        assert len(server.calls("versions")) >= 4
        stopped = threading.Event()
        stopped.set()
        wire.watch(stopped, 1000)
        server.fail("versions", status=404, errcode="M_UNRECOGNIZED")
        wire.watch(stopped, 1)
        server.fail("versions", status=502)
        with pytest.raises(Broken, match="502"):
            wire.watch(threading.Event(), 1)
        wire.close()


def test_the_wire_breaks_at_once_when_the_homeserver_dies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tripwire, "ASK_EVERY", 60.0)
    server = FakeHomeserver().start()
    wire = Tripwire(server.url)
    threading.Timer(0.05, server.stop).start()
    with pytest.raises(Broken):
        wire.watch(threading.Event(), 60)
    with pytest.raises(Broken):
        Tripwire(server.url).watch(threading.Event(), 0)
    wire.close()


@pytest.mark.django_db(transaction=True)
def test_the_watch_notices_an_outage_and_the_return(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caught_up: list[str]
) -> None:
    monkeypatch.setattr(tripwire, "ASK_EVERY", 0.02)
    monkeypatch.setattr(watch, "STRETCH", 0.04)
    reasons: list[str] = []
    real = watch.came_back

    def noted(homeserver: Any, reason: str) -> None:
        real(homeserver, reason)
        reasons.append(reason)

    monkeypatch.setattr(watch, "came_back", noted)
    server = FakeHomeserver().start()
    service = stage.homeserver(base_url=server.url)
    one, other = watch.Watch(), watch.Watch()
    try:
        one.start()
        wait_for(lambda: reasons == ["Switchboard started"])
        other.start()
        server.stop()
        wait_for(lambda: "gone" in str(seen_gone(server)))
        server.start(server.port)
        wait_for(lambda: len(reasons) == 2)
        assert reasons[1] == "the homeserver came back"
        assert gaps.current_epoch(service) == 4, "raised at the start, when it went, and when it came back"
        assert other.is_alive(), "it stands by, and does nothing"
        assert len(reasons) == 2
    finally:
        one.stop.set()
        other.stop.set()
        one.join(60)
        other.join(60)
        server.stop()
    assert not one.is_alive()


def seen_gone(server: FakeHomeserver) -> str:
    try:
        Tripwire(server.url).watch(threading.Event(), 0)
    except Broken:
        return "gone"
    return "there"


def wait_for(condition: Any) -> None:
    for _ in range(2000):
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError("it did not happen")


def test_names_of_people_fall_back_to_their_ids(house: Stage) -> None:
    house.fake.fail("profile_get", times=1, status=502)
    assert gaps.display_name(house.room(), "@zoe:fake.test") == "zoe"
