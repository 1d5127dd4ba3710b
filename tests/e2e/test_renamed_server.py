"""A homeserver with another name takes the place of ours: a real second Synapse, the same agents, the same conversations."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.matrix_client import Person, run
from tests.peers.letta_stub import LettaStub
from tests.peers.switchboard import Stack
from tests.peers.synapse import Synapse

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

PASSWORD = "ann-has-a-password"
OLD, NEW = "sb.test", "new.test"
# Every row that the renaming touches, with all columns but those in which the running processes note how far they have read.
ROWS = """
import json
from django.core import serializers
from agents.models import Account, Room, Invitation, Mapping
from chat.models import Link, Person
from ops.models import Service
result = {}
noted = {"caught_up_epoch", "last_event_id", "last_event_at", "updated_at"}
for model in (Account, Room, Invitation, Mapping, Link):
    rows = json.loads(serializers.serialize("json", model.objects.order_by("pk")))
    result[model.__name__] = [
        [row["pk"], {name: value for name, value in row["fields"].items() if name not in noted}] for row in rows
    ]
result["services"] = [[s.name, s.base_url, s.options, dict(s.credentials)] for s in Service.objects.order_by("pk")]
result["people"] = list(Person.objects.order_by("pk").values_list("username", "matrix_user_id"))
"""
AGENTS = """
from agents.models import Mapping
result = {m.agent.name: [m.pk, m.account.user_id, m.room_id, m.room.room_id, m.room.alias] for m in
          Mapping.objects.select_related('agent', 'account', 'room').order_by('pk')}
