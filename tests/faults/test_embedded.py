"""``faults.exactly_once`` for embedded mode: the one process is killed with -9, and its homeserver with it, while people talk."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from agents.matrix.admin.synapse import SynapseAdmin
from tests.e2e.matrix_client import Person, run
from tests.faults.test_exactly_once import say_surely
from tests.peers.install import ensure_synapse
from tests.peers.letta_stub import LettaStub
from tests.up.running import Up

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]

ROOMS, MESSAGES, KILLS = 4, 8, 3


def test_nothing_is_lost_when_the_one_process_is_killed(tmp_path: Path) -> None:
    letta = LettaStub(agents=ROOMS)
    with letta:
        up = Up(
            tmp_path,
            SWITCHBOARD_SYNAPSE_VENV=str(ensure_synapse()),
            LETTA_BASE_URL=letta.url,
            MATRIX_INVITE="@ann:switchboard.localhost",
        )
        up.start()
        try:
            _talk_through_kills(up, letta)
        finally:
            up.stop()


def _talk_through_kills(up: Up, letta: LettaStub) -> None:
    home, secret = up.ask(
        "from ops.models import Service\ns=Service.objects.get(kind='homeserver')\n"
        "result=[s.base_url, s.credentials['registration_shared_secret']]",
    )
    admin = SynapseAdmin(home, shared_secret=secret)
    user_id = admin.register_user("ann", "ann-has-a-password")
    rooms = up.ask(
        "from agents.models import Mapping\n"
        "result=list(Mapping.objects.values('agent__name','account__user_id','room__room_id'))",
    )
    assert len(rooms) == ROOMS
    letta.control(delay_ms=150)

    async def talk() -> None:
        async with Person(home, user_id, "ann-has-a-password") as ann:
            for row in rooms:
                await ann.join(row["room__room_id"])

            async def in_room(row: dict[str, Any]) -> None:
                for number in range(MESSAGES):
                    await say_surely(ann, row["room__room_id"], f"say {row['agent__name']} {number:02d}")
                    await asyncio.sleep(0.8)

            async def kill() -> None:
                for _ in range(KILLS):
                    await asyncio.sleep(2.5)
                    await asyncio.to_thread(up.kill9)
                    await asyncio.to_thread(up.start, 120)

            await asyncio.gather(kill(), *(in_room(row) for row in rooms))
            deadline = time.monotonic() + 120
            while True:
                answers = {row["room__room_id"]: await _replies(ann, row) for row in rooms}
                if all(len(texts) >= MESSAGES for texts in answers.values()) or time.monotonic() > deadline:
                    break
                await asyncio.sleep(1)
            await asyncio.sleep(2)
            for row in rooms:
                texts = await _replies(ann, row)
                assert len(texts) == MESSAGES, f"{row['agent__name']}: {texts}\n{_way(up, row)}\n{up.output()}"
                for number, text in enumerate(texts):
                    assert f"say {row['agent__name']} {number:02d}" in text, f"order: {texts}"

    run(talk)
    inputs = Counter(entry["text"] for entry in letta.accepted())
    assert len(inputs) == ROOMS * MESSAGES
    assert set(inputs.values()) == {1}, "the backend was asked again"


def _way(up: Up, row: dict[str, Any]) -> str:
    """How far each message of the room came."""
    found = up.ask(
        "from chat.models import Message, RefusedEvent\n"
        f"rows=Message.objects.filter(conversation__links__room__room_id={row['room__room_id']!r}).order_by('seq')\n"
        "result=[list(one) for one in rows.values_list('seq','text','state','guard','external_id','stored_at',"
        "'turns__state','turns__error_code','turns__error_reason','turns__deliveries__state','deliveries__state')]"
        "+[list(one) for one in RefusedEvent.objects.values_list('reason','external_id','sentence')]",
    )
    return "\n".join(map(str, found))


async def _replies(person: Person, row: dict[str, Any]) -> list[str]:
    events = await person.all_messages(row["room__room_id"])
    return [
        event["content"]["body"]
        for event in events
        if event["sender"] == row["account__user_id"]
        and event["type"] == "m.room.message"
        and "m.new_content" not in event["content"]
    ]
