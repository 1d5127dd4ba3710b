"""Client mode and encrypted rooms through what begins anew: a reset, a lost key, a homeserver at another address.

With a real Synapse that knows no appservice, a person with a plain client, another with an encrypting one, and a stand-in for Letta that writes
down what its agents were really given. One installation lives through all of it, test after test.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.fernet import Fernet

from tests.agents.matrix.crypto.people import Someone
from tests.e2e.client_house import ClientHouse, people, running_client_house
from tests.e2e.test_restore import ROOMS
from tests.peers.ports import free_port

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]


RUN = "from ops.models import RepairRun\nresult=str(RepairRun.objects.filter(repair_id={repair!r}).latest('created_at').pk)"
SECRETS = (
    "from agents.models import Account\n"
    "result={a.user_id: dict(a.secrets or {}) for a in Account.objects.order_by('pk')}"
)
ADDRESS = "from ops.models import Service\nresult=Service.objects.get(name='homeserver').base_url"


def undo(house: ClientHouse, repair: str, expect: int = 0) -> str:
    """Take the last run of a repair back."""
    return house.up.manage("undo", house.stack.ask(RUN.format(repair=repair)), expect=expect)


@pytest.fixture(scope="module")
def house(tmp_path_factory: Any) -> Iterator[ClientHouse]:
    with running_client_house(tmp_path_factory.mktemp("recovery-client")) as house:
        (first, room), (_, second_room) = house.agent(0), house.agent(1)
        house.sealed = house.open_sealed(first)
        house.talk((room, "said before"), (second_room, "said before to another"))
        house.say_sealed("sealed before")
        yield house


def test_a_reset_finds_everything_again_and_answers_nothing_old(house: ClientHouse) -> None:
    room, second_room = house.agent(0)[1], house.agent(1)[1]
    before, opened = (house.there(), house.accounts(), house.devices()), house.logins()

    done = house.manage("reset", "--only", "mappings", "--yes", "reset mappings")
    assert done["left"] == [], done
    assert done["removed"]["agents.Mapping"] == 2
    assert house.stack.ask(ROOMS) == house.rooms
    house.talk((room, "said after the mappings"))
    house.say_sealed("sealed after the mappings")
    assert people(house, house.sealed) == [("sealed before", ""), ("sealed after the mappings", "")]

    long = "said and cut off" + " in the middle of it" * 300
    run_id = house.begin_to_say(second_room, long)
    assert house.state_of(run_id) == "running"
    done = house.manage("reset", "--only", "all", "--yes", "reset all")
    assert done["left"] == [], done
    assert done["removed"]["agents.Agent"] == 2
    house.until_cancelled(run_id)
    house.letta.control(reset=True)
    assert house.stack.ask(ROOMS) == house.rooms
    house.talk((room, "said after everything"), (second_room, "said after everything to another"))
    house.say_sealed("sealed after everything")
    house.settle()
    assert house.given() == dict.fromkeys(house.said, 1)
    assert people(house, house.sealed) == [("sealed after everything", "")]
    assert people(house, second_room) == [("said after everything to another", "")]
    assert (house.there(), house.accounts(), house.devices()) == before, "no room, no account, no device was made"
    assert house.logins() == opened, "the sessions go on"


def test_a_reset_is_taken_back(house: ClientHouse) -> None:
    room = house.agent(0)[1]
    before, known = (house.there(), house.accounts(), house.devices()), people(house, house.sealed)
    house.manage("reset", "--only", "conversations", "--yes", "reset conversations")
    assert people(house, house.sealed) == []
    house.say_sealed("sealed in between")
    house.manage("reset", "--undo")
    house.talk((room, "said after the undo"))
    house.say_sealed("sealed after the undo")
    house.settle()
    assert house.given() == dict.fromkeys(house.said, 1)
    assert people(house, house.sealed) == [*known, ("sealed in between", ""), ("sealed after the undo", "")]
    assert (house.there(), house.accounts(), house.devices()) == before


def replace_key(house: ClientHouse) -> str:
    """The file with the key is another one now. Returns what stood in it."""
    keys = house.up.data / "keys" / "field_encryption_keys"
    former = keys.read_text()
    keys.write_text(Fernet.generate_key().decode())
    house.ask_anew()
    return former


def find_key(house: ClientHouse, former: str) -> None:
    """It turned up after all, and is put behind the present one."""
    keys = house.up.data / "keys" / "field_encryption_keys"
    keys.write_text(f"{keys.read_text()},{former}")
    house.ask_anew()


def lost(house: ClientHouse) -> dict[str, list[str]]:
    """What is said to be lost, by what it is, with names."""
    said, _ = json.JSONDecoder().raw_decode(house.up.manage("lost_key", "--json", expect=1))
    return {one["label"]: one["names"] for one in said["lost"] if one["matters"]}


def test_a_lost_key_that_turns_up_brings_sessions_and_devices_back(house: ClientHouse) -> None:
    before, opened, secrets = house.devices(), house.logins(), house.stack.ask(SECRETS)
    stores = sorted((house.up.data / "crypto").glob("*/*.db"))
    house.stop()
    former = replace_key(house)
    found = lost(house)
    assert sorted(found["agents.Account.secrets"]) == sorted(before)
    assert len(found["keys of encrypted rooms (DATA_DIR/crypto)"]) == len(stores) == 2
    said = house.up.manage("lost_key", "--apply")
    assert "what was said before in encrypted rooms stays unreadable" in said
    assert list((house.up.data / "crypto").glob("*/*.db")) == []
    assert house.stack.ask(SECRETS) == {user: {} for user in secrets}
    find_key(house, former)
    undo(house, "secrets.lost_key")
    assert house.stack.ask(SECRETS) == secrets
    house.start()
    house.talk((house.agent(0)[1], "said with the former key"))
    house.say_sealed("sealed with the former key")
    house.settle()
    assert house.given() == dict.fromkeys(house.said, 1)
    assert (house.devices(), house.logins()) == (before, opened)


def test_a_lost_key_is_given_up_and_the_rest_works_with_new_devices(house: ClientHouse) -> None:
    (first, room), (_, second_room) = house.agent(0), house.agent(1)
    before, devices = (house.there(), house.accounts()), house.devices()
    house.stop()
    former = replace_key(house)
    house.up.manage("lost_key", "--apply")
    # Nobody who could open them: what the homeserver needs for it is said.
    said = house.up.manage("repair", "identity.relogin", "--yes", expect=4)
    assert "admin_token" in said, said
    house.up.environment["MATRIX_ADMIN_TOKEN"] = house.admin.access_token
    house.ask_anew()

    async def into_the_void(cleo: Someone) -> None:
        await cleo.say(house.sealed, "sealed while the key was lost")

    house.with_cleo(into_the_void)
    house.start()

    async def told_that_it_is_lost(cleo: Someone) -> None:
        await cleo.until(lambda: any("my keys are lost" in one for one in cleo.words()), 240, house.logs())

    house.with_cleo(told_that_it_is_lost)
    house.up.manage("repair", "matrix.new_device", "--yes")
    house.say_sealed("sealed with a new device")
    house.talk((room, "said without the key"), (second_room, "said without the key to another"))
    house.settle()
    assert house.given() == dict.fromkeys(house.said, 1)
    assert (house.there(), house.accounts()) == before, "no room and no account was made"
    now = house.devices()
    assert {user: len(names) for user, names in now.items()} == dict.fromkeys(devices, 1), "former devices are gone"
    assert {user for user in now if now[user] != devices[user]} == {house.operator, first}

    # What was entered meanwhile stays when the key turns up.
    secrets = house.stack.ask(SECRETS)
    house.stop()
    find_key(house, former)
    undo(house, "secrets.lost_key")
    assert house.stack.ask(SECRETS) == secrets


def test_the_homeserver_moves_to_another_address(house: ClientHouse) -> None:
    before, opened = (house.there(), house.accounts(), house.devices()), house.logins()
    house.stop()
    house.synapse.terminate()
    house.synapse.port = free_port()
    house.synapse.url = f"http://127.0.0.1:{house.synapse.port}"
    house.synapse._write_config()
    house.synapse.start()
    house.cleo.client.homeserver = house.synapse.url
    planned = house.up.manage("moved", "--homeserver-url", house.synapse.url, "--dry-run")
    assert "MATRIX_HOMESERVER_URL" in planned, planned
    assert "registration" not in planned, planned
    # Given in the environment, it is the environment that has to say it.
    house.up.environment["MATRIX_HOMESERVER_URL"] = house.synapse.url
    house.ask_anew()
    house.up.manage("moved", "--homeserver-url", house.synapse.url, "--yes")
    assert house.stack.ask(ADDRESS) == house.synapse.url
    house.start()
    house.talk((house.agent(0)[1], "said at the new address"))
    house.say_sealed("sealed at the new address")
    house.settle()
    assert house.given() == dict.fromkeys(house.said, 1)
    assert (house.there(), house.accounts(), house.devices()) == before
    assert house.logins() == opened
