"""The two sides of an encrypted room in tests: a person with matrix-nio's own client, and an account of ours with its keeper."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from nio import AsyncClient, AsyncClientConfig, MegolmEvent, RoomKeyRequest, RoomMessage
from nio.event_builders import ToDeviceMessage

from agents.matrix.client import AppserviceClient
from agents.matrix.crypto.keeper import Keeper
from agents.matrix.crypto.machine import Opened
from agents.matrix.session_calls import SessionCalls
from tests.peers.synapse import Synapse

ENCRYPTED = {"type": "m.room.encryption", "state_key": "", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}
# As the devices of all our accounts are called.
DEVICE = "SWITCHBOARD"


class Someone:
    """A person with an encrypting client and a store of their own."""

    def __init__(self, synapse: Synapse, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.password = "a-password"
        self.user_id = synapse.register_user(name, self.password).user_id
        config = AsyncClientConfig(encryption_enabled=True, max_timeouts=3)
        self.client = AsyncClient(synapse.url, self.user_id, store_path=str(folder), config=config)
        self.heard: list[Any] = []
        self.asked: list[RoomKeyRequest] = []
        self.client.add_event_callback(self._hear, (RoomMessage, MegolmEvent))

    async def _hear(self, room: Any, event: Any) -> None:
        self.heard.append(event)

    async def __aenter__(self) -> Someone:
        await self.client.login(self.password, device_name="Test")
        self._note_requests()
        await self.sync()
        return self

    def _note_requests(self) -> None:
        # Nio answers no request of somebody else's device; what came is kept here.
        collect = self.client.olm._handle_key_requests

        def note(event: Any) -> None:
            if isinstance(event, RoomKeyRequest):
                self.asked.append(event)
            collect(event)

        self.client.olm._handle_key_requests = note

    async def __aexit__(self, *_: object) -> None:
        await self.client.close()

    @asynccontextmanager
    async def again(self) -> AsyncIterator[Someone]:
        """Signed in as at first, or, later, with the same device and keys: as an app that was closed and opened."""
        if not self.client.access_token:
            async with self:
                yield self
            return
        former = self.client
        config = AsyncClientConfig(encryption_enabled=True, max_timeouts=3)
        self.client = AsyncClient(
            former.homeserver, self.user_id, former.device_id, store_path=former.store_path, config=config
        )
        self.client.add_event_callback(self._hear, (RoomMessage, MegolmEvent))
        self.client.restore_login(self.user_id, former.device_id, former.access_token)
        self._note_requests()
        await self.client.sync(timeout=0, since=former.next_batch, full_state=True)
        await self.sync()
        try:
            yield self
        finally:
            await self.client.close()

    async def sync(self) -> None:
        await self.client.sync(timeout=0)
        if self.client.should_upload_keys:
            await self.client.keys_upload()
        if self.client.should_query_keys:
            await self.client.keys_query()
        await self.client.send_to_device_messages()

    async def room_with(self, *others: str) -> str:
        made = await self.client.room_create(invite=list(others), initial_state=[ENCRYPTED])
        await self.sync()
        return str(made.room_id)

    async def say(self, room_id: str, text: str) -> str:
        content = {"msgtype": "m.text", "body": text}
        answer = await self.client.room_send(room_id, "m.room.message", content, ignore_unverified_devices=True)
        return str(answer.event_id)

    async def until(self, condition: Callable[[], bool], seconds: float = 60, what: str = "") -> None:
        """Sync until something is true; the message says what was missing."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, what or "waited in vain"
            await self.sync()
            await asyncio.sleep(0.2)

    def device_of(self, user_id: str, device_id: str = "") -> Any:
        """The device of that name, or the only one there is."""
        if device_id:
            return self.client.device_store[user_id][device_id]
        (device,) = self.client.device_store.active_user_devices(user_id)
        return device

    async def give_key(self, room_id: str, session_id: str, user_id: str) -> None:
        """Forward a room's key to a device of ours, as Element does on request."""
        olm = self.client.olm
        device = self.device_of(user_id)
        if olm.session_store.get(device.curve25519) is None:
            await self.client.keys_claim({user_id: [device.id]})
        session = next(
            found
            for by_sender in olm.inbound_group_store[room_id].values()
            for found in by_sender.values()
            if found.id == session_id
        )
        letter: ToDeviceMessage = olm._encrypt_forwarding_key(
            room_id, session, olm.session_store.get(device.curve25519), device
        )
        await self.client.to_device(letter)

    def words(self, sender: str = "") -> list[str]:
        """What was heard and could be read, of others (or of one), as it stands after edits."""
        texts: dict[str, str] = {}
        for one in self.heard:
            if isinstance(one, MegolmEvent) or one.sender == self.user_id or (sender and one.sender != sender):
                continue
            content = one.source["content"]
            relation = content.get("m.relates_to") or {}
            if relation.get("rel_type") == "m.replace":
                texts[relation["event_id"]] = content["m.new_content"]["body"]
            else:
                texts[one.event_id] = content["body"]
        return list(texts.values())


class Ours:
    """An account of ours with a session, and its keeper."""

    def __init__(self, synapse: Synapse, name: str) -> None:
        self.synapse, self.user_id = synapse, synapse.register_user(name, "a-password").user_id
        self.log_in()

    def log_in(self, device: str = DEVICE) -> None:
        """Open a session with this device, and its keys."""
        calls = SessionCalls(self.synapse.url)
        session = calls.login(self.user_id, "a-password", device)
        calls.close()
        localpart = self.user_id[1:].partition(":")[0]
        self.client = AppserviceClient(
            self.synapse.url, session.token, self.synapse.server_name, sender_localpart=localpart
        )
        self.synced_to: str | None = None
        self.keeper = self.another(device)

    def another(self, device: str = DEVICE) -> Keeper:
        """A keeper of the same account, as another process has it."""
        return Keeper(self.client, self.user_id, device, synced=True)

    def sync(self) -> list[dict[str, Any]]:
        """What is new in all rooms; the keeper was fed before."""
        answer = self.client.sync(None, self.synced_to)
        self.keeper.feed(answer)
        self.synced_to = answer["next_batch"]
        rooms = answer.get("rooms", {}).get("join", {})
        return [{**one, "room_id": room} for room, data in rooms.items() for one in data["timeline"]["events"]]

    def read(self) -> list[Opened]:
        """What others wrote, as the keeper reads it."""
        return [
            self.keeper.decrypt(one, one["room_id"])
            for one in self.sync()
            if one["type"] == "m.room.encrypted" and one["sender"] != self.user_id
        ]

    def say(self, room_id: str, text: str, *others: str, keeper: Keeper | None = None) -> dict[str, Any]:
        """Encrypt and send; returns what was sent."""
        content = {"msgtype": "m.text", "body": text}
        kind, sealed = (keeper or self.keeper).encrypt(room_id, "m.room.message", content, [self.user_id, *others])
        assert kind == "m.room.encrypted"
        # With its quotes: two letters may stand in any ciphertext.
        assert repr(text) not in str(sealed)
        self.client.send(room_id, sealed, txn_id=text, user_id=None, event_type=kind)
        return sealed


def bodies(opened: list[Opened]) -> list[str]:
    """The texts; an event that was not read shows as its reason."""
    return [one.event["content"]["body"] if one.event is not None else f"({one.code})" for one in opened]
