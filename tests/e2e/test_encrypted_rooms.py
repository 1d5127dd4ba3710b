"""Encrypted rooms in client mode: a person with an encrypting client, a real Synapse without any appservice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agents.matrix.crypto.people import Someone
from tests.e2e.matrix_client import run
from tests.peers.switchboard import Stack
from tests.peers.synapse import Synapse
from tests.support.prepared import database_with_tables

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

ROOM = (
    "from agents.models import Mapping\n"
    "result=Mapping.objects.values('account__user_id','room__room_id').get(agent__name='Echo')"
)
SEAL = """
from agents.services.backends import open_homeserver
client = open_homeserver().client
client.put_state({room!r}, "m.room.encryption", "", {{"algorithm": "m.megolm.v1.aes-sha2"}}, user_id={user!r})
result = 1
"""
REFUSED = """
from chat.models import RefusedEvent
result = [list(one) for one in RefusedEvent.objects.filter(reason__startswith="encrypted").values_list("external_id", "reason", "sentence")]
"""
CHECK = """
from agents.doctor.matrix.encryption import encryption
from ops.models import Service
found = encryption(Service.objects.get(kind="homeserver").name)
result = {"status": found.status, "sentence": found.sentence, "affected": [one.target for one in found.affected]}
"""
OPERATOR = "@switchboard:sb.test"


class House:
    """One installation in client mode, and Ann's place in the room of its agent."""

    def __init__(self, stack: Stack, synapse: Synapse, folder: Path) -> None:
        self.stack, self.synapse, self.folder = stack, synapse, folder
        row = stack.ask(ROOM)
        self.room, self.agent = str(row["room__room_id"]), str(row["account__user_id"])

    def person(self, name: str) -> Someone:
        return Someone(self.synapse, self.folder / name, name)

    def restart(self) -> None:
        self.stack.stop()
        self.stack.start()

    def devices(self, ann: Someone) -> dict[str, list[str]]:
        return {user: sorted(ann.client.device_store[user]) for user in (OPERATOR, self.agent)}

    def keys_of(self, user_id: str) -> Path:
        return self.stack.folder / "data" / "crypto" / "sb.test" / f"{user_id[1:].partition(':')[0]}.db"


@pytest.fixture(scope="module")
def house(redis_server: Any, postgres: Any, tmp_path_factory: Any) -> Iterator[House]:
    redis_server.client().flushall()
    with Synapse() as synapse:
        stack = Stack(
            homeserver_url=synapse.url,
            redis_url=redis_server.url,
            database_url=database_with_tables(postgres, "encrypted_rooms"),
            concurrency=8,
            settings={
                "MATRIX_MODE": "client",
                "MATRIX_REGISTRATION_SHARED_SECRET": synapse.shared_secret,
                "DEMO_AGENTS": "true",
            },
        )
        stack.prepare()
        stack.manage("sync_agents")
        with stack:
            yield House(stack, synapse, tmp_path_factory.mktemp("people"))


async def _in_the_room(house: House, ann: Someone, room: str) -> None:
    """Wait until everybody is there, with keys."""
    await ann.until(lambda: len(ann.client.rooms[room].users) >= 3 if room in ann.client.rooms else False, 120)
    await ann.until(lambda: any(ann.client.device_store.active_user_devices(OPERATOR)), 180, house.stack.logs())


def test_whoever_writes_encrypted_is_answered_encrypted_also_after_a_restart(house: House) -> None:
    async def part() -> None:
        async with house.person("ann") as ann:
            # A chat that Ann opens, as clients open one: encrypted from the beginning.
            room = await ann.room_with(house.agent, OPERATOR)
            await _in_the_room(house, ann, room)
            await ann.say(room, "can you read this?")
            await ann.until(
                lambda: any("can you read this?" in one for one in ann.words(house.agent)), 180, house.stack.logs()
            )
            before = house.devices(ann)
            house.restart()
            await ann.say(room, "and now?")
            await ann.until(lambda: any("and now?" in one for one in ann.words(house.agent)), 180, house.stack.logs())
            await ann.sync()
            assert house.devices(ann) == before
            # Nothing of ours stands there in the open.
            page = await ann.client.room_messages(room, limit=100)
            written = [one.source["type"] for one in page.chunk if one.sender == house.agent]
            assert "m.room.message" not in {
                one.source["type"] for one in page.chunk if not one.decrypted and one.sender == house.agent
            }, written
            assert house.stack.ask(REFUSED) == []

    run(part)


def test_a_message_without_its_key_is_told_and_taken_in_when_the_key_comes(house: House) -> None:
    async def part() -> None:
        async with house.person("bea") as bea:
            room = await bea.room_with(house.agent, OPERATOR)
            await _in_the_room(house, bea, room)
            for user in (OPERATOR, house.agent):
                for device in bea.client.device_store.active_user_devices(user):
                    bea.client.blacklist_device(device)
            event_id = await bea.say(room, "a secret for later")
            await bea.until(
                lambda: any("could not read a message" in one for one in bea.words(house.agent)),
                180,
                house.stack.logs(),
            )
            [[refused, reason, sentence]] = house.stack.ask(REFUSED)
            assert (refused, reason) == (event_id, "encrypted")
            assert "asked for" in sentence
            await bea.until(lambda: bool(bea.asked), 30)
            for user in (OPERATOR, house.agent):
                for device in bea.client.device_store.active_user_devices(user):
                    bea.client.unblacklist_device(device)
            await bea.give_key(room, bea.asked[0].session_id, OPERATOR)
            await bea.until(
                lambda: any("a secret for later" in one for one in bea.words(house.agent)), 180, house.stack.logs()
            )
            assert house.stack.ask(REFUSED) == []

    run(part)


def test_lost_keys_are_said_in_the_room_and_by_the_doctor_and_a_new_device_mends_it(house: House) -> None:
    async def part() -> None:
        async with house.person("cleo") as cleo:
            room = await cleo.room_with(house.agent, OPERATOR)
            await _in_the_room(house, cleo, room)
            await cleo.say(room, "before")
            await cleo.until(lambda: any("before" in one for one in cleo.words(house.agent)), 180, house.stack.logs())
            house.stack.stop()
            house.keys_of(OPERATOR).unlink()
            house.keys_of(house.agent).unlink()
            await cleo.say(room, "are you there?")
            house.stack.start()
            await cleo.until(lambda: any("my keys are lost" in one for one in cleo.words()), 180, house.stack.logs())
            await cleo.say(room, "once more")
            await cleo.until(lambda: len(house.stack.ask(REFUSED)) == 2, 180, house.stack.logs())
            checked = house.stack.ask(CHECK)
            assert checked["status"] == "fail"
            assert "are lost" in checked["sentence"]
            assert len(checked["affected"]) == 2
            before = house.devices(cleo)
            house.stack.manage("repair", "matrix.new_device", "--yes")
            assert house.stack.ask(CHECK)["status"] == "pass"
            await cleo.until(lambda: house.devices(cleo) != before, 120)
            await cleo.say(room, "and after?")
            await cleo.until(
                lambda: any("and after?" in one for one in cleo.words(house.agent)), 180, house.stack.logs()
            )
            assert sum("my keys are lost" in one for one in cleo.words()) == 1
            # The former devices are gone from the homeserver.
            await cleo.until(
                lambda: all(
                    len(list(cleo.client.device_store.active_user_devices(user))) == 1
                    for user in (OPERATOR, house.agent)
                ),
                30,
            )

    run(part)
