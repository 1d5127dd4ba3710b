"""The predecessor's complete reset, made safe: rows go after a backup, rooms and accounts are found again, and nothing is made or answered twice."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.matrix_client import Person, run
from tests.peers.letta_stub import LettaStub
from tests.peers.switchboard import Stack
from tests.peers.synapse import MatrixUser, Synapse

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

AGENTS = 9
ROOMS = (
    "from agents.models import Mapping, Room\n"
    "result={m.agent.external_id: [m.account.user_id, m.room.room_id] for m in "
    "Mapping.objects.select_related('agent','account','room')}"
)
# Rooms that each agent's account is in, as the homeserver says: one that is made twice is seen here.
JOINED = (
    "from agents.services.backends import open_homeserver\nhomeserver=open_homeserver()\n"
    "from agents.models import Account\n"
    "names=list(Account.objects.values_list('user_id', flat=True))\n"
    "result={'agents': {name: sorted(homeserver.client.joined_rooms(name)) for name in names},"
    " 'switchboard': sorted(homeserver.client.joined_rooms(homeserver.sender_id))}"
)
SAID = "from chat.models import Message, Conversation\nresult=[Message.objects.count(), Conversation.objects.count()]"


class House:
    """One installation, scaled, over one Synapse and a few agents, while it runs."""

    def __init__(self, stack: Stack, synapse: Synapse, letta: LettaStub, ann: MatrixUser) -> None:
        self.stack, self.synapse, self.letta, self.ann = stack, synapse, letta, ann
        self.rooms: dict[str, list[str]] = {}
        self.joined: dict[str, Any] = {}
        self.direct = ""

    @property
    def room(self) -> str:
        return self.rooms[sorted(self.rooms)[0]][1]

    def person(self) -> Person:
        return Person(self.synapse.url, self.ann.user_id, self.ann.password)

    def reset(self, only: str) -> dict[str, Any]:
        done = self.stack.manage("reset", "--only", only, "--yes", f"reset {only}", "--json", check=False)
        assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        return json.loads(done.stdout)

    def sync(self) -> dict[str, Any]:
        done = self.stack.manage("sync_agents", "--json", check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout)

    def say(self, text: str) -> None:
        """Ann says it in the agent's room and in the chat that she opened, and is answered in both."""

        async def talk() -> None:
            async with self.person() as ann:
                before = {room: len(ann.said_in(room)) for room in (self.room, self.direct)}
                for room in before:
                    await ann.say(room, f"{text} in {'the room' if room == self.room else 'the chat'}")
                for room, count in before.items():
                    await ann.until(
                        lambda room=room, count=count: len(ann.said_in(room)) > count, 120, self.stack.logs()
                    )

        run(talk)

    def asked(self) -> Counter[str]:
        return Counter(entry["text"].removeprefix("ann: ") for entry in self.letta.accepted())

    def settle(self) -> None:
        """Every room is walked anew: whatever would be answered again has been."""
        self.stack.ask(
            "from chat.matrix.watch import catch_up_rooms\nfrom chat.matrix import gaps\nfrom ops.models import Service\n"
            "gaps.raise_epoch(Service.objects.get(kind='homeserver'), 'asked by a test')\ncatch_up_rooms()\n"
            "from chat.models import Turn\nimport time\n"
            "until=time.time()+60\n"
            "while Turn.objects.filter(state__in=['queued','running']).exists() and time.time()<until: time.sleep(.2)"
        )


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
            try:
                stack.start()
                yield house
            finally:
                stack.stop()


def test_what_is_said_before(house: House) -> None:
    second = house.rooms[sorted(house.rooms)[1]][0]

    async def open_chat() -> None:
        async with house.person() as ann:
            await ann.join(house.room)
            made = await ann.client.room_create(is_direct=True, invite=[second])
            house.direct = made.room_id
            await ann.until(lambda: second in getattr(ann.client.rooms.get(house.direct), "users", {}), 60)

    run(open_chat)
    house.say("before")
    house.joined = house.stack.ask(JOINED)
    plan = json.loads(house.stack.manage("reset", "--only", "mappings", "--json").stdout)
    assert plan["word"] == "reset mappings"
    assert {line["model"]: line["count"] for line in plan["lines"]}["agents.Mapping"] == AGENTS
    assert f"{AGENTS} rooms of agents on the homeserver would be orphans" in plan["outside"][0]["sentence"]
    assert any("rebuild_mappings" in one["command"] for one in plan["instead"])
    assert house.stack.ask(ROOMS) == house.rooms, "a plan changes nothing"
    refused = house.stack.manage("reset", "--only", "mappings", "--yes", "yes", check=False)
    assert refused.returncode == 1
    assert "reset mappings" in refused.stderr


def test_mappings_are_forgotten_and_found_again(house: House) -> None:
    done = house.reset("mappings")
    assert done["removed"]["agents.Mapping"] == AGENTS
    assert done["left"] == []
    assert house.stack.ask(ROOMS) == house.rooms, "everybody has the account and the room from before"
    assert house.sync()["applied"] == {}
    assert house.stack.ask(JOINED) == house.joined, "no room was made, nobody joined one"
    house.say("after the mappings")
    house.settle()
    assert house.asked() == {
        "before in the room": 1,
        "before in the chat": 1,
        "after the mappings in the room": 1,
        "after the mappings in the chat": 1,
    }
    conversations = house.stack.ask(SAID)[1]
    assert conversations == 2, "what is said goes on where it was"


def test_words_are_removed_and_not_answered_again(house: House) -> None:
    before = house.asked()
    done = house.reset("conversations")
    assert done["removed"]["chat.Message"] >= 8
    house.settle()
    assert house.stack.ask(SAID) == [0, 2]
    assert house.asked() == before, "what is still on the homeserver is history"
    house.say("after the words")
    house.settle()
    assert house.asked() - before == {"after the words in the room": 1, "after the words in the chat": 1}
    assert house.stack.ask(JOINED) == house.joined


def test_everything_is_removed_and_no_room_is_made_twice(house: House) -> None:
    before = house.asked()
    done = house.reset("all")
    assert done["removed"]["agents.Agent"] == AGENTS
    assert done["left"] == []
    assert house.stack.ask(ROOMS) == house.rooms
    assert house.sync()["applied"] == {}
    assert house.stack.ask(JOINED) == house.joined
    house.settle()
    assert house.asked() == before
    house.say("after everything")
    house.settle()
    assert house.asked() - before == {"after everything in the room": 1, "after everything in the chat": 1}


def test_the_last_reset_is_taken_back(house: House) -> None:
    before, said = house.asked(), house.stack.ask(SAID)
    assert said[0] >= 4
    house.reset("conversations")
    assert house.stack.ask(SAID)[0] == 0
    undone = house.stack.manage("reset", "--undo", "--json", check=False)
    assert undone.returncode == 0, f"{undone.stdout[-2000:]}\n{undone.stderr[-3000:]}"
    assert house.stack.ask(SAID) == said
    house.settle()
    assert house.asked() == before, "what was answered before is not answered again"
    house.say("after the undo")
    house.settle()
    assert house.asked() - before == {"after the undo in the room": 1, "after the undo in the chat": 1}
    assert house.stack.ask(JOINED) == house.joined
