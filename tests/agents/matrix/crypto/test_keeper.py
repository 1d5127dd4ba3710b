"""The keeper of an account's keys against a real homeserver and matrix-nio's own client."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from nio import AsyncClient, AsyncClientConfig, MegolmEvent, RoomMessageText

from agents.matrix.client import AppserviceClient
from agents.matrix.crypto.keeper import Keeper, KeysUnusable
from agents.matrix.session_calls import SessionCalls
from tests.peers.synapse import Synapse

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def synapse(synapse_factory: Any) -> Synapse:
    return synapse_factory()


@pytest.fixture(autouse=True)
def data_dir(settings: Any, tmp_path: Path) -> Path:
    settings.DATA_DIR = tmp_path / "data"
    return settings.DATA_DIR


class Ada:
    """A person with an encrypting client of her own."""

    def __init__(self, synapse: Synapse, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.user = synapse.register_user(name, "pw")
        self.client = AsyncClient(
            synapse.url, self.user.user_id, device_id="", store_path=str(folder),
            config=AsyncClientConfig(encryption_enabled=True, max_timeouts=3),
        )  # fmt: skip
        self.heard: list[Any] = []
        self.client.add_event_callback(self._hear, (RoomMessageText, MegolmEvent))

    async def _hear(self, room: Any, event: Any) -> None:
        self.heard.append(event)

    async def __aenter__(self) -> Ada:
        await self.client.login(self.user.password)
        await self.sync()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.close()

    async def sync(self) -> None:
        await self.client.sync(timeout=0, full_state=False)
        if self.client.should_upload_keys:
            await self.client.keys_upload()
        if self.client.should_query_keys:
            await self.client.keys_query()
        await self.client.send_to_device_messages()

    async def say(self, room_id: str, text: str) -> str:
        answer = await self.client.room_send(
            room_id, "m.room.message", {"msgtype": "m.text", "body": text}, ignore_unverified_devices=True
        )
        return answer.event_id


class Ours:
    """An account of ours with a session, and its keeper."""

    def __init__(self, synapse: Synapse, name: str) -> None:
        synapse.register_user(name, "pw")
        # As all our accounts' devices are called.
        calls = SessionCalls(synapse.url)
        self.opened_session = calls.login(f"@{name}:{synapse.server_name}", "pw", "SWITCHBOARD")
        calls.close()
        self.user_id = self.opened_session.user_id
        self.client = AppserviceClient(
            synapse.url, self.opened_session.token, synapse.server_name, sender_localpart=name
        )
        self.synced_to: str | None = None
        self.keeper = self.opened()

    def opened(self) -> Keeper:
        """As a new process would have it."""
        return Keeper(self.client, self.user_id, "SWITCHBOARD", synced=True)

    def sync(self) -> list[dict[str, Any]]:
        answer = self.client.sync(None, self.synced_to)
        self.keeper.feed(answer)
        self.synced_to = answer["next_batch"]
        rooms = answer.get("rooms", {}).get("join", {})
        return [{**one, "room_id": room} for room, data in rooms.items() for one in data["timeline"]["events"]]

    def read(self) -> list[Any]:
        return [
            self.keeper.decrypt(one, one["room_id"])
            for one in self.sync()
            if one["type"] == "m.room.encrypted" and one["sender"] != self.user_id
        ]

    def say(self, room_id: str, text: str, members: list[str]) -> None:
        self.keeper_content = self.keeper.encrypt(
            room_id, "m.room.message", {"msgtype": "m.text", "body": text}, members
        )
        kind, content = self.keeper_content
        self.client.send(room_id, content, txn_id=text, user_id=None, event_type=kind)


def test_both_ways(synapse: Synapse, tmp_path: Path) -> None:
    ours = Ours(synapse, "ours1")

    async def go() -> None:
        async with Ada(synapse, tmp_path / "ada", "ada1") as ada:
            ours.keeper.ready()
            print(ours.keeper.state())
            made = await ada.client.room_create(
                invite=[ours.user_id],
                initial_state=[
                    {"type": "m.room.encryption", "state_key": "", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}
                ],
            )
            room = made.room_id
            ours.client.join(room, None)
            ours.sync()
            await ada.sync()
            await ada.sync()
            await ada.say(room, "hello")
            [got] = ours.read()
            assert got.event["content"]["body"] == "hello", got
            ours.say(room, "hi", [ada.user.user_id, ours.user_id])
            await ada.sync()
            assert ada.heard[-1].body == "hi" and ada.heard[-1].decrypted
            # a new process
            ours.keeper.close()
            ours.keeper = ours.opened()
            await ada.say(room, "again")
            [got] = ours.read()
            assert got.event["content"]["body"] == "again", got
            ours.say(room, "hi again", [ada.user.user_id, ours.user_id])
            await ada.sync()
            assert ada.heard[-1].body == "hi again"
            print(ours.keeper.state())

    asyncio.run(go())
