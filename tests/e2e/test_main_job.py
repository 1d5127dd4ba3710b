"""The main job on real servers: every agent of a real Letta gets a room on a real Synapse and answers in it as itself.

Scaled mode: PostgreSQL, Redis, daphne, worker and beat as processes. The person is an ordinary user with matrix-nio's client.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest

from tests.e2e.matrix_client import Person, run
from tests.peers.letta import Letta
from tests.peers.switchboard import Stack
from tests.peers.synapse import MatrixUser, Synapse
from tests.support.prepared import database_with_tables

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

AGENTS = 120


@dataclass
class House:
    """Everything that runs."""

    stack: Stack
    synapse: Synapse
    letta: Letta
    ann: MatrixUser
    agents: list[dict[str, Any]]

    def mappings(self) -> dict[str, dict[str, str]]:
        """By the agent's id: name, account, room, state."""
        rows = self.stack.ask(
            "from agents.models import Mapping\n"
            "result=list(Mapping.objects.values('agent__external_id','agent__name','agent__state','account__user_id',"
            "'room__room_id','room__in_space'))"
        )
        return {row["agent__external_id"]: row for row in rows}

    def sync(self, *arguments: str) -> dict[str, Any]:
        done = self.stack.manage("sync_agents", "--json", *arguments, check=False)
        assert done.returncode in {0, 2}, done.stdout + done.stderr
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def house(synapse_factory: Any, letta: Letta, postgres: Any, redis_server: Any) -> Iterator[House]:
    synapse = Synapse()
    stack = Stack(
        homeserver_url=synapse.url,
        database_url=database_with_tables(postgres, "main_job"),
        redis_url=redis_server.url,
        settings={"LETTA_BASE_URL": letta.url, "MATRIX_INVITE": "@ann:sb.test"},
    )
    synapse.registration = stack.write_registration()
    letta.delete_all_agents()
    with synapse:
        ann = synapse.register_user("ann", "ann-has-a-password")
        agents = letta.create_agents(AGENTS)
        stack.prepare()
        with stack:
            yield House(stack, synapse, letta, ann, agents)
    letta.delete_all_agents()


def test_every_agent_gets_an_account_a_room_and_a_place_in_the_space(house: House) -> None:
    report = house.sync()

    assert report["applied"]["room.create"] == AGENTS
    assert report["findings"] == []
    mappings = house.mappings()
    assert set(mappings) == {agent["id"] for agent in house.agents}
    assert len({row["account__user_id"] for row in mappings.values()}) == AGENTS
    assert len({row["room__room_id"] for row in mappings.values()}) == AGENTS
    for agent in house.agents:
        row = mappings[agent["id"]]
        assert row["agent__name"] == agent["name"]
        assert row["account__user_id"] == f"@agent_{agent['id'].removeprefix('agent-').replace('-', '_')}:sb.test"

    async def as_ann() -> None:
        async with Person(house.synapse.url, house.ann.user_id, house.ann.password) as ann:
            space = (await ann.client.room_resolve_alias("#agent_space:sb.test")).room_id
            await ann.join(space)
            state = (await ann.client.room_get_state(space)).events
            children = {event["state_key"] for event in state if event["type"] == "m.space.child" and event["content"]}
            assert children == {row["room__room_id"] for row in mappings.values()}
            one = mappings[house.agents[7]["id"]]
            alias = one["account__user_id"].replace("@", "#")
            await ann.join(alias)
            names = await ann.client.joined_members(one["room__room_id"])
            assert {member.user_id: member.display_name for member in names.members}[one["account__user_id"]] == (
                house.agents[7]["name"]
            )

    run(as_ann)


def test_a_second_pass_changes_nothing(house: House) -> None:
    before = house.stack.ask("from ops.models import AuditEvent\nresult=AuditEvent.objects.count()")
    report = house.sync()
    assert report["planned"] == {}
    assert report["steps"] == []
    assert house.stack.ask("from ops.models import AuditEvent\nresult=AuditEvent.objects.count()") == before


def test_each_agent_answers_in_its_room_from_its_own_account(house: House) -> None:
    mappings = house.mappings()
    chosen = [mappings[agent["id"]] for agent in house.agents[:8]]

    async def as_ann() -> None:
        async with Person(house.synapse.url, house.ann.user_id, house.ann.password) as ann:
            for row in chosen:
                await ann.join(row["room__room_id"])
            await asyncio.gather(
                *(ann.say(row["room__room_id"], f"question for {row['agent__name']}") for row in chosen)
            )
            for row in chosen:
                room = row["room__room_id"]
                await ann.until(
                    # Whole: on a busy machine it may grow by an edit first.
                    lambda room=room, row=row: any(row["agent__name"] in one for one in ann.said_in(room)),
                    180,
                    f"{row['agent__name']} is silent\n{house.stack.logs()}",
                )
            await asyncio.sleep(1)
            for row in chosen:
                answers = ann.said_in(row["room__room_id"], sender=row["account__user_id"])
                assert len(answers) == 1
                assert f"question for {row['agent__name']}" in answers[0]
                assert ann.said_in(row["room__room_id"]) == answers, "somebody else spoke in the agent's room"

    run(as_ann)


