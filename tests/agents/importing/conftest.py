"""A homeserver at the HTTP edge on which the predecessor has made accounts, rooms and a space; nothing is known here yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agents.backends.base import AgentInfo
from agents.models import MappingImport, MappingImportRow
from agents.services.backends import open_homeserver
from agents.services.import_applying import import_apply
from agents.services.import_preparing import import_prepare
from tests.agents.importing.files import agent_id, as_bytes, file_of, mapping, user_id
from tests.support.fake_homeserver import SERVER_NAME, FakeRoom
from tests.support.stage import Stage, _fake_homeserver, stage

__all__ = ["Predecessor", "_fake_homeserver", "predecessor", "stage"]

ADMIN = f"@admin:{SERVER_NAME}"


class Predecessor:
    """What Letta-Matrix has left: accounts with passwords in rooms of their own."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.fake = stage, stage.fake
        self.rooms: dict[int, FakeRoom] = {}

    def makes(self, *numbers: int, listed: bool = True) -> None:
        """Accounts and rooms of agents, as its bridge made them."""
        for number in numbers:
            who = user_id(number, SERVER_NAME)
            self.fake.users[who] = {"displayname": f"Letta Agent: Agent {number}", "avatar_url": ""}
            self.rooms[number] = self.fake.new_room(who, ADMIN)
            self.fake._state(self.rooms[number], "m.room.name", "", {"name": f"Agent {number} - Letta Agent Chat"}, who)
            self.fake.person_says(self.rooms[number].room_id, ADMIN, f"old words to {number}")
        if listed:
            known = self.stage.world.agents.setdefault("scripts", [])
            known += [AgentInfo(agent_id(number), f"Agent {number}") for number in numbers]

    def entry(self, number: int, **fields: Any) -> dict[str, Any]:
        room = self.rooms.get(number)
        return mapping(number, SERVER_NAME, room_id=room.room_id if room else None, **fields)

    def file(self, *numbers: int, **fields: Any) -> bytes:
        return as_bytes(file_of(*(self.entry(number, **fields) for number in numbers)))

    def prepare(self, *files: bytes, **options: Any) -> MappingImport:
        return import_prepare(
            files=[(f"file{number}.json", data) for number, data in enumerate(files)],
            **{"homeserver": open_homeserver(), "service_name": "scripts", "actor": "test", **options},
        )

    def brings(self, *files: bytes, **options: Any) -> MappingImport:
        """Prepared and applied."""
        return import_apply(run=self.prepare(*files, **options), actor="test")

    def row(self, run: MappingImport, key: str) -> MappingImportRow:
        return MappingImportRow.objects.get(run=run, key=key)

    def made(self) -> tuple[int, int]:
        """How many accounts and rooms there are."""
        return len(self.fake.users), len(self.fake.rooms)


@pytest.fixture
def predecessor(stage: Stage, transactional_db: None) -> Predecessor:
    stage.homeserver()
    stage.service()
    return Predecessor(stage)


Brings = Callable[..., MappingImport]
