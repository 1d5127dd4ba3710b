"""``faults.exactly_once``: every part is killed with -9 in turn while people talk. Nothing is lost, doubled or out of order."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from typing import Any

import pytest

from tests.e2e.matrix_client import Person, run
from tests.faults.house import House, running_house

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]

ROOMS, MESSAGES = 10, 20


def _killers(house: House) -> list[tuple[str, Any]]:
    stack = house.stack
    return [
        ("worker", stack.workers[0]),
        ("web", stack.web),
        ("redis", house.redis),
        ("synapse", house.synapse),
        ("postgres", house.postgres),
        ("worker", stack.workers[0]),
        ("synapse", house.synapse),
    ]


def _kill_in_turn(house: House, stop: threading.Event, killed: list[str]) -> None:
    for name, part in _killers(house):
        if stop.wait(2.5):
            return
        part.kill9()
        killed.append(name)
        time.sleep(0.7)
        part.start()


async def say_surely(person: Person, room: str, text: str) -> None:
    """As a client does: the same transaction id again until the homeserver has taken it."""
    txn = f"ann-{text}".replace(" ", "-")
    for _ in range(240):
        try:
            answer = await person.client.room_send(
                room, "m.room.message", {"msgtype": "m.text", "body": text}, tx_id=txn
            )
            if hasattr(answer, "event_id"):
                return
        except Exception:  # the homeserver is being killed on purpose
            pass
        await asyncio.sleep(0.5)
    raise AssertionError(f"the homeserver never took {text!r}")


def test_nothing_is_lost_doubled_or_out_of_order(postgres: Any, redis_server: Any) -> None:
    with running_house(ROOMS, database="exactly_once", postgres=postgres, redis=redis_server) as house:
        house.sync()
        house.letta.control(delay_ms=20)
        rooms = house.mappings()
        assert len(rooms) == ROOMS
        stop, killed = threading.Event(), []
        killer = threading.Thread(target=_kill_in_turn, args=(house, stop, killed), daemon=True)

        async def talk() -> None:
            async with Person(house.synapse.url, house.ann.user_id, house.ann.password) as ann:
                for row in rooms:
                    await ann.join(row["room__room_id"])
                killer.start()

                async def in_room(row: dict[str, Any]) -> None:
                    for number in range(MESSAGES):
                        await say_surely(ann, row["room__room_id"], f"say {row['agent__name']} {number:02d}")
                        await asyncio.sleep(0.4)

                await asyncio.gather(*(in_room(row) for row in rooms))
                await asyncio.to_thread(killer.join, 120)

                async def replies(row: dict[str, Any]) -> list[str]:
                    events = await ann.all_messages(row["room__room_id"])
                    return [
                        event["content"]["body"]
                        for event in events
                        if event["sender"] == row["account__user_id"]
                        and event["type"] == "m.room.message"
                        and "m.new_content" not in event["content"]
                    ]

                deadline = time.monotonic() + 180
                while True:
                    answers = {row["room__room_id"]: await replies(row) for row in rooms}
                    if all(len(texts) >= MESSAGES for texts in answers.values()) or time.monotonic() > deadline:
                        break
                    await asyncio.sleep(1)
                await asyncio.sleep(3)
                for row in rooms:
                    texts = await replies(row)
                    said = [f"say {row['agent__name']} {number:02d}" for number in range(MESSAGES)]
                    assert len(texts) == MESSAGES, (
                        f"{len(texts)} answers to {MESSAGES} messages in {row['agent__name']}\n"
                        f"{_missing(texts, said)}\n{house.stack.logs(40)}"
                    )
                    for text, expected in zip(texts, said, strict=True):
                        assert expected in text, f"order: {expected!r} was answered by {text!r}"

        run(talk)
        stop.set()
        assert len(killed) == len(_killers(house)), f"only {killed} were killed"
        inputs = Counter(entry["text"] for entry in house.letta.accepted())
        assert len(inputs) == ROOMS * MESSAGES
        doubled = {text: count for text, count in inputs.items() if count > 1}
        assert not doubled, f"the backend was asked again: {doubled}"


def _missing(texts: list[str], said: list[str]) -> str:
    missing = [one for one in said if not any(one in text for text in texts)]
    twice = [one for one in said if sum(one in text for text in texts) > 1]
    return f"missing: {missing}; doubled: {twice}"
