"""Events of people, and what was refused."""

from __future__ import annotations

from typing import Any

from chat.models import RefusedEvent
from tests.support.stage import ALICE, Stage


def event(house: Stage, text: str = "Hello", person: str = ALICE, **content: Any) -> dict[str, Any]:
    return house.fake.person_says(str(house.room().room_id), person, text, **content)


def refused() -> dict[str, int]:
    found: dict[str, int] = {}
    for reason in RefusedEvent.objects.values_list("reason", flat=True):
        found[reason] = found.get(reason, 0) + 1
    return found


def edit_of(house: Stage, said: dict[str, Any], text: str, person: str = ALICE) -> dict[str, Any]:
    return event(
        house,
        f"* {text}",
        person,
        **{
            "m.new_content": {"msgtype": "m.text", "body": text},
            "m.relates_to": {"rel_type": "m.replace", "event_id": said["event_id"]},
        },
    )
