"""Agents, mappings and memory as they were: each change leaves a version, and an earlier one comes back by the operators' own ways."""

from __future__ import annotations

from typing import Any

import pytest

from agents.backends.base import MemoryBlock
from agents.models import Agent, Mapping, MemoryEdit, Room
from agents.services.agents import agent_define, agent_pause, agent_set_memory_policy
from agents.services.backends import homeserver_of
from agents.services.identities import account_rename
from agents.services.mappings import mapping_relink
from agents.services.memory import memory_write
from agents.services.rooms import room_set_quiet
from agents.sync.rows import update_agent
from ops.history.beginnings import begin_histories, forget
from ops.history.registry import CannotBringBack
from ops.models import ObjectVersion
from ops.services.audit import record
from ops.services.versions import bring_back, changed, deleted_objects, difference, versions_of
from tests.support.scripted_backend import ScriptedMemoryBackend
from tests.support.stage import SERVER_NAME, _fake_homeserver, stage

__all__ = ["_fake_homeserver", "stage"]

pytestmark = pytest.mark.django_db(transaction=True)


def begun(row: Any) -> ObjectVersion:
    """The version that the object had before the test touched it."""
    forget()
    begin_histories()
    version = versions_of(row).first()
    assert version is not None
    return version


def test_an_agents_settings_come_back_and_what_its_server_says_makes_no_version(stage: Any) -> None:
    agent = stage.agent()
    first = begun(agent)
    [info] = stage.world.agents[agent.service.name]
    update_agent(agent, type(info)(info.external_id, "Ada the Second", description="Says more."), actor="sync")
    assert versions_of(agent).count() == 1
    agent_pause(agent=agent, actor="person:ada")
    agent_set_memory_policy(agent=agent, policy="shared", actor="person:ada")
    newest, paused, _ = versions_of(agent)
    assert [one.field for one in changed(paused, newest)] == ["memory_policy"]
    assert [one.field for one in difference(first) if not one.observed] == ["paused", "memory_policy"]
    bring_back(version=first, actor="person:bob")
    agent = stage.fresh("Ada the Second")
    assert (agent.paused, agent.memory_policy) == (False, "isolated")
    assert [one.field for one in difference(first) if not one.observed] == []


def test_a_definition_that_was_overwritten_comes_back(stage: Any) -> None:
    service = stage.service("defined", "scripted_defined")
    agent = agent_define(
        service=service, name="Rhea", system_prompt="You are calm.", model="m-1", max_tokens=100, actor="person:ada"
    )
    agent_define(agent=agent, service=service, name="Rhea!", system_prompt="You shout.", actor="person:eve")
    newest, first = versions_of(agent)
    assert ("definition.system_prompt", "You are calm.", "You shout.") in {
        (one.field, one.before, one.after) for one in changed(first, newest)
    }
    bring_back(version=first, actor="person:bob")
    agent.refresh_from_db()
    assert agent.name == "Rhea"
    assert agent.definition == {"system_prompt": "You are calm.", "model": "m-1", "max_tokens": 100}


def test_a_mapping_goes_back_to_its_former_room_account_and_quiet(stage: Any) -> None:
    agent = stage.agent()
    mapping, homeserver = agent.mapping, homeserver_of(agent.mapping.account.homeserver)
    first = begun(mapping)
    room_id, user_id = mapping.room.room_id, mapping.account.user_id
    other = homeserver.client.create_room(user_id=user_id, name="Elsewhere")
    mapping_relink(mapping=mapping, room_id=other, homeserver=homeserver, actor="person:ada")
    room_set_quiet(room=stage.room(), quiet=True, actor="person:ada")
    account_rename(account=mapping.account, user_id=f"@wrong:{SERVER_NAME}", actor="person:ada")
    assert {one.field for one in difference(first)} == {"matrix_room", "quiet", "user_id"}
    # Room and account have rows of their own; their changes are the mapping's.
    assert [row.action for row in versions_of(mapping)] == [
        "account.renamed", "room.quieted", "mapping.relinked", first.action,
    ]  # fmt: skip
    bring_back(version=first, actor="person:bob")
    now = stage.mapping()
    assert (now.room.room_id, now.account.user_id, now.room.quiet) == (room_id, user_id, False)
    assert other in now.room.predecessors
    assert len(stage.fake.rooms) == 3
    assert difference(first) == []


