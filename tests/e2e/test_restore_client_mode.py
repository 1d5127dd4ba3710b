"""Client mode and encrypted rooms when rows go back: the same accounts, rooms and devices, and nothing old is answered.

With a real Synapse that knows no appservice, a person with a plain client, another with an encrypting one, and a stand-in for Letta that writes
down what its agents were really given.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.agents.matrix.crypto.people import Someone
from tests.e2e.matrix_client import run
from tests.e2e.test_restore import ROOMS, SAID, House
from tests.peers.letta_stub import LettaStub
from tests.peers.synapse import MatrixUser
from tests.up.running import Up

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]


class ClientHouse(House):
    """One installation in client mode, embedded. Everything of it that is encrypted is said by Cleo."""

    admin: MatrixUser
    cleo: Someone
    sealed: str

    def _first(self) -> Up:
        return self._up("first")

    def _up(self, name: str, *, fresh: bool = False) -> Up:
        # With empty tables: that they are made where there are none is tried elsewhere.
        return super()._up(name)

    def begin(self) -> None:
        """Make the people, which the homeserver must run for, and start."""
        self.ann = self.synapse.register_user("ann", "ann-has-a-password")
        self.admin = self.synapse.register_user("root", "root-has-a-password", admin=True)
        self.settings |= {"MATRIX_MODE": "client", "MATRIX_REGISTRATION_SHARED_SECRET": self.synapse.shared_secret}
        self.stack.environment |= self.settings
        self.stack.manage("provision")
        self.stack.manage("sync_agents")
        self.start()
        self.rooms = self.stack.ask(ROOMS)

    @property
    def operator(self) -> str:
        """Switchboard's own account, which is in every room and reads."""
        return f"@switchboard:{self.synapse.server_name}"

    @property
    def up(self) -> Up:
        assert isinstance(self.stack, Up)
        return self.stack

    def agent(self, number: int) -> tuple[str, str]:
        """The account and the room of an agent."""
        account, room = self.rooms[sorted(self.rooms)[number]]
        return account, room

    def call(self, method: str, path: str) -> Any:
        headers = {"Authorization": f"Bearer {self.admin.access_token}"}
        answer = httpx.request(method, self.synapse.url + path, headers=headers, timeout=30)
        answer.raise_for_status()
        return answer.json()

    def accounts(self) -> list[str]:
        """All accounts that the homeserver has."""
        users = self.call("GET", "/_synapse/admin/v2/users?limit=500&guests=false")["users"]
        return sorted(one["name"] for one in users)

    def there(self) -> dict[str, list[str]]:
        """Every room of the homeserver with who is in it, as its administrator sees it."""
        rooms = self.call("GET", "/_synapse/admin/v1/rooms?limit=500")["rooms"]
        return {
            one["room_id"]: sorted(self.call("GET", f"/_synapse/admin/v1/rooms/{one['room_id']}/members")["members"])
            for one in rooms
        }

    def devices(self) -> dict[str, list[str]]:
        """The devices of our accounts."""
        return {
            one: sorted(
                device["device_id"] for device in self.call("GET", f"/_synapse/admin/v2/users/{one}/devices")["devices"]
            )
            for one in self.accounts()
            if one.startswith(("@agent_", self.operator))
        }

    def logins(self) -> int:
        """How many sessions were opened so far."""
        count: int = self.stack.ask(
            "from ops.models import AuditEvent\nresult=AuditEvent.objects.filter(action='session.opened').count()"
        )
        return count

    def begin_to_say(self, room: str, text: str) -> str:
        """Ann says it, and the agent begins an answer that takes a second for each word. Returns the run at its server."""
        self.letta.control(tokens_per_second=1)

        async def saying() -> None:
            async with self.person() as ann:
                await ann.say(room, text)

        run(saying)
        self.said.append(text)
        found: str = self.stack.ask(
            "import time\nfrom chat.models import Turn\nuntil=time.time()+240\n"
            "rows=Turn.objects.filter(state='running').exclude(upstream_ref='')\n"
            "while time.time()<until and not rows.exists(): time.sleep(.2)\n"
            "result=rows.get().upstream_ref"
        )
        return found

    def state_of(self, run_id: str) -> str:
        """Of a run at the agents' server."""
        answer = httpx.get(f"{self.letta.url}/v1/runs/{run_id}", timeout=30)
        return str(answer.raise_for_status().json()["status"])

    def until_cancelled(self, run_id: str) -> None:
        """Its server sees it at the next word."""
        deadline = time.monotonic() + 120
        while (state := self.state_of(run_id)) != "cancelled":
            assert time.monotonic() < deadline, f"it is {state}, and nobody waits for it any more"
            time.sleep(0.5)

    def with_cleo(self, part: Callable[[Someone], Awaitable[None]]) -> None:
        """Let Cleo's client, which goes on with the same device and keys, do something."""

        async def doing() -> None:
            if not hasattr(self, "cleo"):
                self.cleo = Someone(self.synapse, self.folder / "cleo", "cleo")
            async with self.cleo.again() as cleo:
                await part(cleo)

        run(doing)

    def open_sealed(self, account: str) -> str:
        """Cleo opens an encrypted chat with an agent, as apps do."""
        made: list[str] = []

        async def part(cleo: Someone) -> None:
            room = await cleo.room_with(account, self.operator)
            await cleo.until(lambda: len(cleo.client.rooms[room].users) >= 3, 240, self.logs())
            await cleo.until(lambda: any(cleo.client.device_store.active_user_devices(self.operator)), 240, self.logs())
            made.append(room)

        self.with_cleo(part)
        return made[0]

    async def tell(self, cleo: Someone, text: str, room: str = "") -> None:
        """Cleo says it in an encrypted room and reads the answer."""
        await cleo.say(room or self.sealed, text)
        await cleo.until(lambda: any(text in one for one in cleo.words()), 240, f"{text}\n{self.logs()}")
        self.said.append(text)

    def say_sealed(self, text: str, room: str = "") -> None:
        """As ``tell``, with Cleo's app opened for it."""
        self.with_cleo(lambda cleo: self.tell(cleo, text, room))

    def given(self) -> Counter[str]:
        return Counter(entry["text"].partition(": ")[2] for entry in self.letta.accepted())


