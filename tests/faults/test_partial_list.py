"""``faults.partial_list``: half a list, a 5xx, a repeated cursor, a wrong count. No agent is archived on any of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.faults.house import House, running_house

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]

AGENTS = 12

FAULTS: dict[str, dict[str, Any]] = {
    "half the list": {"half_list": True},
    "500 on the first page": {"fail_page": 1},
    "the same page for ever": {"ignore_cursor": True},
    "a count that is larger": {"wrong_count": 5},
    "a body that is no JSON": {"list_garbage": -1},
    "wrong credentials": {"unauthorized": -1},
}


@pytest.fixture(scope="module")
def house(postgres: Any, redis_server: Any) -> Iterator[House]:
    with running_house(
        AGENTS, database="partial_list", postgres=postgres, redis=redis_server, processes=False
    ) as running:
        assert running.sync()["applied"]["room.create"] == AGENTS
        yield running


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_nothing_is_archived(house: House, fault: dict[str, Any]) -> None:
    house.letta.control(**fault)
    try:
        for _ in range(3):
            report = house.sync()
            assert "agent.archive" not in report["applied"]
    finally:
        house.letta.control(
            half_list=False, fail_page=0, ignore_cursor=False, wrong_count=0, list_garbage=0, unauthorized=0
        )
    house.sync()
    assert house.states() == {"active"}
    assert len(house.mappings()) == AGENTS


def test_an_agent_that_is_really_gone_is_archived_at_the_second_complete_list(house: House) -> None:
    """The counterpart: the guard is not simply deaf."""
    gone = house.letta.agent_ids()[0]
    house.letta.control(delete=[gone])
    assert house.sync()["applied"] == {"agent.miss": 1}
    # Two complete lists within a few seconds are not enough.
    until = time.monotonic() + 120
    while not (report := house.sync())["applied"]:
        assert time.monotonic() < until
        time.sleep(0.3)
    assert report["applied"] == {"agent.archive": 1, "space.remove": 1}
    house.letta.control(restore=[gone])
    report = house.sync()
    assert report["applied"] == {"agent.return": 1, "space.add": 1}
    assert house.states() == {"active"}
