"""Rooms on first contact, through a real Synapse; and a homeserver that is lost is filled again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.matrix_client import Person, run
from tests.peers.letta_stub import LettaStub
from tests.peers.ports import free_port
from tests.peers.switchboard import Stack
from tests.peers.synapse import Synapse

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

AGENTS = 12
ROWS = (
    "from agents.models import Mapping\n"
    "result={m.agent.external_id: [m.account.user_id, m.room.room_id, m.room.alias, m.agent.name] for m in "
    "Mapping.objects.select_related('agent','account','room')}"
)


class House:
    """One installation with lazy rooms. ``synapse`` is replaced by a new, empty one in the course of the tests."""

    def __init__(self, stack: Stack, synapse: Synapse, letta: LettaStub) -> None:
        self.stack, self.synapse, self.letta = stack, synapse, letta

    def rows(self) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = self.stack.ask(ROWS)
        return dict(sorted(found.items()))

    def person(self) -> Person:
        return Person(self.synapse.url, "@ann:sb.test", "ann-has-a-password")

    def sync(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        done = self.stack.manage("sync_agents", "--json", *arguments, check=False)
        assert done.stdout.startswith("{"), done.stderr[-3000:]
        return done.returncode, json.loads(done.stdout)


def begin(stack: Stack, port: int) -> Synapse:
    """A new, empty homeserver at the same address, under the same name, with Ann."""
    synapse = Synapse(registration=stack.write_registration())
    synapse.port, synapse.url = port, f"http://127.0.0.1:{port}"
    synapse.start()
    synapse.register_user("ann", "ann-has-a-password")
    return synapse


@pytest.fixture(scope="module")
def house(redis_server: Any) -> Iterator[House]:
    redis_server.client().flushall()
    with LettaStub(agents=AGENTS) as letta:
        port = free_port()
        stack = Stack(
            homeserver_url=f"http://127.0.0.1:{port}",
            redis_url=redis_server.url,
            settings={"LETTA_BASE_URL": letta.url, "MATRIX_INVITE": "@ann:sb.test", "MATRIX_ROOMS": "lazy"},
        )
        house = House(stack, begin(stack, port), letta)
        try:
            stack.prepare()
            stack.start()
            yield house
        finally:
            stack.stop()
            house.synapse.stop()


def test_agents_are_there_at_once_and_rooms_are_not(house: House) -> None:
    code, report = house.sync()
    assert code == 0
    assert report["applied"] == {
        "space.create": 1, "agent.create": AGENTS, "mapping.create": AGENTS, "account.register": AGENTS, "account.profile": AGENTS,
    }  # fmt: skip
    assert [row[1] for row in house.rows().values()] == [None] * AGENTS
    assert house.sync()[1]["planned"] == {}


def test_whoever_looks_for_a_room_finds_it_made(house: House) -> None:
    first = next(iter(house.rows().values()))

    async def as_ann() -> None:
        async with house.person() as ann:
            # By its address: nobody has ever made this room.
            await ann.join(first[2])
            room = next(iter(house.rows().values()))[1]
            await ann.say(room, "Are you there?")
            await ann.until(lambda: bool(ann.said_in(room)), 120, house.stack.logs())

    run(as_ann)
    rows = list(house.rows().values())
    assert [row[1] is not None for row in rows] == [True] + [False] * (AGENTS - 1)
    listed = house.stack.ask(
        "from agents.services.backends import open_homeserver\nfrom agents.models import Room\nh=open_homeserver()\n"
        "result=list(h.client.space_children(Room.objects.get(kind='space').room_id, None))"
    )
    assert listed == [rows[0][1]]
    assert house.sync()[1]["planned"] == {}


def test_a_person_writes_to_an_agent_that_nobody_knew(house: House) -> None:
    second = list(house.rows().values())[1]

    async def as_ann() -> None:
        async with house.person() as ann:
            made = await ann.client.room_create(is_direct=True, invite=[second[0]])
            await ann.until(
                lambda: second[0] in getattr(ann.client.rooms.get(made.room_id), "users", {}), 60, house.stack.logs()
            )
            await ann.say(made.room_id, "Hello")
            await ann.until(lambda: bool(ann.said_in(made.room_id)), 120, house.stack.logs())
            assert ann.client.rooms[made.room_id].users[second[0]].display_name == second[3]

    run(as_ann)
    assert list(house.rows().values())[1][1] is None, "a chat of one's own is not the agent's room"


def test_a_homeserver_that_is_lost_is_noticed_and_filled_again_with_force(house: House) -> None:
    before = next(iter(house.rows().values()))
    space = house.stack.ask("from agents.models import Room\nresult=Room.objects.get(kind='space').room_id")
    house.synapse.stop()
    house.synapse = begin(house.stack, house.synapse.port)

    code, report = house.sync()
    assert code == 2
    assert [one["code"] for one in report["findings"]] == ["sync.homeserver_empty"]
    assert report["planned"] == {}
    assert (
        house.stack.ask("from agents.models import Account\nresult=Account.objects.filter(registered_at=None).count()")
        == 0
    )

    code, report = house.sync("--force")
    assert code == 0, report["findings"]
    assert report["applied"]["account.register"] == AGENTS
    assert report["applied"]["space.create"] == 1
    assert house.stack.ask("result=Room.objects.get(kind='space').room_id") != space
    assert house.sync()[1]["planned"] == {}
    texts = house.stack.ask(
        f"from chat.models import Link, Message\nlink=Link.objects.get(room__alias={before[2]!r})\n"
        "result=list(Message.objects.filter(conversation=link.conversation).order_by('seq').values_list('text', flat=True))"
    )
    assert texts[0] == "Are you there?", "the conversation is still the room's"

    async def as_ann() -> None:
        async with house.person() as ann:
            await ann.join(before[2])
            room = next(iter(house.rows().values()))[1]
            assert room != before[1]
            await ann.say(room, "Are you there again?")
            await ann.until(lambda: "Are you there again?" in str(ann.said_in(room)), 120, house.stack.logs())
            events = [e for e in await ann.all_messages(room) if e["type"] == "m.room.message"]
            copies = [e for e in events if e["content"].get("m.letta_historical")]
            assert "lost the room" in copies[0]["content"]["body"]
            assert copies[1]["content"]["body"].endswith(":** Are you there?"), copies[1]["content"]["body"]
            assert copies[1]["sender"] == "@switchboard:sb.test"
            assert copies[2]["sender"] == before[0]
            assert copies[2]["origin_server_ts"] < events[-1]["origin_server_ts"] - 1000, (
                "it bears the time when it was said"
            )

    run(as_ann)
    inputs = [entry["text"].removeprefix("ann: ") for entry in house.letta.accepted()]
    assert sorted(inputs) == ["Are you there again?", "Are you there?", "Hello"], "nothing old is answered again"
