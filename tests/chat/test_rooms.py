"""A room has one conversation, whoever speaks in it first."""

from __future__ import annotations

from typing import Any

import pytest

from chat.models import Conversation, Link
from chat.services import conversations
from chat.services.conversations import conversation_of
from tests.support.stage import Stage

pytestmark = pytest.mark.django_db


def test_a_room_that_somebody_else_took_up_meanwhile(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.agent()
    room = stage.room()
    other = stage.room()
    real = conversations.transaction.atomic
    first: list[Conversation] = []

    def and_the_other_one_first() -> Any:
        first.append(Conversation.objects.create(title="the other's"))
        Link.objects.create(conversation=first[0], kind="room", room=other)
        return real()

    with monkeypatch.context() as patch:
        patch.setattr(conversations.transaction, "atomic", and_the_other_one_first)
        assert conversation_of(room, None) == first[0]
    assert conversation_of(room, None) == first[0], "the link that was rolled back is forgotten"
    assert Conversation.objects.count() == 1
