"""A backup comes back to life on an empty machine, and in part on a living one, while homeserver and agents' server went on.

With a real Synapse, a person's own client, and a stand-in for Letta that writes down what its agents were really given. Embedded (one process,
SQLite, keys that it made for itself) and scaled (PostgreSQL, Redis, web, worker and beat as processes).
"""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.matrix_client import Person, run
from tests.peers.letta_stub import LettaStub
from tests.peers.switchboard import Stack, Web
from tests.peers.synapse import MatrixUser, Synapse
from tests.support.prepared import database_with_tables
from tests.up.running import Up

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]

ROOMS = (
    "from agents.models import Mapping\n"
    "result={m.agent.external_id: [m.account.user_id, m.room.room_id] for m in Mapping.objects.select_related('agent','account','room')}"
)
ROOMS_THERE = (
    "from agents.models import Account\nfrom agents.services.backends import open_homeserver\n"
    "client=open_homeserver().client\n"
    "result={a.user_id: sorted(client.joined_rooms(a.user_id)) for a in Account.objects.order_by('pk')}"
)
KEY = (
    "from ops.services.backup_keys import key_new, key_confirm\n"
    "key, secret = key_new(label='paper', actor='test')\nkey_confirm(key=key, secret=secret, actor='test')\nresult=secret"
)
# Somebody says something in the portal: in the conversation ``talk``, or (0) in a new one. The answer is waited for.
IN_THE_PORTAL = (
    "import time\nfrom agents.models import Agent\nfrom chat.models import Conversation, Person, Turn\n"
    "from chat.services.messages import message_send\nfrom chat.services.portal import conversation_start\n"
    "agent=Agent.objects.get(external_id={agent!r})\n"
    "grace=Person.objects.filter(username='grace').first() or Person.objects.create_user('grace')\n"
    "place=Conversation.objects.filter(pk={talk}).first() or conversation_start(person=grace, agent=agent, actor='test').conversation\n"
    "turn=message_send(agent=agent, text={text!r}, person=grace, conversation=place, transport='portal', external_id={text!r}).turn\n"
    "until=time.time()+240\n"
    "while time.time()<until and not Turn.objects.filter(pk=turn.pk, state='done').exists(): time.sleep(.2)\n"
    "result=place.pk"
)
TOLD = (
    "from chat.models import Message\n"
    "result=list(Message.objects.filter(conversation={talk}).order_by('seq').values_list('pk','seq','role','text','guard'))"
)
SAID = (
    "from chat.models import Message\n"
    "result=list(Message.objects.filter(conversation__links__room__room_id={room!r}).order_by('seq').values_list('role','text','guard'))"
)


