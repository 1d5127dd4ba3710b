"""``faults.sync``: the process that creates accounts and rooms is killed again and again. Nothing is made twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from tests.faults.house import House, running_house
from tests.peers.switchboard import PROJECT
from tests.support.prepared import database_with_tables

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]

AGENTS = 25


def _kill_a_pass(house: House, rooms_before_kill: int) -> None:
    """Start a pass and kill it as soon as that many rooms exist: between any two steps of whatever comes next."""
    process = subprocess.Popen(
        [sys.executable, "manage.py", "sync_agents"],
        cwd=PROJECT, env={**os.environ, **house.stack.environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        with house.postgres.connect("faults_sync") as connection:
            deadline = time.monotonic() + 90
            while time.monotonic() < deadline and process.poll() is None:
                made = connection.execute("select count(*) from agents_room where room_id is not null").fetchone()
                if made and made[0] >= rooms_before_kill:
                    break
                time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def test_a_killed_pass_leaves_nothing_to_clean_up(postgres: Any, redis_server: Any) -> None:
    with running_house(AGENTS, database="faults_sync", postgres=postgres, redis=redis_server, processes=False) as house:
        for rooms in (0, 1, 4, 9, 15):
            _kill_a_pass(house, rooms)
        report = house.sync()
        assert report["state"] == "done"
        assert report["findings"] == []
        assert house.sync()["planned"] == {}, "one pass after the last kill is enough"

        mappings = house.mappings()
        assert len(mappings) == AGENTS
        client = house.client()
        try:
            for row in mappings:
                joined = client.joined_rooms(row["account__user_id"])
                assert joined == [row["room__room_id"]], f"{row['agent__name']} is in {len(joined)} rooms"
                assert client.resolve_alias(row["room__alias"]) == row["room__room_id"]
            spaces = client.joined_rooms(None)
            assert len(spaces) == 1
            children = client.space_children(spaces[0], None)
            assert set(children) == {row["room__room_id"] for row in mappings}
        finally:
            client.close()


def test_a_lost_database_is_found_again_on_the_homeserver(postgres: Any, redis_server: Any) -> None:
    with running_house(8, database="faults_sync_lost", postgres=postgres, redis=redis_server, processes=False) as house:
        house.sync()
        before = {row["agent__external_id"]: row["room__room_id"] for row in house.mappings()}
        postgres.drop_database("faults_sync_lost")
        database_with_tables(postgres, "faults_sync_lost")
        house.stack.prepare()
        # Nothing is made before somebody has said what became of the rows.
        assert [found["code"] for found in house.sync()["findings"]] == ["sync.state_lost"]
        assert house.mappings() == []
        house.stack.manage("rebuild_mappings", "--json")
        assert {row["agent__external_id"]: row["room__room_id"] for row in house.mappings()} == before
        report = house.sync()
        assert (report["findings"], report["applied"]) == ([], {})
        client = house.client()
        try:
            assert len(client.joined_rooms(None)) == 1, "the space was made a second time"
        finally:
            client.close()


def test_two_passes_at_once_wait_for_each_other(postgres: Any, redis_server: Any) -> None:
    with running_house(8, database="faults_sync_two", postgres=postgres, redis=redis_server, processes=False) as house:
        environment = {**os.environ, **house.stack.environment}
        passes = [
            subprocess.Popen([sys.executable, "manage.py", "sync_agents"], cwd=PROJECT, env=environment)
            for _ in range(3)
        ]
        assert [one.wait(120) for one in passes] == [0, 0, 0]
        counts = house.stack.ask(
            "from agents.models import SyncRun\nresult=list(SyncRun.objects.order_by('id').values_list('counts',flat=True))"
        )
        assert [count.get("room.create", 0) for count in counts] == [8, 0, 0]
