"""Letta-Matrix is replaced: a Synapse that it has populated is taken over by import. No room and no account is made a second time.

Everything on the homeserver was made as the predecessor does it: accounts with passwords through ``/register``, a room for each agent made
by its own account, a space made by the administrator. Only then Switchboard is registered and its files are imported.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.e2e.matrix_client import Person, run
from tests.peers.letta_stub import LettaStub
from tests.peers.switchboard import Stack
from tests.peers.synapse import MatrixUser, Synapse

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

OPEN = {"enable_registration": True, "enable_registration_without_verification": True}


@dataclass
class Bridge:
    """Letta-Matrix, as far as it leaves traces on a homeserver and in its files."""

    url: str
    admin: MatrixUser
    tokens: dict[str, str] = field(default_factory=dict)
    mappings: dict[str, dict[str, Any]] = field(default_factory=dict)
    space_id: str = ""

    def call(self, method: str, path: str, token: str, body: Any = None) -> Any:
        answer = httpx.request(
            method,
            self.url + path,
            json=body,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=30,
        )
        assert answer.status_code < 300, answer.text
        return answer.json()

    def agent(self, agent_id: str, name: str, localpart: str = "", room: bool = True) -> None:
        """Account by ``/register`` and ``m.login.dummy``, then its room."""
        localpart = localpart or "agent_" + agent_id.removeprefix("agent-").replace("-", "_")
        body = {"username": localpart, "password": f"word-of-{localpart}", "auth": {"type": "m.login.dummy"}}
        made = self.call("POST", "/_matrix/client/v3/register", "", body)
        user_id, token = made["user_id"], made["access_token"]
        self.tokens[user_id] = token
        self.call("PUT", f"/_matrix/client/v3/profile/{quote(user_id)}/displayname", token, {"displayname": name})
        room_id = self.room(user_id, name) if room else None
        self.mappings[agent_id] = {
            "agent_id": agent_id,
            "agent_name": name,
            "matrix_user_id": user_id,
            "matrix_password": f"word-of-{localpart}",
            "created": True,
            "room_id": room_id,
            "room_created": room,
            "invitation_status": {self.admin.user_id: "invited", "@letta:sb.test": "failed"},
        }

    def room(self, user_id: str, name: str) -> str:
        state = [
            {"type": "m.room.guest_access", "state_key": "", "content": {"guest_access": "forbidden"}},
            {"type": "m.room.history_visibility", "state_key": "", "content": {"history_visibility": "shared"}},
        ]
        body = {
            "name": f"{name} - Letta Agent Chat", "topic": f"Private chat with Letta agent: {name}", "preset": "trusted_private_chat",
            "invite": [self.admin.user_id], "is_direct": False, "initial_state": state,
        }  # fmt: skip
        room_id: str = self.call("POST", "/_matrix/client/v3/createRoom", self.tokens[user_id], body)["room_id"]
        self.call("POST", f"/_matrix/client/v3/join/{quote(room_id)}", self.admin.access_token, {})
        send = f"/_matrix/client/v3/rooms/{quote(room_id)}/send/m.room.message/old-{quote(room_id)}"
        self.call("PUT", send, self.admin.access_token, {"msgtype": "m.text", "body": f"an old question to {name}"})
        if self.space_id:
            child = {"via": ["sb.test"], "suggested": True, "order": name}
            path = f"/_matrix/client/v3/rooms/{quote(self.space_id)}/state/m.space.child/{quote(room_id)}"
            self.call("PUT", path, self.admin.access_token, child)
            parent = {"via": ["sb.test"], "canonical": True}
            path = f"/_matrix/client/v3/rooms/{quote(room_id)}/state/m.space.parent/{quote(self.space_id)}"
            self.call("PUT", path, self.tokens[user_id], parent)
        return room_id

    def space(self) -> None:
        body = {
            "name": "Letta Agents", "topic": "All Letta agents", "preset": "private_chat", "creation_content": {"type": "m.space"},
            "power_level_content_override": {"events": {"m.space.child": 50}},
        }  # fmt: skip
        self.space_id = self.call("POST", "/_matrix/client/v3/createRoom", self.admin.access_token, body)["room_id"]

    def children(self) -> set[str]:
        path = f"/_matrix/client/v3/rooms/{quote(self.space_id)}/state"
        state = self.call("GET", path, self.admin.access_token)
        return {one["state_key"] for one in state if one["type"] == "m.space.child" and one["content"].get("via")}


class House:
    """The installation that takes over, and what was there before."""

    def __init__(
        self, stack: Stack, synapse: Synapse, letta: LettaStub, bridge: Bridge, ann: MatrixUser, folder: Path
    ) -> None:
        self.stack, self.synapse, self.letta, self.bridge, self.ann, self.folder = (
            stack,
            synapse,
            letta,
            bridge,
            ann,
            folder,
        )

    def write(self, name: str, value: Any) -> str:
        path = self.folder / name
        path.write_text(value if isinstance(value, str) else json.dumps(value, indent=2))
        return str(path)

    def brings(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        """``manage.py import_mappings … --json``, in a process that has started already."""
        found, text = self.stack.ask(
            "from io import StringIO\nfrom django.core.management import call_command\nout=StringIO()\ncode=0\n"
            "try:\n"
            f"    call_command('import_mappings', *{[*arguments, '--json']!r}, stdout=out)\n"
            "except SystemExit as end:\n    code=end.code\n"
            "result=[code,out.getvalue()]"
        )
        assert found == code, f"{found}\n{text[-6000:]}"
        report: dict[str, Any] = json.loads(text)
        return report

    def syncs(self) -> None:
        report = self.stack.ask(
            "from agents.services.sync import sync_agents\nresult=sync_agents(actor='test').to_dict()"
        )
        assert not report["error"], report["error"]
        assert not report["stopped"], report["findings"]

    def there(self) -> tuple[set[str], set[str]]:
        """Every account and every room that the homeserver has."""
        with sqlite3.connect(self.synapse.folder / "homeserver.db") as database:
            users = {row[0] for row in database.execute("SELECT name FROM users")}
            rooms = {row[0] for row in database.execute("SELECT room_id FROM rooms")}
        database.close()
        return users, rooms


@pytest.fixture(scope="module")
def house(redis_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    synapse, letta = Synapse(extra=OPEN), LettaStub(agents=4)
    redis_server.client().flushall()
    with synapse, letta:
        admin = synapse.register_user("admin", "admin-has-a-password", admin=True)
        ann = synapse.register_user("ann", "ann-has-a-password")
        bridge = Bridge(synapse.url, admin)
        bridge.space()
        first, second, odd, silent = letta.agent_ids()
        bridge.agent(first, "Agent 00001")
        bridge.agent(second, "Agent 00002")
        # Outside the namespace that Switchboard gets: only its password opens it.
        bridge.agent(odd, "Odd One", localpart="huly")
        bridge.agent(silent, "Agent 00004", room=False)
        bridge.agent("agent-99999999-0000-4000-8000-000000000009", "Long Gone")
        stack = Stack(
            homeserver_url=synapse.url,
            redis_url=redis_server.url,
            settings={"MATRIX_INVITE": ""},
            server_name="sb.test",
        )
        synapse.use_registration(stack.write_registration())
        synapse.terminate()
        synapse.start()
        stack.prepare()
        stack.ask(
            "from ops.models import Service\n"
            f"Service.objects.create(name='letta', kind='letta', base_url={letta.url!r})\n"
            "row=Service.objects.get(kind='homeserver')\n"
            f"row.credentials={{**(row.credentials or {{}}), 'admin_token': {admin.access_token!r}}}\n"
            "row.save()\nresult=None"
        )
        with stack:
            yield House(stack, synapse, letta, bridge, ann, tmp_path_factory.mktemp("files"))


def test_everything_is_taken_over_and_nothing_is_made(house: House) -> None:
    mappings = house.write("agent_user_mappings.json", house.bridge.mappings)
    # As the seed's example has it: with a quote missing.
    space = house.write(
        "letta_space_config.json",
        f'{{"space_id": "{house.bridge.space_id}, "created_at": 1763160328, "name": "Letta Agents"}}',
    )
    users, rooms = house.there()
    tried = house.brings(mappings, "--space", space, "--dry-run")
    assert tried["counts"] == {"create": 6, "update": 0, "unchanged": 0, "conflict": 0, "reject": 0}, tried["rows"]
    assert [finding["code"] for finding in tried["findings"]] == ["import.repaired"]
    assert house.there() == (users, rooms)
    done = house.brings(mappings, "--space", space)
    assert (done["done"], done["failed"]) == (6, 0), done["rows"]
    house.syncs()
    users_after, rooms_after = house.there()
    # The one agent that had no room has one now; Switchboard itself has its account. Nothing else was made.
    assert users_after - users <= {"@switchboard:sb.test"}
    assert users <= users_after
    assert len(rooms_after - rooms) == 1
    rows = {
        row["agent__external_id"]: row
        for row in house.stack.ask(
            "from agents.models import Mapping\nresult=list(Mapping.objects.values('agent__external_id', 'agent__state', 'account__way',"
            " 'account__user_id', 'room__room_id', 'room__in_space', 'problem'))"
        )
    }
    for agent_id, entry in house.bridge.mappings.items():
        row = rows[agent_id]
        assert row["account__user_id"] == entry["matrix_user_id"]
        if entry["room_id"]:
            assert row["room__room_id"] == entry["room_id"]
        assert row["problem"] == "", row
        gone = entry["agent_name"] == "Long Gone"
        assert row["agent__state"] == ("archived" if gone else "active")
        assert row["account__way"] == ("session" if entry["agent_name"] == "Odd One" else "appservice")
    kept = {entry["room_id"] for entry in house.bridge.mappings.values() if entry["agent_name"] != "Long Gone"} - {None}
    assert house.bridge.children() == kept | (rooms_after - rooms)
    house.syncs()
    assert house.there() == (users_after, rooms_after)


@pytest.mark.parametrize("name", ["Agent 00001", "Odd One"])
def test_in_the_old_room_the_agent_answers_what_is_said_now_and_nothing_that_was_said_before(
    house: House, name: str
) -> None:
    entry = next(one for one in house.bridge.mappings.values() if one["agent_name"] == name)
    room_id, admin = entry["room_id"], house.bridge.admin

    async def as_admin() -> None:
        async with Person(house.synapse.url, admin.user_id, admin.password) as person:
            await person.say(room_id, "are you still there?")
            await person.until(
                lambda: bool(person.said_in(room_id, sender=entry["matrix_user_id"])), 180, house.stack.logs()
            )

    run(as_admin)
    asked = [entry["text"] for entry in house.letta.accepted()]
    assert any("are you still there?" in text for text in asked)
    assert not any("an old question" in text for text in asked)


def test_a_second_import_changes_nothing(house: House) -> None:
    before = house.there()
    again = house.brings(house.write("again.json", house.bridge.mappings))
    assert again["counts"] == {"create": 0, "update": 0, "unchanged": 5, "conflict": 0, "reject": 0}, again["rows"]
    assert house.there() == before
