"""Client mode on a real Synapse that knows no appservice: accounts, rooms, answers, restarts, lost sessions; and the way there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.e2e.matrix_client import Person, run
from tests.peers.switchboard import Stack
from tests.peers.synapse import MatrixUser, Synapse
from tests.support.prepared import database_with_tables

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

ROOM = (
    "from agents.models import Mapping\n"
    "result=Mapping.objects.values('account__user_id','room__room_id','account__session').get(agent__name={!r})"
)


class House:
    """One installation in client mode over one Synapse."""

    def __init__(self, stack: Stack, synapse: Synapse, ann: MatrixUser, admin: MatrixUser) -> None:
        self.stack, self.synapse, self.ann, self.admin = stack, synapse, ann, admin
        self.before: list[str] = []

    def room(self, name: str) -> dict[str, str]:
        row: dict[str, str] = self.stack.ask(ROOM.format(name))
        return row

    def rooms(self) -> list[str]:
        """The rooms that our rows know."""
        found: list[str] = self.stack.ask(
            "from agents.models import Room\nresult=sorted(Room.objects.exclude(kind='direct').values_list('room_id', flat=True))"
        )
        return found

    def person(self) -> Person:
        return Person(self.synapse.url, self.ann.user_id, self.ann.password)

    def call(self, method: str, path: str) -> Any:
        answer = httpx.request(
            method, self.synapse.url + path, headers={"Authorization": f"Bearer {self.admin.access_token}"}, timeout=20
        )
        answer.raise_for_status()
        return answer.json()

    def devices(self) -> dict[str, list[str]]:
        """Every account of ours with its devices, as the homeserver's administrator sees them."""
        users = self.call("GET", "/_synapse/admin/v2/users?limit=500&guests=false")["users"]
        ours = [one["name"] for one in users if one["name"].startswith(("@agent_", "@switchboard"))]
        return {
            one: sorted(
                device["device_id"] for device in self.call("GET", f"/_synapse/admin/v2/users/{one}/devices")["devices"]
            )
            for one in ours
        }

    def logins(self) -> int:
        """How many sessions were opened so far."""
        count: int = self.stack.ask(
            "from ops.models import AuditEvent\nresult=AuditEvent.objects.filter(action='session.opened').count()"
        )
        return count

    def delete_devices(self, user_id: str) -> None:
        for device in self.devices()[user_id]:
            self.call("DELETE", f"/_synapse/admin/v2/users/{user_id}/devices/{device}")


@pytest.fixture(scope="module")
def house(redis_server: Any, postgres: Any) -> Iterator[House]:
    synapse = Synapse()
    redis_server.client().flushall()
    with synapse:
        ann = synapse.register_user("ann", "ann-has-a-password")
        admin = synapse.register_user("root", "root-has-a-password", admin=True)
        stack = Stack(
            homeserver_url=synapse.url,
            redis_url=redis_server.url,
            database_url=database_with_tables(postgres, "client_mode"),
            settings={
                "MATRIX_MODE": "client",
                "MATRIX_REGISTRATION_SHARED_SECRET": synapse.shared_secret,
                "DEMO_AGENTS": "true",
                "MATRIX_INVITE": "@ann:sb.test",
            },
        )
        stack.prepare()
        stack.manage("sync_agents")
        with stack:
            yield House(stack, synapse, ann, admin)


def test_accounts_rooms_and_space_are_made_and_a_person_is_answered(house: House) -> None:
    row = house.room("Echo")
    assert row["account__session"] == "good"
    assert len(house.devices()) == house.stack.ask("from agents.models import Agent\nresult=Agent.objects.count()") + 1

    async def as_ann() -> None:
        async with house.person() as ann:
            space = house.stack.ask("from agents.models import Room\nresult=Room.objects.get(kind='space').room_id")
            assert {row["room__room_id"], space} <= set(ann.client.invited_rooms)
            await ann.join(row["room__room_id"])
            await ann.say(row["room__room_id"], "hello")
            await ann.until(lambda: bool(ann.said_in(row["room__room_id"])), 60, house.stack.logs())
            assert {e.sender for r, e in ann.heard if r == row["room__room_id"]} - {ann.user_id} == {
                row["account__user_id"]
            }

    run(as_ann)