def test_a_removed_mapping_is_made_again_from_its_rows(stage: Any) -> None:
    mapping = stage.agent().mapping
    kept = (mapping.agent_id, mapping.account_id, mapping.room_id)
    record(actor="person:eve", action="mapping.removed", target=mapping)
    mapping.delete()
    [gone] = deleted_objects("agents.mapping")
    assert gone.state["matrix_room"]
    done = bring_back(version=gone, actor="person:bob")
    again = Mapping.objects.get()
    assert (again.agent_id, again.account_id, again.room_id) == kept
    assert done.object_id == str(again.pk)
    gone.object_id = "0"
    with pytest.raises(CannotBringBack, match="mapping for it again"):
        bring_back(version=gone, actor="person:bob")
    assert Mapping.objects.count() == 1


def test_a_room_that_is_anothers_now_is_not_taken_from_it(stage: Any) -> None:
    ada, bob = stage.agent("Ada"), stage.agent("Bob")
    version = begun(ada.mapping)
    version.state["matrix_room"] = bob.mapping.room.room_id
    with pytest.raises(CannotBringBack, match="in use already"):
        bring_back(version=version, actor="person:bob")
    assert stage.room("Bob").room_id == bob.mapping.room.room_id
    assert Room.objects.get(pk=ada.mapping.room.pk).room_id == ada.mapping.room.room_id


@pytest.fixture
def memory(stage: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What the agent's server keeps."""
    blocks = {"persona": "I am kind.", "human": "Ada likes tea."}

    def write(self: Any, external_id: str, label: str, value: str) -> MemoryBlock:
        blocks[label] = value
        return MemoryBlock(label, value)

    monkeypatch.setattr(
        ScriptedMemoryBackend,
        "read_memory",
        lambda self, external_id: [MemoryBlock(label, text) for label, text in blocks.items()],
        raising=False,
    )
    monkeypatch.setattr(ScriptedMemoryBackend, "write_memory", write, raising=False)
    return blocks


def test_a_memory_block_comes_back_also_over_what_its_agent_wrote_itself(stage: Any, memory: dict[str, str]) -> None:
    agent = stage.agent(kind="scripted_memory")
    memory_write(agent=agent, label="persona", value="I am rude.", actor="person:eve")
    memory["persona"] = "I am rude, and proud of it."
    memory_write(agent=agent, label="persona", value="I am silent.", actor="person:eve")
    rows = list(versions_of("agents.memoryblock", f"{agent.pk}:persona"))
    assert [(row.state["text"], row.actor, row.message) for row in rows] == [
        ("I am silent.", "person:eve", ""),
        ("I am rude, and proud of it.", "system", "Changed elsewhere."),
        ("I am rude.", "person:eve", ""),
        ("I am kind.", "system", "Before the first change from here."),
    ]
    bring_back(version=rows[-1], actor="person:bob")
    assert memory == {"persona": "I am kind.", "human": "Ada likes tea."}
    assert MemoryEdit.objects.latest("pk").actor == "person:bob"
    memory.pop("persona")
    with pytest.raises(CannotBringBack, match="no memory block"):
        bring_back(version=rows[0], actor="person:bob")


def test_a_sync_of_new_agents_leaves_their_beginnings(stage: Any) -> None:
    stage.agent("Ada")
    stage.agent("Bob")
    forget()
    begin_histories()
    assert {row.label for row in ObjectVersion.objects.filter(model="agents.agent")} == {"Ada", "Bob"}
    assert ObjectVersion.objects.filter(model="agents.mapping").values("object_id").distinct().count() == 2
    before = ObjectVersion.objects.count()
    stage.sync()
    assert ObjectVersion.objects.count() == before
    assert Agent.objects.count() == 2
