"""The same data directory at another address, and the homeserver at another one too: settings and registration follow, talk goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agents.matrix.registration import load
from tests.e2e.matrix_client import Person, run
from tests.peers.letta_stub import LettaStub
from tests.peers.ports import free_port
from tests.peers.switchboard import Stack, Web
from tests.peers.synapse import Synapse

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

PASSWORD = "ann-has-a-password"
ROOM = "from agents.models import Room\nresult=Room.objects.get(kind='agent').room_id"
RUNS = (
    "from ops.models import RepairRun\nresult=[str(r.pk) for r in RepairRun.objects.filter(repair_id='recovery.moved')]"
)
HOMESERVER = "from ops.models import Service\nresult=Service.objects.get(name='homeserver').base_url"


class House:
    def __init__(self, stack: Stack, synapse: Synapse, letta: LettaStub) -> None:
        self.stack, self.synapse, self.letta = stack, synapse, letta
        self.former = stack.url

    @property
    def file(self) -> Path:
        return Path(self.stack.environment["SWITCHBOARD_ENV_FILE"])

    @property
    def registration(self) -> Path:
        return Path(self.stack.environment["DATA_DIR"]) / "registration.yaml"

    def ann(self) -> Person:
        return Person(self.synapse.url, "@ann:sb.test", PASSWORD)

    def asked(self) -> list[str]:
        return [entry["text"].removeprefix("ann: ") for entry in self.letta.accepted()]


@pytest.fixture(scope="module")
def house(redis_server: Any) -> Iterator[House]:
    redis_server.client().flushall()
    with LettaStub(agents=1) as letta:
        stack = Stack(
            redis_url=redis_server.url, settings={"LETTA_BASE_URL": letta.url, "MATRIX_INVITE": "@ann:sb.test"}
        )
        synapse = Synapse(registration=stack.write_registration())
        house = House(stack, synapse, letta)
        for name in ("PUBLIC_URL", "MATRIX_HOMESERVER_URL"):
            stack.environment.pop(name)
        stack.folder.mkdir(parents=True, exist_ok=True)
        house.file.write_text(f"# ours\nPUBLIC_URL={stack.url}\nMATRIX_HOMESERVER_URL={synapse.url}\n")
        try:
            synapse.start()
            synapse.register_user("ann", PASSWORD)
            stack.prepare()
            stack.start()
            stack.manage("sync_agents")
            yield house
        finally:
            stack.stop()
            synapse.stop()


def test_something_is_said_before(house: House) -> None:
    room = house.stack.ask(ROOM)

    async def as_ann() -> None:
        async with house.ann() as ann:
            await ann.join(room)
            await ann.say(room, "Before the move")
            await ann.until(lambda: bool(ann.said_in(room)), 120, house.stack.logs())

    run(as_ann)


def test_everything_moves(house: House) -> None:
    stack, synapse = house.stack, house.synapse
    for part in stack.parts:
        part.terminate()
    stack._asked.close()
    stack._asked = None
    moved = stack.folder / "elsewhere" / "data"
    moved.parent.mkdir()
    Path(stack.environment["DATA_DIR"]).rename(moved)
    stack.port = free_port()
    stack.url = f"http://127.0.0.1:{stack.port}"
    stack.environment |= {"DATA_DIR": str(moved), "PORT": str(stack.port)}
    # It listens at the new port.
    stack.web = Web(stack)
    room = stack.ask(ROOM)

    async def as_ann() -> None:
        async with house.ann() as ann:
            await ann.say(room, "While nobody was home")

    run(as_ann)
    synapse.terminate()
    synapse.port = free_port()
    synapse.url = f"http://127.0.0.1:{synapse.port}"
    synapse._write_config()


def test_an_address_at_which_another_homeserver_answers_is_refused(house: House) -> None:
    before = house.file.read_text()
    nobody = house.stack.manage("moved", "--homeserver-url", house.synapse.url, "--yes", check=False)
    assert nobody.returncode == 2
    assert "cannot be asked for its name" in nobody.stderr
    with Synapse(
        server_name="other.test", registration=house.stack.write_registration(house.stack.folder / "o.yaml")
    ) as other:
        refused = house.stack.manage("moved", "--homeserver-url", other.url, "--yes", check=False)
    assert refused.returncode == 2
    assert "calls itself other.test" in refused.stderr or "rename-server" in refused.stderr, refused.stderr
    assert house.file.read_text() == before
    assert not house.registration.exists()


def test_the_plan_is_shown_done_and_taken_back(house: House) -> None:
    house.synapse.start()
    before = house.file.read_text()
    given = ("--public-url", house.stack.url, "--homeserver-url", house.synapse.url)
    planned = house.stack.manage("moved", *given, "--dry-run").stdout
    for part in ("PUBLIC_URL", "MATRIX_HOMESERVER_URL", "registration.yaml", "DNS"):
        assert part in planned, planned
    assert house.file.read_text() == before
    done = house.stack.manage("moved", *given, "--yes").stdout
    assert "To be done outside" in done
    assert str(house.registration) in done
    assert load(house.registration).url == house.stack.url
    assert house.registration.stat().st_mode & 0o077 == 0
    assert "# ours" in house.file.read_text()
    house.stack.manage("undo", house.stack.ask(RUNS)[0])
    assert house.file.read_text() == before
    assert not house.registration.exists()
    house.stack.manage("moved", *given, "--yes")
    assert house.stack.ask(HOMESERVER) == house.synapse.url
    again = house.stack.manage("moved", *given, "--yes")
    assert "already" in again.stdout


def test_talk_goes_on_and_what_was_said_meanwhile_is_answered_once(house: House) -> None:
    house.synapse.use_registration(house.registration)
    house.synapse.restart()
    for part in house.stack.parts:
        part.start()
    room = house.stack.ask(ROOM)

    async def as_ann() -> None:
        async with house.ann() as ann:
            await ann.say(room, "After the move")
            await ann.until(lambda: "After the move" in str(ann.said_in(room)), 120, house.stack.logs())
            await ann.until(lambda: "While nobody was home" in str(ann.said_in(room)), 120, house.stack.logs())

    run(as_ann)
    assert sorted(house.asked()) == ["After the move", "Before the move", "While nobody was home"]
    report = json.loads(house.stack.manage("sync_agents", "--json").stdout)
    assert report["planned"] == {}, "no account and no room is made a second time"
    assert house.stack.ask(ROOM) == room
