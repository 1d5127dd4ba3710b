"""A data directory whose key file was replaced: it starts, says exactly what is lost, gives it up after a backup, and works on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cryptography.fernet import Fernet

from tests.peers.letta_stub import LettaStub
from tests.peers.switchboard import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

PASSWORD = "xk-29-dune-walker"
SEED = """
from chat.models import Person
from chat.services.signing_keys import signing_key
from ops.services.alerts import channel_save
from ops.services.services import service_save
Person.objects.create_user("ada", password={password!r}, is_staff=True, is_superuser=True)
service_save(actor="person:ada", name="letta", kind="letta", base_url={url!r}, credentials={{"token": "letta-token-445566"}})
service_save(actor="person:ada", name="open", kind="letta", base_url={url!r})
channel_save(actor="person:ada", name="Night", url="json://u:secret-8899@127.0.0.1:9/")
signing_key()
result = None
"""
SERVICES = "from ops.models import Service\nresult={s.name: dict(s.credentials) for s in Service.objects.all()}"
AGAIN = """
from ops.models import Service
from ops.services.services import service_save, service_test
service = service_save(actor="person:ada", name="letta", kind="letta", base_url={url!r}, credentials={{"token": "new"}})
result = service_test(service=service, actor="person:ada").status
"""


class House:
    def __init__(self, stack: Stack, letta: LettaStub) -> None:
        self.stack, self.letta = stack, letta

    @property
    def keys(self) -> Path:
        return Path(self.stack.environment["DATA_DIR"]) / "keys" / "field_encryption_keys"

    def sign_in(self) -> int:
        body = {"username": "ada", "password": PASSWORD}
        return httpx.post(f"{self.stack.url}/api/auth/login", json=body, timeout=30).status_code

    def get(self, path: str) -> int:
        return httpx.get(f"{self.stack.url}{path}", timeout=30, follow_redirects=True).status_code


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with LettaStub(agents=1) as letta:
        stack = Stack()
        stack.environment.pop("MATRIX_SERVER_NAME")
        house = House(stack, letta)
        try:
            stack.prepare()
            stack.ask(SEED.format(password=PASSWORD, url=letta.url))
            stack.web.start()
            assert house.sign_in() == 200
            stack.web.terminate()
            stack._asked.close()
            stack._asked = None
            house.keys.with_name("old").write_text(house.keys.read_text())
            house.keys.write_text(Fernet.generate_key().decode())
            yield house
        finally:
            stack.stop()


def test_it_starts_and_shows_its_pages(house: House) -> None:
    house.stack.manage("check")
    house.stack.manage("provision")
    house.stack.web.start()
    assert house.get("/livez") == 200
    assert house.get("/chat/") == 200
    checks = json.loads(house.stack.manage("doctor", "secrets.readable", "--json", check=False).stdout)
    assert "secrets.readable" in json.dumps(checks)
    assert "credentials of services (1)" in json.dumps(checks)


def test_it_names_what_is_lost_and_nothing_else(house: House) -> None:
    listed = house.stack.manage("lost_key", "--json", check=False)
    assert listed.returncode == 1
    lost = {one["label"]: one["names"] for one in json.loads(listed.stdout)["lost"] if one["matters"]}
    assert lost["ops.Service.credentials"] == ["letta"]
    assert lost["ops.AlertChannel.url"] == ["Night"]
    assert len(lost["chat.SigningKey.secret"]) == 1
    assert set(lost) == {"ops.Service.credentials", "ops.AlertChannel.url", "chat.SigningKey.secret"}


def test_it_is_given_up_after_a_backup_and_the_rest_works(house: House) -> None:
    done = house.stack.manage("lost_key", "--apply")
    assert "Enter them again with the service" in done.stdout
    made = house.stack.ask(
        "from ops.models import Backup\nresult=[[b.reason, b.state, b.pinned] for b in Backup.objects.all()]"
    )
    assert [one[0] for one in made] == ["safety"]
    assert made[0][2] is True
    assert house.stack.ask(SERVICES) == {"letta": {}, "open": {}}
    assert house.stack.ask(AGAIN.format(url=house.letta.url)) == "ok"
    assert house.sign_in() == 200
    assert house.stack.manage("lost_key").returncode == 0


def test_the_old_key_brings_back_what_was_not_entered_again(house: House) -> None:
    old = house.keys.with_name("old").read_text()
    house.keys.write_text(f"{house.keys.read_text()},{old}")
    house.stack._asked.close()
    house.stack._asked = None
    run_id = house.stack.ask(
        "from ops.models import RepairRun\nresult=str(RepairRun.objects.get(repair_id='secrets.lost_key').pk)"
    )
    house.stack.manage("undo", run_id)
    assert house.stack.ask(
        "from ops.models import AlertChannel\nresult=str.__str__(AlertChannel.objects.get().url)"
    ).startswith("json")
    assert house.stack.ask(SERVICES)["letta"] == {"token": "new"}