"""


class House:
    """One installation, the homeserver that it has, and the one that it gets."""

    def __init__(self, stack: Stack, old: Synapse, new: Synapse, letta: LettaStub) -> None:
        self.stack, self.old, self.new, self.letta = stack, old, new, letta

    def rows(self) -> dict[str, Any]:
        found: dict[str, Any] = self.stack.ask(ROWS)
        return found

    def agents(self) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = self.stack.ask(AGENTS)
        return found

    def ann(self, server: Synapse) -> Person:
        return Person(server.url, f"@ann:{server.server_name}", PASSWORD)

    def rename(self, *arguments: str, check: bool = True) -> Any:
        return self.stack.manage("homeserver", "rename-server", *arguments, check=check)


def settings_file(stack: Stack) -> Path:
    return Path(stack.environment["SWITCHBOARD_ENV_FILE"])


@pytest.fixture(scope="module")
def house(redis_server: Any) -> Iterator[House]:
    redis_server.client().flushall()
    with LettaStub(agents=2) as letta:
        stack = Stack(redis_url=redis_server.url, settings={"LETTA_BASE_URL": letta.url})
        old = Synapse(registration=stack.write_registration())
        # It does not know us yet.
        new = Synapse(server_name=NEW)
        house = House(stack, old, new, letta)
        for name in ("MATRIX_SERVER_NAME", "MATRIX_HOMESERVER_URL"):
            stack.environment.pop(name)
        stack.folder.mkdir(parents=True, exist_ok=True)
        settings_file(stack).write_text(f"MATRIX_SERVER_NAME={OLD}\nMATRIX_HOMESERVER_URL={old.url}\n# kept\n")
        try:
            for server in (old, new):
                server.start()
                server.register_user("ann", PASSWORD)
            stack.prepare()
            stack.ask(
                "from chat.models import Person\n"
                f"Person.objects.create_user('ann', matrix_user_id='@ann:{OLD}', is_staff=True)\n"
                "Person.objects.create_user('bob', matrix_user_id='@bob:elsewhere.test')"
            )
            stack.start()
            yield house
        finally:
            stack.stop()
            old.stop()
            new.stop()


def test_something_was_said_on_the_former_server(house: House) -> None:
    house.stack.manage("sync_agents")
    room = next(iter(house.agents().values()))[3]

    async def as_ann() -> None:
        async with house.ann(house.old) as ann:
            await ann.join(room)
            await ann.say(room, "Remember the blue door.")
            await ann.until(lambda: bool(ann.said_in(room)), 120, house.stack.logs())

    run(as_ann)


def test_it_asks_the_new_server_first_and_changes_nothing(house: House) -> None:
    before = house.rows()
    refused = house.rename(NEW, "--url", house.new.url, "--yes", check=False)
    assert refused.returncode == 2
    assert "does not know Switchboard yet" in refused.stderr
    registration = house.stack.folder / "registration-new.yaml"
    house.stack.manage("registration", "--server-name", NEW, "--output", str(registration))
    house.new.use_registration(registration)
    house.new.restart()

    wrong = house.rename("other.test", "--url", house.new.url, "--yes", check=False)
    assert wrong.returncode == 2
    assert f"calls itself {NEW}, not other.test" in wrong.stderr
    planned = house.rename(NEW, "--url", house.new.url, "--people", "same", "--dry-run").stdout
    for part in ("begin anew", "MATRIX_SERVER_NAME", "MATRIX_HOMESERVER_URL", f"@ann:{NEW}"):
        assert part in planned, planned
    assert "@bob" not in planned
    assert house.rows() == before
    assert OLD in settings_file(house.stack).read_text()


def test_it_can_be_taken_back_while_nothing_was_made(house: House) -> None:
    before, text = house.rows(), settings_file(house.stack).read_text()
    house.rename(NEW, "--url", house.new.url, "--people", "same", "--yes")
    after = house.rows()
    assert after["people"] == [["ann", f"@ann:{NEW}"], ["bob", "@bob:elsewhere.test"]]
    assert all(row[1].endswith(f":{NEW}") and row[3] is None for row in house.agents().values())
    assert settings_file(house.stack).read_text() == text.replace(OLD, NEW).replace(house.old.url, house.new.url)
    run_id = house.stack.ask("from ops.models import RepairRun\nresult=str(RepairRun.objects.first().pk)")
    house.stack.manage("undo", run_id)
    assert house.rows() == before
    assert settings_file(house.stack).read_text() == text


def test_agents_begin_anew_there_and_conversations_go_on(house: House) -> None:
    before = house.agents()
    house.rename(NEW, "--url", house.new.url, "--people", "same", "--yes")
    for part in house.stack.parts:
        part.restart()

    # What is still said on the former server is nobody's any more.
    old_room = next(iter(before.values()))[3]

    async def as_ann_on_the_old() -> None:
        async with house.ann(house.old) as ann:
            await ann.say(old_room, "Is anybody still here?")

    run(as_ann_on_the_old)
    done = house.stack.manage("sync_agents", "--json")
    report = json.loads(done.stdout)
    assert report["applied"]["account.register"] == 2, report
    assert report["findings"] == []
    after = house.agents()
    assert {name: row[0] for name, row in after.items()} == {name: row[0] for name, row in before.items()}
    assert {row[2] for row in after.values()} == {row[2] for row in before.values()}, "the rows are the same rows"
    for name, row in after.items():
        assert row[1] == before[name][1].replace(OLD, NEW)
        assert row[3] not in (None, before[name][3])
    again = json.loads(house.stack.manage("sync_agents", "--json").stdout)
    assert again["planned"] == {}
    first = next(iter(after.values()))
    texts = (
        f"from chat.models import Link, Message\nlink=Link.objects.get(room={first[2]})\n"
        "result=list(Message.objects.filter(conversation=link.conversation).order_by('seq').values_list('text', flat=True))"
    )
    assert house.stack.ask(texts)[0] == "Remember the blue door."

    async def as_ann() -> None:
        async with house.ann(house.new) as ann:
            await ann.join(first[3])
            await ann.say(first[3], "Which door?")
            await ann.until(lambda: "Which door?" in str(ann.said_in(first[3])), 120, house.stack.logs())
            events = [e for e in await ann.all_messages(first[3]) if e["type"] == "m.room.message"]
            told = [e["content"]["body"] for e in events if e["content"].get("m.letta_historical")]
            assert any(body.endswith("Remember the blue door.") for body in told), told

    run(as_ann)
    asked = [entry["text"].removeprefix("ann: ") for entry in house.letta.accepted()]
    assert asked == ["Remember the blue door.", "Which door?"], "nothing old is answered again, and nothing twice"
    versions = house.stack.ask(
        f"from ops.services.versions import versions_of\nresult=[v.state['user_id'] for v in versions_of('agents.mapping', {first[0]})]"
    )
    assert versions[0].endswith(f":{NEW}")


def test_it_cannot_be_taken_back_once_something_was_made(house: House) -> None:
    run_id = house.stack.ask("from ops.models import RepairRun\nresult=str(RepairRun.objects.first().pk)")
    before = house.rows()
    refused = house.stack.manage("undo", run_id, check=False)
    assert refused.returncode != 0
    assert "were made on new.test meanwhile" in refused.stderr
    assert house.rows() == before
