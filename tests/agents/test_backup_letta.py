"""Letta's agents as files in a backup, and made again: with a stand-in for the server's adapter (the real one: ``tests/e2e``)."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter

import pytest

from agents import backup_letta
from agents.backends.base import AgentInfo
from agents.backends.errors import AgentGone, BackendRejected, BackendUnavailable
from agents.models import Agent, AgentState
from agents.services import agent_files
from ops.backup.components import Cut, component
from ops.models import AuditEvent, Service
from tests.support.parts import Luggage

pytestmark = pytest.mark.django_db(transaction=True)


class FakeLetta:
    """Has the agents in ``there``; ``troubles`` are raised one after the other, by agent."""

    def __init__(self) -> None:
        self.there: dict[str, list[str]] = {}
        self.troubles: dict[str, list[Exception]] = {}
        self.asked: Counter[str] = Counter()
        self.at_once = self.most_at_once = 0
        self._lock = threading.Lock()

    def export_agent(self, external_id, target) -> int:
        with self._lock:
            self.asked[external_id] += 1
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            trouble = self.troubles.get(external_id)
        try:
            time.sleep(0.001)
            if trouble:
                raise trouble.pop(0)
            return target.write(json.dumps({"agents": [{"name": external_id, "tags": ["own"]}]}).encode())
        finally:
            with self._lock:
                self.at_once -= 1

    def import_agent(self, file) -> str:
        document = json.loads(file.read())
        new_id = f"agent-new-{len(self.there)}"
        self.there[new_id] = document["agents"][0]["tags"]
        return new_id

    def tagged(self, tag) -> str:
        return next((one for one, tags in self.there.items() if tag in tags), "")

    def get_agent(self, external_id):
        return AgentInfo(external_id, f"Name of {external_id}") if external_id in self.there else None


@pytest.fixture
def letta(monkeypatch):
    fake = FakeLetta()
    monkeypatch.setattr(backup_letta, "backend_for", lambda service: fake)
    monkeypatch.setattr(agent_files, "backend_for", lambda service: fake)
    return fake


@pytest.fixture
def luggage(tmp_path, settings) -> Luggage:
    settings.DATA_DIR = tmp_path / "data"
    return Luggage(tmp_path)


@pytest.fixture
def part():
    return component("letta_agents")


def _agents(number: int, name: str = "letta") -> Service:
    service = Service.objects.create(name=name, kind="letta", base_url="http://letta.test")
    Agent.objects.bulk_create(
        Agent(service=service, external_id=f"agent-{n}", name=f"Agent {n}") for n in range(number)
    )
    return service


def _take(part, luggage):
    """The files that came, and the error with which it ended."""
    got = {}
    luggage.findings = []
    scratch = luggage.folder / "scratch"
    scratch.mkdir(exist_ok=True)
    most = 0
    try:
        for one in part.files(Cut("default", scratch, luggage.findings.append)):
            with one.open() as file:
                got[one.name] = file.read()
            assert len(got[one.name]) == one.size
            most = max(most, sum(1 for _ in (scratch / part.name).iterdir()))
    except backup_letta.NotAllExported as error:
        return got, str(error), most
    return got, "", most


def test_ten_thousand_agents_are_exported_a_few_at_a_time(letta, luggage, part):
    _agents(10_000)
    got, error, most = _take(part, luggage)
    assert (len(got), error) == (10_000, "")
    assert json.loads(got["letta/agent-9999.af"])["agents"][0]["name"] == "agent-9999"
    assert most <= backup_letta._AHEAD + 1
    assert 1 < letta.most_at_once <= backup_letta._AT_ONCE
    assert list((luggage.folder / "scratch" / part.name).iterdir()) == []


def test_what_fails_for_a_moment_is_tried_again_and_what_fails_for_good_is_named(letta, luggage, part):
    service = _agents(6)
    Agent.objects.filter(external_id="agent-5").update(state=AgentState.ARCHIVED)
    letta.troubles = {
        "agent-1": [BackendUnavailable("It restarts.")],
        "agent-2": [BackendRejected("Tools are broken."), BackendRejected("Tools are broken.")],
        "agent-3": [AgentGone("Not there.")],
    }
    got, error, _ = _take(part, luggage)
    assert sorted(got) == ["letta/agent-0.af", "letta/agent-1.af", "letta/agent-4.af"]
    assert error == "1 agent of letta could not be exported (Agent 2): Tools are broken."
    by_code = {one.code: one for one in luggage.findings}
    assert set(by_code) == {"backup.agent_gone", "backup.agents_not_exported"}
    assert by_code["backup.agents_not_exported"].target == f"service:{service.pk}"
    assert [one["id"] for one in by_code["backup.agents_not_exported"].evidence["agents"]] == ["agent-2"]
    assert letta.asked["agent-0"] == 1


def test_a_server_that_is_down_is_not_asked_for_every_agent_and_the_others_are_exported(letta, luggage, part):
    _agents(500, "down")
    up = Service.objects.create(name="up", kind="letta", base_url="http://up.test")
    Agent.objects.create(service=up, external_id="agent-up", name="Up")
    letta.troubles = {f"agent-{n}": [BackendUnavailable("Nobody answers.")] * 2 for n in range(500)}
    got, error, _ = _take(part, luggage)
    assert list(got) == ["up/agent-up.af"]
    assert error.startswith("500 agents of down could not be exported (Agent 0, ")
    assert sum(letta.asked.values()) < 30


def test_a_page_of_a_proxy_is_no_agent_file(letta, luggage, part, monkeypatch):
    _agents(1)
    monkeypatch.setattr(letta, "export_agent", lambda external_id, target: target.write(b"<html>Sign in</html>"))
    got, error, _ = _take(part, luggage)
    assert got == {}
    assert "no agent file" in error


def test_agents_that_their_server_lost_are_made_again_once_and_keep_their_row(letta, luggage, part, tmp_path):
    service = _agents(3)
    got, _, _ = _take(part, luggage)
    got["gone%2Fservice/agent-9.af"] = b"{}"
    letta.there = {"agent-0": []}
    assert luggage.put(part, tmp_path / "data", got) == {"written": 4}
    pks = dict(Agent.objects.values_list("external_id", "pk"))
    # It was made before a kill, and nothing noted it.
    letta.there["agent-new-x"] = [f"{agent_files.TAG}agent-1"]
    found = agent_files.agent_files_import(actor="command")
    assert (found.present, found.unknown, sorted(found.made), found.failed) == (1, 1, ["Agent 1", "Agent 2"], {})
    assert Agent.objects.get(pk=pks["agent-1"]).external_id == "agent-new-x"
    new_id = Agent.objects.get(pk=pks["agent-2"]).external_id
    assert letta.there[new_id] == ["own", f"{agent_files.TAG}agent-2"]
    assert Agent.objects.get(pk=pks["agent-0"]).external_id == "agent-0"
    assert AuditEvent.objects.filter(action="agent.moved").count() == 2
    assert len(letta.there) == 3
    assert list(agent_files.waiting()) == []
    assert service.agents.filter(state=AgentState.ACTIVE).count() == 3


def test_what_cannot_be_made_again_waits_and_is_tried_again(letta, luggage, part, tmp_path, monkeypatch):
    _agents(2)
    got, _, _ = _take(part, luggage)
    luggage.put(part, tmp_path / "data", got)

    def refuse(file):
        raise BackendRejected("No room.")

    with monkeypatch.context() as patch:
        patch.setattr(letta, "import_agent", refuse)
        found = agent_files.agent_files_import(actor="command")
    assert found.failed == {"Agent 0": "No room.", "Agent 1": "No room."}
    assert "manage.py agent_files import" in found.sentence
    assert len(list(agent_files.waiting())) == 2
    assert sorted(agent_files.agent_files_import(actor="command").made) == ["Agent 0", "Agent 1"]


def test_a_drill_reads_the_files_and_asks_nobody(letta, luggage, part, tmp_path):
    _agents(1)
    got, _, _ = _take(part, luggage)
    got["letta/agent-7.af"] = b"{}"
    letta.asked.clear()
    assert luggage.put(part, tmp_path / "drill", got, drill=True) == {"read": 1, "damaged": 1}
    assert luggage.codes == ["drill.agent_file"]
    assert not (tmp_path / "drill").exists()
