"""A synced installation on a real Synapse: agents of scripted servers with accounts, rooms and a space of their own prefix.

One Synapse serves all tests of this folder; every test has a prefix of its own, and so its own accounts, rooms and space.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agents.backends.base import AgentInfo
from agents.matrix.clients import close_all
from agents.matrix.registration import Registration
from agents.models import Mapping
from agents.services.backends import Homeserver, homeserver_of
from agents.services.spaces import space_row
from ops.models import Issue, RepairRun, Service
from ops.runner import CheckRun, run_checks
from ops.services.repairs import Planned, repair_plan, repair_start, repair_undo
from tests.peers.receiver import Receiver
from tests.peers.synapse import Synapse
from tests.support.scripted_backend import WORLD

AS_TOKEN, HS_TOKEN = "as-token-of-the-doctor", "hs-token-of-the-doctor"
SERVER = "sb.test"
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    receiver.as_token, receiver.hs_token = AS_TOKEN, HS_TOKEN
    with receiver:
        yield receiver


def registration(url: str, **fields: Any) -> Registration:
    values: dict[str, Any] = {
        "id": "switchboard", "url": url, "as_token": AS_TOKEN, "hs_token": HS_TOKEN,
        "sender_localpart": "switchboard", "server_name": SERVER, "user_prefix": "agent_",
    }  # fmt: skip
    return Registration(**{**values, **fields})


@pytest.fixture(scope="session")
def registration_file(receiver: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("registration") / "switchboard.yaml"
    path.write_text(registration(receiver.url).to_yaml())
    return path


@pytest.fixture(scope="session")
def synapse(synapse_factory: Callable[..., Synapse], registration_file: Path) -> Synapse:
    return synapse_factory(registration_file)


class House:
    """What a test has in its hands."""

    def __init__(self, synapse: Synapse, prefix: str) -> None:
        self.synapse, self.prefix = synapse, prefix
        self.name = "homeserver"

    @property
    def service(self) -> Service:
        return Service.objects.get(name=self.name)

    @property
    def homeserver(self) -> Homeserver:
        return homeserver_of(self.service)

    @property
    def client(self) -> Any:
        return self.homeserver.client

    def lists(self, *names: str) -> None:
        WORLD.agents["scripts"] = [AgentInfo(f"id-{name.lower()}", name) for name in names]

    def sync(self) -> None:
        from agents.services.sync import sync_agents

        report = sync_agents(actor="test")
        assert not report.error, report.error

    def mapping(self, name: str = "Ada") -> Mapping:
        return Mapping.objects.select_related("account", "room", "agent").get(agent__name=name)

    def room_id(self, name: str = "Ada") -> str:
        return str(self.mapping(name).room.room_id)

    def user_id(self, name: str = "Ada") -> str:
        return self.mapping(name).account.user_id

    def space_id(self) -> str:
        row = space_row(self.homeserver)
        assert row is not None
        return str(row.room_id)

    def children(self) -> set[str]:
        return set(self.client.space_children(self.space_id(), self.homeserver.sender_id))

    def forget_users(self, *user_ids: str) -> None:
        """The homeserver loses accounts: nothing in its API can, so its database does. Starts it anew."""
        self.synapse.terminate()
        with sqlite3.connect(self.synapse.folder / "homeserver.db") as database:
            for user_id in user_ids:
                for table, column in (("users", "name"), ("profiles", "full_user_id"), ("devices", "user_id")):
                    database.execute(f"DELETE FROM {table} WHERE {column} = ?", (user_id,))
        database.close()
        self.synapse.start()


@pytest.fixture
def house(synapse: Synapse, settings: Any, transactional_db: None) -> Iterator[House]:
    from agents.backends import registry

    settings.MATRIX_INVITE = []
    settings.DISABLED_AGENT_IDS = []
    settings.MATRIX_AS_TOKEN, settings.MATRIX_HS_TOKEN = AS_TOKEN, HS_TOKEN
    settings.MATRIX_HOMESERVER_URL = ""
    WORLD.reset()
    registry.close_all()
    number = next(_numbers)
    house = House(synapse, f"agent_d{number}_")
    Service.objects.create(
        name="homeserver",
        kind="homeserver",
        base_url=synapse.url,
        credentials={"as_token": AS_TOKEN, "hs_token": HS_TOKEN},
        options={"server_name": SERVER, "user_prefix": house.prefix, "space_name": f"Agents {number}"},
    )
    Service.objects.create(name="scripts", kind="scripted")
    yield house
    WORLD.reset()
    registry.close_all()
    close_all()


@pytest.fixture
def synced(house: House) -> House:
    """Three agents with everything."""
    house.lists("Ada", "Bea", "Cy")
    house.sync()
    return house


def ask(check: str, target: str = "homeserver") -> CheckRun:
    """What one check finds now."""
    return next(run for run in run_checks([check]) if run.target == target)


def plan(repair: str, target: str = "", **params: Any) -> Planned:
    return repair_plan(repair_id=repair, target=target, params=params, actor="test")


def mend(repair: str, target: str = "", typed: str = "", **params: Any) -> RepairRun:
    return repair_start(repair_id=repair, target=target, params=params, actor="test", trigger="command", typed=typed)


def undo(run: RepairRun) -> None:
    repair_undo(run=run, actor="test")


def issue(check: str) -> Issue | None:
    return Issue.objects.exclude(state="resolved").filter(check_id=check).first()