def test_after_a_restart_of_everything_nothing_is_lost_doubled_or_logged_in_again(house: House) -> None:
    row, before, logins = house.room("Echo"), house.devices(), house.logins()

    room, agent = row["room__room_id"], row["account__user_id"]

    async def ask() -> None:
        async with house.person() as ann:
            await ann.say(room, "while you were away")

    async def answered() -> None:
        async with house.person() as ann:
            await ann.until(lambda: any("while you" in one for one in ann.said_in(room, agent)), 60, house.stack.logs())
            await asyncio.sleep(1)
            written = [event for event in await ann.all_messages(room) if event["sender"] == agent]
            texts = [event["content"].get("body", "") for event in written if "m.relates_to" not in event["content"]]
            assert sum("while you were away" in text for text in texts) == 1, texts

    house.stack.stop()
    house.synapse.restart()
    run(ask)
    house.stack.start()
    run(answered)
    assert house.devices() == before
    assert house.logins() == logins


def test_a_deleted_device_is_made_again_and_the_message_is_answered(house: House) -> None:
    row, before = house.room("Echo"), house.devices()
    house.delete_devices(row["account__user_id"])
    house.delete_devices("@switchboard:sb.test")

    async def as_ann() -> None:
        async with house.person() as ann:
            await ann.say(row["room__room_id"], "are you still yourself?")
            await ann.until(
                lambda: any("still yourself" in one for one in ann.said_in(row["room__room_id"])),
                90,
                house.stack.logs(),
            )

    run(as_ann)
    # The same devices, one login each.
    assert house.devices() == before


def test_a_person_opens_chats_with_agents(house: House) -> None:
    """One agent is invited alone and follows when its account is looked at; another together with Switchboard's own account."""
    ada, tinker = house.room("Ada")["account__user_id"], house.room("Tinker")["account__user_id"]

    async def as_ann() -> None:
        async with house.person() as ann:

            def there(room_id: str, user_id: str) -> bool:
                return user_id in getattr(ann.client.rooms.get(room_id), "users", {})

            alone = (await ann.client.room_create(is_direct=True, invite=[ada])).room_id
            along = (await ann.client.room_create(is_direct=True, invite=[tinker, "@switchboard:sb.test"])).room_id
            await ann.until(lambda: there(along, tinker), 60, "the agent did not come along\n" + house.stack.logs())
            await ann.say(along, "what is 6*7?")
            await ann.until(lambda: any("42" in text for text in ann.said_in(along)), 60, house.stack.logs())
            await asyncio.to_thread(
                house.stack.ask, "from agents.services.sessions import sessions_check\nresult=sessions_check().good"
            )
            await ann.until(
                lambda: there(alone, ada), 60, "the agent did not follow the invitation\n" + house.stack.logs()
            )
            await ann.say(alone, "and who are you?")
            await ann.until(lambda: bool(ann.said_in(alone, ada)), 60, house.stack.logs())

    run(as_ann)


def test_our_own_account_that_was_put_out_of_a_room_comes_back_and_hears_what_was_said(house: House) -> None:
    row = house.room("Echo")
    room, agent = row["room__room_id"], row["account__user_id"]
    house.stack.ask(
        "from agents.services.backends import open_homeserver\n"
        "there=open_homeserver()\n"
        f"there.client.kick({room!r}, there.sender_id, {agent!r})\nresult=1"
    )

    async def as_ann() -> None:
        async with house.person() as ann:
            await ann.say(room, "said while nobody was there")
            await ann.until(
                lambda: any("nobody was there" in text for text in ann.said_in(room, agent)), 90, house.stack.logs()
            )

    run(as_ann)