def test_a_slow_answer_grows_by_few_edits_and_ends_whole(house: House) -> None:
    row = house.mappings()[house.agents[9]["id"]]

    async def as_ann() -> None:
        async with Person(house.synapse.url, house.ann.user_id, house.ann.password) as ann:
            await ann.join(row["room__room_id"])
            await ann.say(row["room__room_id"], "[slow 150] [long 60] tell me slowly")
            await ann.until(
                lambda: any("word60" in text for text in ann.said_in(row["room__room_id"])), 60, house.stack.logs()
            )
            events = [
                event for event in await ann.all_messages(row["room__room_id"])
                if event["sender"] == row["account__user_id"] and event["type"] == "m.room.message"
            ]  # fmt: skip
            assert 2 <= len(events) <= 12, "a slow answer is shown while it grows, in at most twelve events"
            edits = [
                event for event in events if event["content"].get("m.relates_to", {}).get("rel_type") == "m.replace"
            ]
            assert len(edits) == len(events) - 1
            times = [event["origin_server_ts"] for event in events]
            assert all(later - earlier >= 900 for earlier, later in pairwise(times)), times
            assert len(ann.said_in(row["room__room_id"])) == 1

    run(as_ann)


def test_a_failing_model_tells_the_person_one_honest_sentence(house: House) -> None:
    row = house.mappings()[house.agents[10]["id"]]

    async def as_ann() -> None:
        async with Person(house.synapse.url, house.ann.user_id, house.ann.password) as ann:
            await ann.join(row["room__room_id"])
            await ann.say(row["room__room_id"], "[error 500] please")
            await ann.until(lambda: bool(ann.said_in(row["room__room_id"])), 120, house.stack.logs())
            await asyncio.sleep(1)
            told = ann.said_in(row["room__room_id"])
            assert len(told) == 1
            assert "Your message is kept" in told[0]

    run(as_ann)
    turn = house.stack.ask(
        "from chat.models import Turn\n"
        f"result=Turn.objects.filter(agent__external_id={house.agents[10]['id']!r}).values('state','error_code','error_reason').get()"
    )
    assert turn["state"] in {"dead", "failed"}
    assert turn["error_reason"]


def test_an_agent_is_renamed_deleted_and_comes_back(house: House) -> None:
    renamed, deleted = house.agents[15]["id"], house.agents[16]["id"]
    before = house.mappings()
    house.letta.rename_agent(renamed, "Renamed Rosa")
    report = house.sync()
    assert report["applied"] == {"agent.update": 1, "account.profile": 1, "room.describe": 1}

    house.letta.delete_agent(deleted)
    first = house.sync()
    assert first["applied"] == {"agent.miss": 1}, "nothing is archived at the first sight"
    second = house.sync()
    while second["applied"] == {}:
        second = house.sync()
    assert second["applied"] == {"agent.archive": 1, "space.remove": 1}
    after = house.mappings()
    assert after[deleted]["agent__state"] == "archived"
    assert after[renamed]["agent__name"] == "Renamed Rosa"
    for agent_id in (renamed, deleted):
        assert after[agent_id]["room__room_id"] == before[agent_id]["room__room_id"]

    async def as_ann() -> None:
        async with Person(house.synapse.url, house.ann.user_id, house.ann.password) as ann:
            await ann.join(after[renamed]["room__room_id"])
            name = await ann.client.room_get_state_event(after[renamed]["room__room_id"], "m.room.name")
            assert name.content["name"] == "Renamed Rosa"
            await ann.join(after[deleted]["room__room_id"])
            await ann.say(after[deleted]["room__room_id"], "are you there?")
            await ann.until(lambda: bool(ann.said_in(after[deleted]["room__room_id"])), 180, house.stack.logs())
            assert "no longer exists" in ann.said_in(after[deleted]["room__room_id"])[0]

    run(as_ann)


def test_too_many_vanished_agents_stop_the_plan(house: House) -> None:
    """As when the address points to another, almost empty Letta: everything seems gone."""
    for agent in house.agents[60:]:
        house.letta.delete_agent(agent["id"])
    done = house.stack.manage("sync_agents", "--json", check=False)
    report = json.loads(done.stdout)
    assert done.returncode == 2
    assert report["stopped"] == ["letta"]
    assert report["applied"] == {}
    assert [finding["code"] for finding in report["findings"]] == ["sync.suspicious"]
    states = {row["agent__state"] for agent_id, row in house.mappings().items() if agent_id != house.agents[16]["id"]}
    assert states == {"active"}


def test_a_restart_in_the_middle_loses_and_doubles_nothing(house: House) -> None:
    mappings = house.mappings()
    chosen = [mappings[agent["id"]] for agent in house.agents[20:26]]

    async def as_ann() -> None:
        async with Person(house.synapse.url, house.ann.user_id, house.ann.password) as ann:
            for row in chosen:
                await ann.join(row["room__room_id"])
            for row in chosen:
                await ann.say(row["room__room_id"], f"[slow 100] [long 30] before {row['agent__name']}")
            await asyncio.sleep(1.5)
            house.stack.workers[0].kill9()
            house.stack.web.kill9()
            for row in chosen:
                await ann.say(row["room__room_id"], f"during {row['agent__name']}")
            house.stack.workers[0].start()
            house.stack.web.start()
            for row in chosen:
                room, name = row["room__room_id"], row["agent__name"]
                await ann.until(
                    lambda room=room, name=name: any(f"during {name}" in text for text in ann.said_in(room)),
                    150,
                    f"{name} did not answer after the restart\n{house.stack.logs(120)}",
                )
            await asyncio.sleep(2)
            for row in chosen:
                answers = ann.said_in(row["room__room_id"], sender=row["account__user_id"])
                assert len(answers) == 2, answers
                assert "word30" in answers[0]
                assert f"during {row['agent__name']}" in answers[1]

    run(as_ann)