class House:
    """One installation, which may begin a second life elsewhere, over one Synapse and one server of agents."""

    def __init__(self, mode: str, folder: Path, letta: LettaStub, peers: dict[str, Any]) -> None:
        self.mode, self.folder, self.letta, self.peers = mode, folder, letta, peers
        self.synapse = Synapse()
        self.lives = 0
        self.settings = {"LETTA_BASE_URL": letta.url, "MATRIX_INVITE": "@ann:sb.test", "SYNC_INTERVAL": "3600"}
        self.running: Any = None
        self.stack: Stack | Up = self._first()
        self.ann: MatrixUser
        self.rooms: dict[str, list[str]] = {}
        self.said: list[str] = []

    # One life after another.

    def _first(self) -> Stack | Up:
        self.lives = 1
        if self.mode == "scaled":
            stack = Stack(
                homeserver_url=self.synapse.url,
                database_url=database_with_tables(self.peers["postgres"], "restore_first"),
                redis_url=self.peers["redis"].url,
                settings=self.settings,
                folder=self.folder / "first",
            )
            self.synapse.registration = stack.write_registration()
            stack.prepare()
            return stack
        up = self._up("first")
        up.manage("provision")
        written = self.folder / "registration.yaml"
        written.write_text(
            up.ask(
                "from agents.services.registration import registration_of\nfrom ops.models import Service\n"
                "result=registration_of(Service.objects.get(kind='homeserver'), server_name='sb.test').to_yaml()"
            )
        )
        self.synapse.registration = written
        return up

    def _up(self, name: str, *, fresh: bool = False) -> Up:
        known = getattr(self, "stack", None)
        up = Up(
            self.folder / name,
            fresh=fresh,
            MATRIX_HOMESERVER_URL=self.synapse.url,
            MATRIX_SERVER_NAME="sb.test",
            DEMO_AGENTS="false",
            **self.settings,
        )
        if isinstance(known, Up):
            # The homeserver knows us by it.
            up.port, up.url = known.port, known.url
            up.environment["PORT"] = str(known.port)
        return up

    def lose_everything(self) -> None:
        """Rows, files and keys are gone; what comes next begins in an empty directory and an empty database."""
        self.stop()
        if isinstance(self.stack, Stack):
            self.peers["redis"].client().flushall()
            database = self.peers["postgres"].create_database("restore_second")
            second = Stack(
                homeserver_url=self.synapse.url,
                database_url=database,
                redis_url=self.peers["redis"].url,
                settings=self.settings,
                folder=self.folder / "second",
            )
            tokens = ("MATRIX_AS_TOKEN", "MATRIX_HS_TOKEN")
            second.environment |= {name: self.stack.environment[name] for name in tokens}
            second.port, second.url = self.stack.port, self.stack.url
            second.environment |= {"PORT": str(second.port), "PUBLIC_URL": second.url}
            second.web = Web(second)
            shutil.rmtree(self.stack.environment["DATA_DIR"])
            self.stack = second
        else:
            second_up = self._up("second", fresh=True)
            shutil.rmtree(self.stack.data)
            self.stack = second_up

    def start(self) -> None:
        self.stack.start()

    def stop(self) -> None:
        if isinstance(self.stack, Stack) or self.stack.process is not None:
            self.stack.stop()

    def manage(self, *arguments: str) -> dict[str, Any]:
        done = self.stack.manage(*arguments, "--json")
        text = done if isinstance(done, str) else done.stdout
        found: dict[str, Any] = json.loads(text)
        return found

    def logs(self) -> str:
        return self.stack.logs() if isinstance(self.stack, Stack) else self.stack.output()[-6000:]

    # What people do.

    def person(self) -> Person:
        return Person(self.synapse.url, self.ann.user_id, self.ann.password)

    def talk(self, *words: tuple[str, str]) -> None:
        """Ann says these (room, text) one after the other, and waits for each answer."""

        async def talking() -> None:
            async with self.person() as ann:
                for room, text in words:
                    if room not in ann.client.rooms:
                        await ann.join(room)
                    before = len(ann.said_in(room))
                    await ann.say(room, text)
                    await ann.until(
                        lambda room=room, before=before: len(ann.said_in(room)) > before, 240, f"{text}\n{self.logs()}"
                    )

        run(talking)
        self.said += [text for _, text in words]

    def open_chat(self, account: str) -> str:
        made: list[str] = []

        async def opening() -> None:
            async with self.person() as ann:
                answer = await ann.client.room_create(is_direct=True, invite=[account])
                made.append(answer.room_id)
                await ann.until(
                    lambda: account in getattr(ann.client.rooms.get(answer.room_id), "users", {}), 120, self.logs()
                )

        run(opening)
        return made[0]

    def given(self) -> Counter[str]:
        """What agents were really given, each input counted."""
        return Counter(entry["text"].removeprefix("ann: ").removeprefix("grace: ") for entry in self.letta.accepted())

    def settle(self) -> None:
        """Nothing is under way any more, and every room was read: whatever would be answered again has been."""
        self.stack.ask(
            "import time\nfrom chat.models import Delivery, Turn\nfrom chat.matrix import gaps\nfrom chat.matrix.watch import catch_up_rooms\n"
            "from ops.models import Service\n"
            "gaps.raise_epoch(Service.objects.get(kind='homeserver'), 'asked by a test')\ncatch_up_rooms()\n"
            "until=time.time()+90\n"
            "while time.time()<until and (Turn.objects.filter(state__in=['queued','running']).exists()"
            " or Delivery.objects.filter(state__in=['queued','running']).exists()): time.sleep(.2)"
        )


@pytest.fixture(scope="module", params=["embedded", "scaled"])
def house(request: Any, tmp_path_factory: Any) -> Iterator[House]:
    peers: dict[str, Any] = {}
    if request.param == "scaled":
        peers = {"postgres": request.getfixturevalue("postgres"), "redis": request.getfixturevalue("redis_server")}
        peers["redis"].client().flushall()
    with LettaStub(agents=2) as letta:
        house = House(request.param, tmp_path_factory.mktemp(f"restore-{request.param}"), letta, peers)
        with house.synapse:
            house.ann = house.synapse.register_user("ann", "ann-has-a-password")
            try:
                house.stack.manage("sync_agents")
                house.start()
                house.rooms = house.stack.ask(ROOMS)
                yield house
            finally:
                house.stop()


