"""The keeper of an account's keys, against a real homeserver and matrix-nio's own client."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from nio.crypto import OlmDevice

from agents.matrix.content import edit_content, text_content
from agents.matrix.crypto import folder
from agents.matrix.crypto.errors import KeysBusy, KeysUnusable
from agents.matrix.markdown import Rendered, render
from agents.matrix.split import split_for_events
from agents.services.encryption import SEALED_LIMIT
from tests.agents.matrix.crypto.people import Ours, Someone, bodies
from tests.e2e.matrix_client import run
from tests.peers.synapse import Synapse

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def synapse(synapse_factory: Any) -> Synapse:
    server: Synapse = synapse_factory()
    return server


@pytest.fixture(autouse=True)
def data_dir(settings: Any, tmp_path: Path) -> None:
    settings.DATA_DIR = tmp_path / "data"


Play = Callable[[Someone, Ours, str], Awaitable[None]]


@pytest.fixture
def scene(synapse: Synapse, tmp_path: Path, request: Any) -> Callable[[Play], None]:
    """Play with a person and an account of ours, in an encrypted room that both have joined and know each other in."""
    number = abs(hash(request.node.name)) % 10**8

    def play(part: Play) -> None:
        async def whole() -> None:
            ours = Ours(synapse, f"ours{number}")
            ours.keeper.ready()
            async with Someone(synapse, tmp_path / "ada", f"ada{number}") as ada:
                room = await ada.room_with(ours.user_id)
                ours.client.join(room, None)
                ours.sync()
                await ada.sync()
                await ada.sync()
                await part(ada, ours, room)
            ours.keeper.close()

        run(whole)

    return play


def test_both_sides_read_each_other_also_after_a_restart(scene: Any) -> None:
    async def part(ada: Someone, ours: Ours, room: str) -> None:
        await ada.say(room, "hello")
        assert bodies(ours.read()) == ["hello"]
        ours.say(room, "hi", ada.user_id)
        before = ours.keeper.state()
        ours.keeper.close()
        ours.keeper = ours.another()
        await ada.say(room, "still there?")
        assert bodies(ours.read()) == ["still there?"]
        ours.say(room, "yes", ada.user_id)
        await ada.sync()
        assert ada.words() == ["hi", "yes"]
        assert ours.keeper.state() == before
        # The same device, signed by its owner: apps that leave out unsigned devices give it keys.
        assert before["published"]
        assert before["signed"] == "signed"
        found = ours.client.keys_query(ours.user_id, [ours.user_id])
        assert list(found["device_keys"][ours.user_id]) == ["SWITCHBOARD"]
        assert len(found["device_keys"][ours.user_id]["SWITCHBOARD"]["signatures"][ours.user_id]) == 2

    scene(part)


def test_the_longest_pieces_fit_and_an_edit_is_one(scene: Any) -> None:
    async def part(ada: Someone, ours: Ours, room: str) -> None:
        text = "Zażółć gęślą jaźń 你好 " * 4000
        piece = split_for_events(text, SEALED_LIMIT)[0]
        kind, sealed = ours.keeper.encrypt(
            room, "m.room.message", text_content(Rendered("first")), [ours.user_id, ada.user_id]
        )
        first = ours.client.send(room, sealed, txn_id="first", user_id=None, event_type=kind)
        kind, sealed = ours.keeper.encrypt(
            room, "m.room.message", edit_content(first, render(piece)), [ours.user_id, ada.user_id]
        )
        assert sealed["m.relates_to"] == {"rel_type": "m.replace", "event_id": first}
        ours.client.send(room, sealed, txn_id="edit", user_id=None, event_type=kind)
        await ada.sync()
        assert [one.strip() for one in ada.words()] == [piece.strip()]

    scene(part)


def test_processes_take_turns_with_one_ratchet(scene: Any) -> None:
    async def part(ada: Someone, ours: Ours, room: str) -> None:
        other = ours.another()
        sent = [
            ours.say(room, f"number {number}", ada.user_id, keeper=other if number % 2 else ours.keeper)
            for number in range(6)
        ]
        await ada.sync()
        assert ada.words() == [f"number {number}" for number in range(6)]
        # Neither began a session of its own, and no place of the ratchet was used twice (the client would see a copy).
        assert len({one["session_id"] for one in sent}) == 1
        other.close()

    scene(part)


def test_who_left_does_not_read_on(scene: Any, synapse: Synapse, tmp_path: Path) -> None:
    async def part(ada: Someone, ours: Ours, room: str) -> None:
        async with Someone(synapse, tmp_path / "bob", f"bob{int(time.time() * 1000)}") as bob:
            first = ours.say(room, "to both", ada.user_id, bob.user_id)
            again = ours.say(room, "to both again", ada.user_id, bob.user_id)
            alone = ours.say(room, "to Ada alone", ada.user_id)
            assert first["session_id"] == again["session_id"] != alone["session_id"]
            await bob.sync()
            held = {one for by in bob.client.olm.inbound_group_store[room].values() for one in by}
            assert held == {first["session_id"]}

    scene(part)


def test_a_key_that_is_missing_is_asked_for_and_taken_from_the_sender_only(
    scene: Any, synapse: Synapse, tmp_path: Path
) -> None:
    async def part(ada: Someone, ours: Ours, room: str) -> None:
        ada.client.blacklist_device(ada.device_of(ours.user_id))
        event_id = await ada.say(room, "can you read this?")
        [event] = [one for one in ours.sync() if one["event_id"] == event_id]
        assert ours.keeper.decrypt(event, room).code == "no_key"
        assert ours.keeper.decrypt(event, room).code == "no_key"
        assert ours.keeper.readable() == []
        await ada.sync()
        # Asked once, although it was tried twice.
        [asked] = ada.asked
        assert asked.session_id == event["content"]["session_id"]
        async with Someone(synapse, tmp_path / "eve", f"eve{int(time.time() * 1000)}") as eve:
            # Eve got hold of the key and passes it on: it would let her write in Ada's name.
            await eve.room_with(ours.user_id)
            stolen = ada.client.olm.inbound_group_store.get(
                room, event["content"]["sender_key"], event["content"]["session_id"]
            )
            eve.client.olm.inbound_group_store.add(stolen)
            ours_known = ours.client.keys_query(ours.user_id, [ours.user_id])["device_keys"][ours.user_id]
            keys = ours_known["SWITCHBOARD"]["keys"]
            eve.client.olm.device_store.add(
                OlmDevice(
                    ours.user_id, "SWITCHBOARD",
                    {"ed25519": keys["ed25519:SWITCHBOARD"], "curve25519": keys["curve25519:SWITCHBOARD"]},
                )
            )  # fmt: skip
            await eve.give_key(room, asked.session_id, ours.user_id)
        ours.sync()
        assert ours.keeper.readable() == []
        await ada.give_key(room, asked.session_id, ours.user_id)
        ours.sync()
        assert ours.keeper.readable() == [(event_id, room)]
        assert bodies([ours.keeper.decrypt(event, room)]) == ["can you read this?"]
        ours.keeper.taken_in([event_id])
        assert ours.keeper.state()["waiting"] == 0

    scene(part)


def test_a_key_that_is_withheld_says_why(scene: Any) -> None:
    async def part(ada: Someone, ours: Ours, room: str) -> None:
        ada.client.blacklist_device(ada.device_of(ours.user_id))
        event_id = await ada.say(room, "not for you")
        [event] = [one for one in ours.sync() if one["event_id"] == event_id]
        content = {
            "algorithm": "m.megolm.v1.aes-sha2", "code": "m.unverified", "room_id": room, "reason": "…",
            "session_id": event["content"]["session_id"], "sender_key": event["content"]["sender_key"],
        }  # fmt: skip
        ours.keeper.feed(
            {"to_device": {"events": [{"type": "m.room_key.withheld", "sender": ada.user_id, "content": content}]}}
        )
        opened = ours.keeper.decrypt(event, room)
        assert opened.code == "withheld"
        assert "not verified" in opened.sentence

    scene(part)


def test_lost_keys_are_told_and_a_new_device_goes_on(scene: Any, synapse: Synapse) -> None:
    async def part(ada: Someone, ours: Ours, room: str) -> None:
        await ada.say(room, "before")
        assert bodies(ours.read()) == ["before"]
        ours.keeper.path.unlink()
        with pytest.raises(KeysUnusable, match="are lost"):
            ours.keeper.encrypt(room, "m.room.message", {"msgtype": "m.text", "body": "x"}, [ada.user_id])
        ours.log_in("SWITCHBOARD2")
        ours.keeper.ready()
        # What the account signed its devices with was lost as well, and the homeserver gives that up for the password only.
        assert "not ours" in ours.keeper.state()["signed"]
        assert "password" in ours.keeper.sign_again(reset=True)
        ours.keeper.password_of = lambda: "a-password"
        assert ours.keeper.sign_again(reset=True) == "signed"
        ours.sync()
        await ada.sync()
        await ada.say(room, "after")
        assert bodies(ours.read()) == ["after"]
        ours.say(room, "with a new device", ada.user_id)
        await ada.sync()
        assert ada.words() == ["with a new device"]

    scene(part)


def test_a_new_device_keeps_the_keys_of_rooms(scene: Any) -> None:
    async def part(ada: Someone, ours: Ours, room: str) -> None:
        event_id = await ada.say(room, "before")
        [event] = [one for one in ours.sync() if one["event_id"] == event_id]
        fingerprint = ours.keeper.state()["fingerprint"]
        ours.keeper.close()
        renewed = ours.another("SWITCHBOARD2")
        assert renewed.state()["fingerprint"] != fingerprint
        assert not renewed.state()["published"]
        assert bodies([renewed.decrypt(event, room)]) == ["before"]
        renewed_fingerprint = renewed.state()["fingerprint"]
        # A process that has not heard of it must not turn it back.
        with pytest.raises(KeysBusy, match="newer device"):
            ours.another().state()
        assert renewed.state()["fingerprint"] == renewed_fingerprint
        renewed.close()

    scene(part)


def test_keys_that_the_homeserver_lost_are_published_again(scene: Any, synapse: Synapse, tmp_path: Path) -> None:
    async def part(ada: Someone, ours: Ours, room: str) -> None:
        before = ours.client.keys_query(ours.user_id, [ours.user_id])["device_keys"][ours.user_id]["SWITCHBOARD"][
            "keys"
        ]
        admin = synapse.register_user(f"root{int(time.time() * 1000)}", "a-password", admin=True)
        httpx.delete(
            f"{synapse.url}/_synapse/admin/v2/users/{ours.user_id}/devices/SWITCHBOARD",
            headers={"Authorization": f"Bearer {admin.access_token}"},
        ).raise_for_status()
        since, keeper = ours.synced_to, ours.keeper
        ours.log_in()
        # The same process goes on, with the new token.
        keeper.client, ours.keeper, ours.synced_to = ours.client, keeper, since
        assert ours.client.keys_query(ours.user_id, [ours.user_id])["device_keys"][ours.user_id] == {}
        ours.sync()
        after = ours.client.keys_query(ours.user_id, [ours.user_id])["device_keys"][ours.user_id]["SWITCHBOARD"]
        assert after["keys"] == before
        assert len(after["signatures"][ours.user_id]) == 2
        async with Someone(synapse, tmp_path / "bob", f"bob{int(time.time() * 1000)}") as bob:
            other = await bob.room_with(ours.user_id)
            ours.client.join(other, None)
            await bob.sync()
            await bob.sync()
            await bob.say(other, "can you read this?")
            assert bodies(ours.read()) == ["can you read this?"]

    scene(part)


def test_files_hold_no_key_in_the_open_and_are_ours_alone(scene: Any) -> None:
    async def part(ada: Someone, ours: Ours, room: str) -> None:
        await ada.say(room, "hello")
        ours.read()
        path = ours.keeper.path
        assert path in folder.files()
        assert path.stat().st_mode & 0o077 == 0
        assert path.parent.stat().st_mode & 0o077 == 0
        ours.keeper.close()
        rows = sqlite3.connect(path).execute("SELECT name, value FROM meta").fetchall()
        sealed = {name: value for name, value in rows if name in {"passphrase", "seeds"}}
        assert sealed.keys() == {"passphrase", "seeds"}
        assert all(value.startswith("enc1:") for value in sealed.values())

    scene(part)
