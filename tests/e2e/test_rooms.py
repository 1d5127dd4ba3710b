"""Rooms as people use them, on a real Synapse: room versions, a chat that a person opens, quiet rooms, encryption, edits."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.matrix_client import Person, run
from tests.peers.switchboard import Stack
from tests.peers.synapse import MatrixUser, Synapse
from tests.support.prepared import database_with_tables

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]


class Rooms:
    """One installation with the demo agents, over one Synapse."""

    def __init__(self, stack: Stack, synapse: Synapse, ann: MatrixUser) -> None:
        self.stack, self.synapse, self.ann = stack, synapse, ann

    def room(self, name: str) -> dict[str, str]:
        row: dict[str, str] = self.stack.ask(
            "from agents.models import Mapping\n"
            f"result=Mapping.objects.values('account__user_id','room__room_id').get(agent__name={name!r})"
        )
        return row

    def person(self) -> Person:
        return Person(self.synapse.url, self.ann.user_id, self.ann.password)


@pytest.fixture(scope="module", params=["10", "12"])
def rooms(request: Any, redis_server: Any, postgres: Any) -> Iterator[Rooms]:
    version = request.param
    synapse = Synapse(room_version=version)
    redis_server.client().flushall()
    stack = Stack(
        homeserver_url=synapse.url,
        redis_url=redis_server.url,
        database_url=database_with_tables(postgres, f"rooms_{version}"),
        settings={"DEMO_AGENTS": "true", "MATRIX_INVITE": "@ann:sb.test"},
    )
    synapse.registration = stack.write_registration()
    with synapse:
        ann = synapse.register_user("ann", "ann-has-a-password")
        stack.prepare()
        stack.manage("sync_agents")
        with stack:
            yield Rooms(stack, synapse, ann)


def test_an_agent_answers_in_its_room(rooms: Rooms) -> None:
    row = rooms.room("Echo")

    async def as_ann() -> None:
        async with rooms.person() as ann:
            await ann.join(row["room__room_id"])
            await ann.say(row["room__room_id"], "**bold** <script>alert(1)</script>")
            await ann.until(lambda: bool(ann.said_in(row["room__room_id"])), 180, rooms.stack.logs())
            event = next(e for r, e in ann.heard if r == row["room__room_id"] and e.sender == row["account__user_id"])
            assert "<strong>bold</strong>" in event.source["content"]["formatted_body"]
            assert "<script" not in event.source["content"]["formatted_body"]

    run(as_ann)


def test_a_person_opens_a_chat_of_their_own_with_an_agent(rooms: Rooms) -> None:
    row = rooms.room("Tinker")

    async def as_ann() -> None:
        async with rooms.person() as ann:
            made = await ann.client.room_create(is_direct=True, invite=[row["account__user_id"]])
            await ann.until(
                lambda: row["account__user_id"] in getattr(ann.client.rooms.get(made.room_id), "users", {}),
                30,
                "the agent did not follow the invitation\n" + rooms.stack.logs(),
            )
            await ann.say(made.room_id, "what is 6*7?")
            await ann.until(lambda: any("42" in text for text in ann.said_in(made.room_id)), 180, rooms.stack.logs())
            assert row["room__room_id"] != made.room_id

    run(as_ann)


def test_a_quiet_room_answers_only_when_the_agent_is_meant(rooms: Rooms) -> None:
    row = rooms.room("Ada")
    rooms.stack.ask(
        "from agents.models import Room\nfrom agents.services.rooms import room_set_quiet\n"
        f"room_set_quiet(room=Room.objects.get(room_id={row['room__room_id']!r}), quiet=True, actor='command')"
    )

    async def as_ann() -> None:
        async with rooms.person() as ann:
            await ann.join(row["room__room_id"])
            await ann.say(row["room__room_id"], "talking among ourselves")
            await ann.say(row["room__room_id"], "and you, Ada?")
            await ann.until(lambda: bool(ann.said_in(row["room__room_id"])), 180, rooms.stack.logs())
            await asyncio.sleep(1)
            assert len(ann.said_in(row["room__room_id"])) == 1

    run(as_ann)
    held = rooms.stack.ask(
        "from chat.models import Message\nresult=list(Message.objects.filter(guard='quiet').values_list('text',flat=True))"
    )
    assert held == ["talking among ourselves"]


def test_an_encrypted_room_is_told_once_that_nothing_can_be_read(rooms: Rooms) -> None:
    row = rooms.room("Librarian")

    async def as_ann() -> None:
        async with rooms.person() as ann:
            await ann.join(row["room__room_id"])
            # As an operator would by mistake; in the agent's room only the agent may, so it is done in a chat of their own.
            made = await ann.client.room_create(is_direct=True, invite=[row["account__user_id"]])
            await ann.until(
                lambda: row["account__user_id"] in getattr(ann.client.rooms.get(made.room_id), "users", {}), 30
            )
            await ann.client.room_put_state(made.room_id, "m.room.encryption", {"algorithm": "m.megolm.v1.aes-sha2"})
            await ann.until(lambda: bool(ann.said_in(made.room_id)), 180, rooms.stack.logs())
            await asyncio.sleep(1)
            told = ann.said_in(made.room_id)
            assert len(told) == 1
            assert "cannot read encrypted messages" in told[0]

    run(as_ann)


def test_stopping_an_answer_keeps_what_was_said(rooms: Rooms) -> None:
    row = rooms.room("Slow Joe")

    async def as_ann() -> None:
        async with rooms.person() as ann:
            await ann.join(row["room__room_id"])
            await ann.say(row["room__room_id"], "take your time")
            # The first words are shown long before the last are said.
            await ann.until(lambda: bool(ann.said_in(row["room__room_id"])), 180, rooms.stack.logs())
            await asyncio.to_thread(
                rooms.stack.ask,
                "from chat.models import Turn\nfrom chat.services.turns import turn_cancel\n"
                "turn_cancel(turn=Turn.objects.get(state='running'), actor='command')",
            )
            await ann.until(
                lambda: any("(stopped)" in text for text in ann.said_in(row["room__room_id"])), 180, rooms.stack.logs()
            )
            assert len(ann.said_in(row["room__room_id"])) == 1

    run(as_ann)
