"""One installation in client mode for whole tests: who runs it, who talks to it, and what its homeserver has of it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.agents.matrix.crypto.people import Someone
from tests.e2e.matrix_client import run
from tests.e2e.test_restore import ROOMS, SAID, House
from tests.peers.letta_stub import LettaStub
from tests.peers.synapse import MatrixUser
from tests.up.running import Up


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

    def ask_anew(self) -> None:
        """Whoever answers questions reads settings and keys again."""
        if self.up._asked is not None:
            self.up._asked.close()
            self.up._asked = None

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


@contextmanager
def running_client_house(folder: Path) -> Iterator[ClientHouse]:
    """With two agents, begun; everything is stopped at the end."""
    with LettaStub(agents=2) as letta:
        house = ClientHouse("embedded", folder, letta, {})
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
