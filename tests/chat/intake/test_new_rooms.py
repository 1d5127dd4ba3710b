"""Somebody speaks in a room that sync has just made, before its id is written down."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from agents.models import Room
from chat.matrix import known_rooms
from chat.models import Message
from tests.chat.intake.helpers import event, refused
from tests.support.stage import Stage

pytestmark = pytest.mark.django_db


class Waiting:
    """A clock that moves when somebody waits; ``then`` happens at the second wait."""

    def __init__(self, then: Any) -> None:
        self.now, self.waits, self.then = 0.0, 0, then

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.waits += 1
        if self.waits == 2:
            self.then()


def _without_its_id(room: Room) -> str:
    room_id = str(room.room_id)
    Room.objects.filter(pk=room.pk).update(room_id=None)
    return room_id


def _clock(monkeypatch: pytest.MonkeyPatch, then: Any) -> Waiting:
    waiting = Waiting(then)
    monkeypatch.setattr(known_rooms, "time", SimpleNamespace(monotonic=waiting.monotonic, sleep=waiting.sleep))
    return waiting


def test_the_message_waits_for_the_row(house: Stage, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    room, said = house.room(), event(house, "First")
    room_id = _without_its_id(room)
    waiting = _clock(monkeypatch, lambda: Room.objects.filter(pk=room.pk).update(room_id=room_id))
    assert house.push(client, said).status_code == 200
    assert Message.objects.get().text == "First"
    assert waiting.waits == 2, "no longer than needed"


def test_it_waits_a_second_and_no_longer(house: Stage, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    room, said = house.room(), event(house, "First")
    _without_its_id(room)
    waiting = _clock(monkeypatch, lambda: None)
    assert house.push(client, said).status_code == 200
    assert not Message.objects.exists()
    assert refused() == {"unknown_room": 1}
    assert known_rooms.WAIT_FOR_NEW_ROOM <= waiting.now < known_rooms.WAIT_FOR_NEW_ROOM + 0.1


def test_where_no_room_is_being_made_nobody_waits(house: Stage, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {**event(house, "Elsewhere"), "room_id": "!elsewhere"}
    waiting = _clock(monkeypatch, lambda: None)
    assert house.push(client, said).status_code == 200
    assert waiting.waits == 0
    assert refused() == {"unknown_room": 1}
