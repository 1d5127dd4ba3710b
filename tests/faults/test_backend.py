"""``faults.backend``: whatever a backend does, the person sees an answer or one honest sentence, and nothing is silent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.matrix_client import Person, run
from tests.faults.house import House, running_house

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]

# Faults that pass: the answer comes, and the person never hears of it.
PASSING: dict[str, dict[str, Any]] = {
    "busy twice": {"busy": 2},
    "rate limited with Retry-After": {"rate_limit": 1, "retry_after": "1"},
    "500 twice": {"errors": 2},
    "half a stream once": {"truncate": 1},
    "garbage once": {"garbage": 1},
    "taken, and the connection cut": {"lost_answers": 1},
    "taken, and never answered": {"hang": 1},
}
# Faults that stay: one sentence, and a dead letter for the operator.
STAYING: dict[str, dict[str, Any]] = {
    "500 for ever": {"errors": -1},
    "wrong credentials": {"unauthorized": -1},
}


@pytest.fixture(scope="module")
def house(postgres: Any, redis_server: Any) -> Iterator[House]:
    settings = {"TURN_TIMEOUT": "2", "TURN_ATTEMPTS": "3"}
    agents = len(PASSING) + len(STAYING) + 1
    with running_house(
        agents, database="faults_backend", postgres=postgres, redis=redis_server, settings=settings
    ) as running:
        running.sync()
        yield running


def _ask(house: House, row: dict[str, Any], text: str, seconds: float = 60, after: int = 0) -> list[str]:
    """What the agent says to ``text``; ``after`` is how much was said in the room before."""
    heard: list[str] = []

    async def talk() -> None:
        async with Person(house.synapse.url, house.ann.user_id, house.ann.password) as ann:
            await ann.join(row["room__room_id"])
            await ann.say(row["room__room_id"], text)
            await ann.until(lambda: len(ann.said_in(row["room__room_id"])) > after, seconds, house.stack.logs())
            heard.extend(ann.said_in(row["room__room_id"])[after:])

    run(talk)
    return heard


def _control(house: House, row: dict[str, Any], fault: dict[str, Any]) -> None:
    house.letta.control(only_agents=[row["agent__external_id"]], **fault)


def _calm(house: House) -> None:
    house.letta.control(
        only_agents=[], busy=0, rate_limit=0, errors=0, truncate=0, garbage=0, lost_answers=0, hang=0, unauthorized=0
    )


@pytest.mark.parametrize("number", range(len(PASSING)), ids=list(PASSING))
def test_a_fault_that_passes_is_never_seen(house: House, number: int) -> None:
    row = house.mappings()[number]
    _control(house, row, list(PASSING.values())[number])
    try:
        heard = _ask(house, row, f"question {number}")
    finally:
        _calm(house)
    assert len(heard) == 1
    assert f"question {number}" in heard[0]
    given = [entry for entry in house.letta.accepted() if entry["agent"] == row["agent__external_id"]]
    assert len(given) == 1, "the agent was given the message more than once"


@pytest.mark.parametrize("number", range(len(STAYING)), ids=list(STAYING))
def test_a_fault_that_stays_is_told_once_and_becomes_a_dead_letter(house: House, number: int) -> None:
    row = house.mappings()[len(PASSING) + number]
    _control(house, row, list(STAYING.values())[number])
    try:
        heard = _ask(house, row, "please answer", seconds=90)
        assert len(heard) == 1
        assert "Your message is kept" in heard[0]
        turn = house.stack.ask(
            "from chat.models import Turn\n"
            f"result=Turn.objects.filter(agent__external_id={row['agent__external_id']!r})"
            ".values('id','state','error_reason').get()"
        )
        assert turn["state"] in {"dead", "failed", "timed_out"}
        assert turn["error_reason"]
    finally:
        _calm(house)


def test_the_conversation_goes_on_after_a_failure(house: House) -> None:
    row = house.mappings()[-1]
    _control(house, row, {"unauthorized": -1})
    try:
        first = _ask(house, row, "first")
    finally:
        _calm(house)
    assert "Your message is kept" in first[0]
    second = _ask(house, row, "second", after=1)
    assert len(second) == 1
    assert "second" in second[0]