def test_an_empty_machine_takes_up_where_the_homeserver_is(house: House) -> None:
    first = sorted(house.rooms)[0]
    room = house.rooms[first][1]
    house.talk((room, "said before the backup"))
    key = house.folder / "paper-key"
    key.write_text(house.stack.ask(KEY))
    made = house.manage("backup", "create")
    data = Path(house.stack.environment["DATA_DIR"])
    kept = house.folder / f"{made['name']}.sbk"
    shutil.copy(data / "backups" / kept.name, kept)

    # What no backup knows: words, an agent, its room, a chat.
    house.letta.control(agents=3)
    house.stack.manage("sync_agents")
    rooms = house.stack.ask(ROOMS)
    (newest,) = set(rooms) - set(house.rooms)
    house.rooms = rooms
    chat = house.open_chat(rooms[first][0])
    house.talk((room, "said after the backup"), (rooms[newest][1], "said to a new agent"), (chat, "said in a new chat"))
    there = house.stack.ask(ROOMS_THERE)
    house.lose_everything()

    async def into_the_void() -> None:
        async with house.person() as ann:
            await ann.say(room, "said while nobody was there")

    run(into_the_void)

    report = house.manage("restore", str(kept), "--key-file", str(key), "--yes")
    assert report["state"] == "done", report
    errors = {name: said["error"] for name, said in report["report"].items() if said.get("error")}
    assert errors == {}, report
    assert house.stack.ask(ROOMS) == rooms, "everybody has the account and the room from before, the new agent as well"
    assert house.stack.ask(ROOMS_THERE) == there, "no room was made a second time"
    assert report["report"]["outside.Rooms and accounts"]["written"]["mapping"] == 1
    assert report["report"]["outside.Chats"]["chats"] == 1

    house.start()
    house.talk(
        (room, "said after the restore"),
        (rooms[newest][1], "said to the new agent again"),
        (chat, "said in the chat again"),
    )
    house.settle()
    assert house.given() == dict.fromkeys(house.said, 1), "each word was answered once, and what nobody heard by nobody"
    told = house.stack.ask(SAID.format(room=room))
    people = [(text, guard) for role, text, guard in told if role == "user"]
    assert people == [
        ("said before the backup", ""),
        ("said after the backup", "restored"),
        ("said while nobody was there", "restored"),
        ("said after the restore", ""),
    ]
    assert [role for role, _, _ in told].count("assistant") == 3, "the answer from in between is known as well"
    for place, words in ((rooms[newest][1], "said to a new agent"), (chat, "said in a new chat")):
        told = house.stack.ask(SAID.format(room=place))
        assert [role for role, _, _ in told] == ["user", "assistant", "user", "assistant"], told
        assert told[0][1] == words

    async def look() -> None:
        async with house.person() as ann:
            for place, answers in ((room, 3), (rooms[newest][1], 2), (chat, 2)):
                events = [one for one in await ann.all_messages(place) if one["type"] == "m.room.message"]
                own = [
                    one
                    for one in events
                    if one["sender"] != ann.user_id
                    and one["content"].get("m.relates_to", {}).get("rel_type") != "m.replace"
                ]
                assert len(own) == answers, [one["content"].get("body") for one in events]

    run(look)


def test_conversations_come_back_on_a_living_installation(house: House) -> None:
    first = sorted(house.rooms)[0]
    room = house.rooms[first][1]
    house.talk((room, "said before the second backup"))
    portal = house.stack.ask(IN_THE_PORTAL.format(agent=first, text="said in the portal before", talk=0))
    made = house.manage("backup", "create")
    house.talk((room, "said after the second backup"))
    house.stack.ask(IN_THE_PORTAL.format(agent=first, text="said in the portal after", talk=portal))
    newer = house.stack.ask(IN_THE_PORTAL.format(agent=first, text="said in the portal anew", talk=0))
    house.said += [f"said in the portal {word}" for word in ("before", "after", "anew")]
    in_portal = [house.stack.ask(TOLD.format(talk=talk)) for talk in (portal, newer)]
    assert [len(told) for told in in_portal] == [4, 2]
    there = house.stack.ask(ROOMS_THERE)

    began = time.monotonic()
    report = house.manage("restore", made["name"], "--only", "conversations", "--yes")
    assert report["state"] == "done", report
    assert {name: said["error"] for name, said in report["report"].items() if said.get("error")} == {}
    assert time.monotonic() - began < 600
    house.talk((room, "said after the second restore"))
    house.settle()
    assert house.given() == dict.fromkeys(house.said, 1)
    assert [house.stack.ask(TOLD.format(talk=talk)) for talk in (portal, newer)] == in_portal, "no room tells of it"
    assert report["plan"]["since"]["words"]["messages"] == 6
    people = [(text, guard) for role, text, guard in house.stack.ask(SAID.format(room=room)) if role == "user"]
    assert people[-3:] == [
        ("said before the second backup", ""),
        ("said after the second backup", ""),
        ("said after the second restore", ""),
    ]
    assert house.stack.ask(ROOMS_THERE) == there
