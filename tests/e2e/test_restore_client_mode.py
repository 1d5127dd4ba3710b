"""Client mode and encrypted rooms when rows go back: the same accounts, rooms and devices, and nothing old is answered.

With a real Synapse that knows no appservice, a person with a plain client, another with an encrypting one, and a stand-in for Letta that writes
down what its agents were really given.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.agents.matrix.crypto.people import Someone
from tests.e2e.client_house import ClientHouse, errors, people, running_client_house, told
from tests.e2e.test_restore import KEY, ROOMS

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]

RENEWED = (
    "from ops.models import AuditEvent\n"
    "from agents.models import Account\n"
    "rows=AuditEvent.objects.filter(action='encryption.device_renewed')\n"
    "result=[Account.objects.get(pk=row.target_id).user_id for row in rows]"
)


@pytest.fixture(scope="module")
def house(tmp_path_factory: Any) -> Iterator[ClientHouse]:
    with running_client_house(tmp_path_factory.mktemp("restore-client")) as house:
        yield house


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


def test_an_empty_machine_reads_what_its_keys_are_for_and_answers_with_new_devices(house: ClientHouse) -> None:
    (first, room), (second, _), (_, newest) = house.agent(0), house.agent(1), house.agent(2)
    key = house.folder / "paper-key"
    key.write_text(house.stack.ask(KEY))
    kept = house.folder / "kept.sbk"

    async def across_the_cut(cleo: Someone) -> None:
        await house.tell(cleo, "sealed before the fire")
        made = await asyncio.to_thread(house.manage, "backup", "create")
        shutil.copy(house.up.data / "backups" / f"{made['name']}.sbk", kept)
        # With the key that the backup has.
        await house.tell(cleo, "sealed after the backup")

    house.with_cleo(across_the_cut)
    # What no backup knows: the first encrypted chat of an agent, with the keys that were made for it, and an agent with its account.
    chat = house.open_sealed(second)
    house.say_sealed("sealed in a new chat", chat)
    house.letta.control(agents=4)
    house.stack.manage("sync_agents")
    house.rooms = house.stack.ask(ROOMS)
    fourth_room = house.agent(3)[1]
    house.talk((fourth_room, "said to the fourth"), (newest, "said before the fire"))
    before, devices = (house.there(), house.accounts()), house.devices()
    # Of an account made since nobody has the password: somebody has to be able to give it another.
    house.settings["MATRIX_ADMIN_TOKEN"] = house.admin.access_token
    house.lose_everything()
    unheard: list[str] = []

    async def into_the_void(cleo: Someone) -> None:
        unheard.append(await cleo.say(house.sealed, "sealed while nobody was there"))

    house.with_cleo(into_the_void)

    report = house.manage("restore", str(kept), "--key-file", str(key), "--yes")
    assert report["state"] == "done", report
    assert errors(report) == {}, report
    assert house.stack.ask(ROOMS) == house.rooms
    assert sorted(house.stack.ask(RENEWED)) == sorted([house.operator, first, second])
    house.start()
    house.talk((room, "said after the fire"), (fourth_room, "said to the fourth again"))

    async def again(cleo: Someone) -> None:
        await house.tell(cleo, "sealed after the fire")
        await house.tell(cleo, "sealed in the chat again", chat)
        await cleo.until(lambda: any("could not read a message" in one for one in cleo.words()), 240, house.logs())
        # Its key comes late: what was said before the restore is history all the same.
        kept = cleo.client.olm.inbound_group_store[house.sealed].values()
        known = {session for by_sender in kept for session in by_sender}
        wanted = {one.session_id for one in cleo.asked if one.session_id in known}
        assert wanted
        for session in sorted(wanted):
            await cleo.give_key(house.sealed, session, house.operator)
        await cleo.until(lambda: ("sealed while nobody was there", "restored") in people(house, house.sealed), 240)

    house.with_cleo(again)
    house.settle()
    assert house.given() == dict.fromkeys(house.said, 1), "nobody heard what was said into the void"
    assert (house.there(), house.accounts()) == before, "no room and no account was made"
    now = house.devices()
    assert {user: len(names) for user, names in now.items()} == dict.fromkeys(devices, 1), "former devices are gone"
    assert {user for user in now if now[user] != devices[user]} == {house.operator, first, second}
    assert [text for text, guard in people(house, house.sealed) if guard][-2:] == [
        "sealed after the backup",
        "sealed while nobody was there",
    ]
    assert people(house, fourth_room) == [("said to the fourth", "restored"), ("said to the fourth again", "")]
