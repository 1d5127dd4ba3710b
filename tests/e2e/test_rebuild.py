"""The database is lost and the homeserver lives: sync makes nothing, a rebuild finds everything, and nobody is answered twice."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.matrix_client import Person, run
from tests.peers.letta_stub import LettaStub
from tests.peers.switchboard import Stack
from tests.peers.synapse import MatrixUser, Synapse

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

AGENTS = 30
ROOMS = (
    "from agents.models import Mapping, Room\n"
    "result={m.agent.external_id: [m.account.user_id, m.room.room_id] for m in "
    "Mapping.objects.select_related('agent','account','room')}"
)


class House:
    """One installation over one Synapse and thirty agents. ``rooms`` is ``{agent id: [account, room id]}`` before the loss."""

    def __init__(self, stack: Stack, synapse: Synapse, letta: LettaStub, ann: MatrixUser) -> None:
        self.stack, self.synapse, self.letta, self.ann = stack, synapse, letta, ann
        self.rooms: dict[str, list[str]] = {}
        self.space = ""
        self.direct = ""

    @property
    def ids(self) -> list[str]:
        return sorted(self.rooms)

    def person(self) -> Person:
        return Person(self.synapse.url, self.ann.user_id, self.ann.password)

    def lose_database(self) -> None:
        self.stack.stop()
        for path in Path(self.stack.environment["DATA_DIR"]).glob("switchboard.sqlite3*"):
            path.unlink()
        self.stack.prepare()

    def command(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        done = self.stack.manage(*arguments, "--json", check=False)
        assert done.stdout.startswith("{"), done.stderr[-3000:]
        return done.returncode, json.loads(done.stdout)


@pytest.fixture(scope="module")
def house(redis_server: Any) -> Iterator[House]:
    redis_server.client().flushall()
    with LettaStub(agents=AGENTS) as letta:
        synapse = Synapse()
        stack = Stack(
            homeserver_url=synapse.url,
            redis_url=redis_server.url,
            settings={"LETTA_BASE_URL": letta.url, "MATRIX_INVITE": "@ann:sb.test"},
        )
        synapse.registration = stack.write_registration()
        with synapse:
            ann = synapse.register_user("ann", "ann-has-a-password")
            stack.prepare()
            stack.manage("sync_agents")
            house = House(stack, synapse, letta, ann)
            house.rooms = stack.ask(ROOMS)
            house.space = stack.ask("result=Room.objects.get(kind='space').room_id")
            try:
                stack.start()
                yield house
            finally:
                stack.stop()


def test_the_rows_are_lost_and_found_again(house: House) -> None:
    first, second, third = house.ids[:3]
    room = house.rooms[first][1]

    async def before() -> None:
        async with house.person() as ann:
            await ann.join(room)
            await ann.say(room, "said before the loss")
            await ann.until(lambda: bool(ann.said_in(room)), 120, house.stack.logs())
            made = await ann.client.room_create(is_direct=True, invite=[house.rooms[second][0]])
            house.direct = made.room_id
            await ann.until(
                lambda: house.rooms[second][0] in getattr(ann.client.rooms.get(house.direct), "users", {}), 60
            )
            await ann.say(house.direct, "said in a chat before the loss")
            await ann.until(lambda: bool(ann.said_in(house.direct)), 120, house.stack.logs())

    run(before)
    # Two rooms of its own, and nothing that tells which is the one.
    house.stack.ask(
        "from agents.services.backends import open_homeserver\nhomeserver=open_homeserver()\n"
        f"account={house.rooms[third][0]!r}\nalias='#'+account[1:]\n"
        "homeserver.client.delete_alias(alias, account)\n"
        f"homeserver.client.remove_from_space({house.space!r}, {house.rooms[third][1]!r}, user_id=None)\n"
        "result=homeserver.client.create_room(user_id=account, name='Another', preset='private_chat')"
    )
    house.lose_database()

    code, report = house.command("sync_agents")
    assert code == 2
    assert [one["code"] for one in report["findings"]] == ["sync.state_lost"]
    assert house.stack.ask(
        "from agents.models import Mapping, Room\nresult=[Mapping.objects.count(), Room.objects.count()]"
    ) == [0, 0]

    code, plan = house.command("rebuild_mappings", "--dry-run")
    assert code == 2
    assert len(plan["found"]) == AGENTS - 1
    assert [one["target"] for one in plan["doubts"]] == [f"letta/{third}"]
    assert len(plan["doubts"][0]["rooms"]) == 2
    assert plan["space"]["room_id"] == house.space
    assert house.stack.ask("result=Mapping.objects.count()") == 0, "a dry run writes nothing"

    code, report = house.command("rebuild_mappings")
    assert code == 2, "the doubt is still there"
    assert report["written"]["mapping"] == AGENTS - 1
    assert report["written"]["direct"] == 1
    house.stack.ask(
        "from agents.services.backends import open_homeserver\n"
        f"account, room = {house.rooms[third]!r}\nclient=open_homeserver().client\n"
        f"client.put_alias('#'+account[1:], room, account)\nclient.add_to_space({house.space!r}, room, user_id=None)"
    )
    code, report = house.command("rebuild_mappings")
    assert code == 0
    assert [one["agent"] for one in report["found"]] == [third]
    assert house.stack.ask(ROOMS) == house.rooms, "everybody has the account and the room from before"
    states = house.stack.ask(
        "from agents.models import Invitation\nresult=list(Invitation.objects.values_list('room__room_id','state'))"
    )
    assert Counter(state for _, state in states) == {"invited": AGENTS, "joined": 1}
    assert [room, "joined"] in states

    code, report = house.command("sync_agents")
    assert (code, report["applied"], report["planned"]) == (0, {}, {}), report["steps"][:5]


def test_what_is_said_afterwards_is_answered_once_and_nothing_else(house: House) -> None:
    room = house.rooms[house.ids[0]][1]
    house.stack.start()

    async def after() -> None:
        async with house.person() as ann:
            await ann.say(room, "said after the loss")
            await ann.say(house.direct, "said in the chat after the loss")
            await ann.until(lambda: len(ann.said_in(room)) > 1, 120, house.stack.logs())
            await ann.until(lambda: len(ann.said_in(house.direct)) > 1, 120, house.stack.logs())

    run(after)
    # Every room is walked by now: whatever would be answered again has been.
    house.stack.ask(
        "from chat.matrix.watch import catch_up_rooms\nfrom chat.matrix import gaps\nfrom ops.models import Service\n"
        "gaps.raise_epoch(Service.objects.get(kind='homeserver'), 'asked by a test')\ncatch_up_rooms()\n"
        "from chat.models import Turn\nimport time\n"
        "until=time.time()+60\n"
        "while Turn.objects.filter(state__in=['queued','running']).exists() and time.time()<until: time.sleep(.2)"
    )
    inputs = Counter(entry["text"].removeprefix("ann: ") for entry in house.letta.accepted())
    assert inputs == {
        "said before the loss": 1,
        "said in a chat before the loss": 1,
        "said after the loss": 1,
        "said in the chat after the loss": 1,
    }