@pytest.fixture(scope="module")
def house(tmp_path_factory: Any) -> Iterator[ClientHouse]:
    with LettaStub(agents=2) as letta:
        house = ClientHouse("embedded", tmp_path_factory.mktemp("restore-client"), letta, {})
        with house.synapse:
            try:
                house.begin()
                yield house
            finally:
                house.stop()


def told(house: ClientHouse, room: str) -> list[tuple[str, str, str]]:
    return [(role, text, guard) for role, text, guard in house.stack.ask(SAID.format(room=room))]


def people(house: ClientHouse, room: str) -> list[tuple[str, str]]:
    return [(text, guard) for role, text, guard in told(house, room) if role == "user"]


def errors(report: dict[str, Any]) -> dict[str, str]:
    return {name: said["error"] for name, said in report["report"].items() if said.get("error")}


def test_a_living_installation_goes_back(house: ClientHouse) -> None:
    first, room = house.agent(0)
    second, second_room = house.agent(1)
    house.sealed = house.open_sealed(first)
    house.talk((room, "said before"), (second_room, "said before to another"))
    house.say_sealed("sealed before")
    made = house.manage("backup", "create")

    # What no backup knows: words, a session that had to be opened anew, an agent whose password stands in its row alone.
    house.letta.control(agents=3)
    house.stack.manage("sync_agents")
    house.rooms = house.stack.ask(ROOMS)
    newest = house.agent(2)[1]
    token = house.stack.ask(
        f"from agents.models import Account\nresult=Account.objects.get(user_id={second!r}).secrets['access_token']"
    )
    bearer = {"Authorization": f"Bearer {token}"}
    httpx.post(f"{house.synapse.url}/_matrix/client/v3/logout", headers=bearer, timeout=30).raise_for_status()
    house.talk((room, "said after"), (second_room, "said after to another"), (newest, "said to the newest"))
    house.say_sealed("sealed after")
    before, opened = (house.there(), house.accounts(), house.devices()), house.logins()

    long = "said and cut off" + " in the middle of it" * 300
    run_id = house.begin_to_say(second_room, long)
    assert house.state_of(run_id) == "running"
    report = house.manage("restore", made["name"], "--yes")
    assert report["state"] == "done", report
    assert errors(report) == {}, report
    assert report["report"]["outside.Answers under way"]["ended"] == 1
    house.until_cancelled(run_id)
    house.letta.control(reset=True)
    house.talk((room, "said again"), (second_room, "said again to another"), (newest, "said to the newest again"))
    house.say_sealed("sealed again")
    house.settle()
    assert (house.there(), house.accounts(), house.devices()) == before, "no room, no account, no device was made"
    assert house.logins() == opened, "the sessions of this moment go on"
    assert house.stack.ask(ROOMS) == house.rooms
    assert house.given() == dict.fromkeys(house.said, 1)
    assert people(house, room) == [("said before", ""), ("said after", ""), ("said again", "")]
    assert people(house, house.sealed) == [("sealed before", ""), ("sealed after", ""), ("sealed again", "")]
    assert [role for role, _, _ in told(house, house.sealed)].count("assistant") == 3
    # Its room had to be found again, and tells of it.
    assert people(house, newest) == [("said to the newest", "restored"), ("said to the newest again", "")]
    texts = [text for text, _ in people(house, second_room)]
    assert texts == ["said before to another", "said after to another", long, "said again to another"]
