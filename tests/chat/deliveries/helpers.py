"""Answers that wait in the outbox, and what was said."""

from __future__ import annotations

from typing import Any

import pytest

from chat.models import Delivery
from tests.support.stage import ALICE, Stage


def answered(house: Stage, text: str = "Hello", *script: Any) -> Delivery:
    """A message whose answer waits in the outbox."""
    if script:
        house.world.script(*script)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("chat.turns.run.run_delivery", lambda pk: None)
        house.says(house.fresh(), text)
        house.run_turns()
    return Delivery.objects.latest("pk")


def sent(house: Stage, room_id: str) -> list[dict[str, Any]]:
    """What Switchboard's accounts said."""
    return [event for event in house.fake.messages_of(room_id) if event["sender"] != ALICE]
