"""A message of an encrypted room whose key comes after a restore: history when it was said before, answered when it was said after."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from agents.matrix.client import AppserviceClient
from agents.matrix.crypto.machine import Opened
from agents.services import encryption
from agents.services.backends import open_homeserver
from chat.matrix import encrypted, keys_in, report
from chat.models import Message, RefusedEvent, Turn
from chat.restoring import history
from ops.models import RestoreEpoch
from tests.support.stage import BOB, Stage

pytestmark = pytest.mark.django_db


class Reader:
    """The operator's keeper: the key to one event comes when ``has_come`` is set."""

    def __init__(self, event: dict[str, Any]) -> None:
        self.event, self.has_come, self.done = event, False, []

    def readable(self) -> list[tuple[str, str]]:
        return [(self.event["event_id"], self.event["room_id"])] if self.has_come else []

    def decrypt(self, event: dict[str, Any], room_id: str) -> Opened:
        content = {"msgtype": "m.text", "body": "Said sealed"}
        clear = {**event, "type": "m.room.message", "content": content, "room_id": room_id}
        return Opened(event=clear) if self.has_come else Opened(code="no_key", sentence="It has not come.")

    def taken_in(self, event_ids: list[str]) -> None:
        self.done += event_ids


@pytest.fixture
def sealed(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Reader]:
    """Makes an encrypted event in Ada's room, and whoever will be able to read it."""
    room_id = stage.enters(stage.agent())

    def make() -> Reader:
        event = {**stage.fake.person_says(room_id, BOB, "sealed"), "room_id": room_id}
        content = {"algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "x"}
        reader = Reader({**event, "type": "m.room.encrypted", "content": content})
        monkeypatch.setattr(encryption, "reader_of", lambda homeserver: reader)
        monkeypatch.setattr(AppserviceClient, "get_event", lambda self, room_id, event_id: reader.event)
        return reader

    return make


def at(event: dict[str, Any], **later: float) -> datetime:
    return datetime.fromtimestamp(event["origin_server_ts"] / 1000, tz=UTC) + timedelta(**later)


def restored(*, cut_at: datetime, at: datetime) -> None:
    RestoreEpoch.objects.create(number=1, at=at, cut_at=cut_at)


def comes(stage: Stage, reader: Reader) -> None:
    reader.has_come = True
    assert keys_in.late(open_homeserver()) == 1
    stage.drain()
    assert reader.done == [reader.event["event_id"]]
    assert not RefusedEvent.objects.exists()


def waits(reader: Reader, reason: str) -> None:
    report.refuse(reader.event["event_id"], reader.event["room_id"], BOB, reason, "Why")


def test_what_a_walk_through_the_past_could_not_read_becomes_history(
    stage: Stage, sealed: Callable[..., Reader], monkeypatch: pytest.MonkeyPatch
):
    reader = sealed()
    real = history.homeserver_of
    monkeypatch.setattr(
        history, "homeserver_of", lambda row: SimpleNamespace(client_mode=True, client=real(row).client)
    )
    monkeypatch.setattr(encrypted, "opened", lambda event, room, homeserver: (None, encrypted.NO_KEY, "It waits."))
    restored(cut_at=at(reader.event, seconds=-60), at=at(reader.event, seconds=60))
    assert history.take_in(stage.room(), [reader.event], stage.fresh()) == 0
    assert RefusedEvent.objects.get().reason == encrypted.PAST
    comes(stage, reader)
    assert list(Message.objects.values_list("text", "guard")) == [("Said sealed", "restored")]
    assert not Turn.objects.exists()
    assert stage.world.requests == []


def test_what_waited_since_before_the_cut_becomes_history(stage: Stage, sealed: Callable[..., Reader]):
    reader = sealed()
    waits(reader, encrypted.NO_KEY)
    restored(cut_at=at(reader.event, seconds=1), at=at(reader.event, seconds=60))
    comes(stage, reader)
    assert list(Message.objects.values_list("text", "guard")) == [("Said sealed", "restored")]
    assert stage.world.requests == []


def test_what_came_before_the_restore_while_our_keys_were_lost_becomes_history(
    stage: Stage, sealed: Callable[..., Reader]
):
    reader = sealed()
    restored(cut_at=at(reader.event, seconds=-60), at=at(reader.event, seconds=1))
    waits(reader, encrypted.NO_KEYS)
    comes(stage, reader)
    assert list(Message.objects.values_list("guard", flat=True)) == ["restored"]


@pytest.mark.parametrize("ever", [True, False], ids=["after a restore", "without any"])
def test_what_was_said_after_it_is_answered(stage: Stage, sealed: Callable[..., Reader], ever: bool):
    reader = sealed()
    if ever:
        restored(cut_at=at(reader.event, seconds=-60), at=at(reader.event, seconds=-1))
    waits(reader, encrypted.NO_KEY)
    comes(stage, reader)
    assert [(one.text, one.guard) for one in Message.objects.filter(role="user")] == [("Said sealed", "")]
    assert len(stage.world.requests) == 1
