"""A conversation of the portal in a Matrix room and back, with one history, on a real Synapse."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.e2e.matrix_client import Person, run
from tests.peers.switchboard import Stack
from tests.peers.synapse import Synapse
from tests.support.prepared import database_with_tables

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]


class House:
    """One installation over one Synapse, and somebody whose program is signed in to its portal."""

    def __init__(self, stack: Stack, synapse: Synapse) -> None:
        self.stack, self.synapse = stack, synapse
        self.token = stack.ask(
            "from chat.models import Person\nfrom chat.services.program_logins import login_open\n"
            "grace=Person.objects.create_user('grace',password='xk-29-dune-walker',display_name='Grace',is_staff=False)\n"
            "result=login_open(person=grace,actor='test').access"
        )
        self.http = httpx.Client(
            base_url=f"{stack.url}/api/v1/chat/", headers={"Authorization": f"Bearer {self.token}"}, timeout=60
        )

    def call(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        response = self.http.request(method, path, json=body)
        assert response.status_code == status, f"{method} {path}: {response.status_code} {response.text[:800]}"
        return response.json() if response.content else None

    def say(self, conversation: int, client_id: str, text: str) -> dict[str, Any]:
        said: dict[str, Any] = self.call(
            "POST", f"conversations/{conversation}/messages", {"client_id": client_id, "text": text}, 202
        )
        return said

    def texts(self, conversation: int) -> list[str]:
        items = self.call("GET", f"conversations/{conversation}/messages?limit=200")["items"]
        return [row["text"] for row in items if row["role"] != "notice"]

    def until(self, condition: Any, seconds: float = 120, what: str = "") -> Any:
        deadline = time.monotonic() + seconds
        while True:
            found = condition()
            if found:
                return found
            assert time.monotonic() < deadline, f"{what}\n{self.stack.logs()}"
            time.sleep(0.3)


@pytest.fixture(scope="module")
def house(redis_server: Any, postgres: Any) -> Iterator[House]:
    synapse = Synapse()
    redis_server.client().flushall()
    stack = Stack(
        homeserver_url=synapse.url,
        redis_url=redis_server.url,
        database_url=database_with_tables(postgres, "portal_rooms"),
        settings={"DEMO_AGENTS": "true"},
    )
    synapse.registration = stack.write_registration()
    with synapse:
        stack.environment["MATRIX_REGISTRATION_SHARED_SECRET"] = synapse.shared_secret
        stack.prepare()
        stack.manage("sync_agents")
        with stack:
            yield House(stack, synapse)


def test_one_history_in_the_portal_and_in_a_room(house: House) -> None:
    agent = next(one for one in house.call("GET", "agents")["items"] if one["name"] == "Echo")
    conversation = house.call("POST", "conversations", {"agent": agent["id"]}, 201)["id"]
    house.say(conversation, "a1", "first words")
    house.until(lambda: len(house.texts(conversation)) == 2, what="no answer in the portal")
    before = house.texts(conversation)
    problem = house.call("POST", f"conversations/{conversation}/room", status=409)
    assert problem["code"] == "matrix.no_account"
    account = house.call("POST", "matrix-account", status=201)
    assert account["user_id"] == "@grace:sb.test"
    assert house.call("POST", "matrix-account", status=409)["code"] == "matrix.has_account"
    place = house.call("POST", f"conversations/{conversation}/room", status=201)
    again = house.call("POST", f"conversations/{conversation}/room", status=201)
    assert again == place
    assert house.call("GET", f"conversations/{conversation}")["room"] == place
    room = place["room_id"]

    async def as_grace() -> None:
        async with Person(house.synapse.url, account["user_id"], account["password"]) as grace:
            await grace.until(lambda: room in grace.invited, 60, "no invitation\n" + house.stack.logs())
            # Only her own room: the agents' rooms and the space are for operators.
            assert set(grace.invited) == {room}
            await grace.join(room)
            # What was said before is there, in order, after the notice.
            bodies: list[str] = []
            for _ in range(300):
                history = await grace.client.room_messages(room, start=None, limit=50, direction="b")
                bodies = [e.body for e in reversed(history.chunk) if getattr(e, "body", None)]
                if len(bodies) >= 3:
                    break
                await asyncio.sleep(0.2)
            assert "goes on in a Matrix room" in bodies[0]
            assert "first words" in bodies[1]
            assert bodies[2] == before[1]
            assert len(bodies) == 3
            # From the room to the portal.
            await grace.say(room, "from the room")

            def heard(words: str) -> list[str]:
                return [text for text in grace.said_in(room) if words in text]

            await grace.until(lambda: bool(heard("from the room")), 120, house.stack.logs())
            await _poll(grace, lambda: len(house.texts(conversation)) == 4)
            assert house.texts(conversation)[2] == "from the room"
            # From the portal to the room, under the name of who spoke elsewhere, and the answer once.
            house.say(conversation, "a2", "from the portal")
            await grace.until(lambda: len(heard("from the portal")) == 2, 120, house.stack.logs())
            assert heard("from the portal")[0].startswith(("Grace:", "**Grace:**"))
            await _poll(grace, lambda: len(house.texts(conversation)) == 6)
            texts = house.texts(conversation)
            assert texts[4] == "from the portal"
            # No echo: nothing comes back, here or there, after a while.
            await asyncio.sleep(3)
            assert house.texts(conversation) == texts
            assert len(heard("from the portal")) == 2
            assert len(heard("from the room")) == 1

    run(as_grace)
    rooms = house.stack.ask("from agents.models import Room\nresult=Room.objects.filter(kind='direct').count()")
    assert rooms == 1


async def _poll(person: Person, condition: Any) -> None:
    await person.until(condition, 120, "not in the portal")


def test_a_room_is_made_once_though_the_process_died(house: House) -> None:
    """The room stands on the homeserver, and its row is missing: as after a crash between the two."""
    agent = next(one for one in house.call("GET", "agents")["items"] if one["name"] == "Ada")
    conversation = house.call("POST", "conversations", {"agent": agent["id"]}, 201)["id"]
    house.say(conversation, "b1", "hello")
    house.until(lambda: len(house.texts(conversation)) == 2)
    place = house.call("POST", f"conversations/{conversation}/room", status=201)
    house.stack.ask(
        "from agents.models import Room\nfrom chat.models import Link\n"
        f"Link.objects.filter(room__room_id={place['room_id']!r}).delete()\n"
        f"result=Room.objects.filter(room_id={place['room_id']!r}).delete()[0]"
    )
    assert house.call("POST", f"conversations/{conversation}/room", status=201)["room_id"] == place["room_id"]


def test_a_rooms_conversation_is_opened_in_the_portal_and_goes_with_the_room(house: House) -> None:
    ann = house.synapse.register_user("ann", "ann-has-a-password")
    token = house.stack.ask(
        "from chat.models import Person\nfrom chat.services.personal_tokens import personal_token_create\n"
        f"ann=Person.objects.create_user('ann',password='xk-29-dune-walker',matrix_user_id={ann.user_id!r})\n"
        "result=personal_token_create(person=ann,name='t',actor='test')[1]"
    )
    portal = httpx.Client(
        base_url=f"{house.stack.url}/api/v1/chat/", headers={"Authorization": f"Bearer {token}"}, timeout=60
    )
    tinker = house.stack.ask(
        "from agents.models import Mapping\nresult=Mapping.objects.get(agent__name='Tinker').account.user_id"
    )

    async def as_ann() -> None:
        async with Person(house.synapse.url, ann.user_id, ann.password) as matrix:
            made = await matrix.client.room_create(is_direct=True, invite=[tinker])
            await matrix.until(
                lambda: tinker in getattr(matrix.client.rooms.get(made.room_id), "users", {}), 60, house.stack.logs()
            )
            await matrix.say(made.room_id, "what is 6*7?")
            await matrix.until(
                lambda: any("42" in text for text in matrix.said_in(made.room_id)), 120, house.stack.logs()
            )
            listed = portal.get("rooms").json()["items"]
            assert [one["room"]["room_id"] for one in listed] == [made.room_id]
            assert house.call("GET", "rooms")["items"] != listed
            house.call("POST", f"rooms/{listed[0]['id']}/open", status=404)
            opened = portal.post(f"rooms/{listed[0]['id']}/open")
            assert opened.status_code == 201, opened.text
            conversation = opened.json()["id"]
            assert opened.json()["agent"]["name"] == "Tinker"
            items = portal.get(f"conversations/{conversation}/messages").json()["items"]
            said = [row["text"] for row in items if row["role"] != "notice"]
            assert said[0] == "what is 6*7?"
            assert "42" in json.dumps(said[1])
            await matrix.client.room_leave(made.room_id)
            await matrix.until(
                lambda: portal.get(f"conversations/{conversation}").status_code == 404, 60, "still there"
            )
            assert portal.post(f"rooms/{listed[0]['id']}/open").status_code == 404

    run(as_ann)
