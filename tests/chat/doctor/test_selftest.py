"""The routing self-test on a real Synapse: the right agent, from its own account, in its own room, and how fast."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connections
from django.utils import timezone

from agents.backends.errors import BackendRejected
from agents.models import Agent, Mapping, Room
from chat import wakeup
from chat.doctor import faults
from chat.doctor.selftest import selected
from chat.models import Delivery, DeliveryState, Message, Turn
from chat.services import selftest as service
from chat.services.selftest import selftest_run
from ops.doctor.repairs import RepairRefused
from ops.models import AuditEvent, CheckState, Heartbeat, Issue
from ops.runner import run_checks
from ops.services.repairs import repair_plan, repair_start
from tests.agents.doctor.matrix.conftest import House, house, receiver, registration_file, synapse, synced
from tests.support.scripted_backend import WORLD

__all__ = ["house", "receiver", "registration_file", "synapse", "synced"]

pytestmark = pytest.mark.e2e


@pytest.fixture
def working(synced: House, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """Three agents with rooms, and a worker that takes up turns and deliveries."""
    from chat.deliveries.run import run_delivery, runnable
    from chat.turns import claim
    from chat.turns.run import run_turn

    Heartbeat.objects.create(name="worker:test", started_at=timezone.now(), seen_at=timezone.now())
    monkeypatch.setattr(wakeup, "_send", lambda *arguments: None)
    over = threading.Event()

    def work() -> None:
        try:
            while not over.wait(0.05):
                for pk in list(claim.runnable().values_list("pk", flat=True)):
                    run_turn(pk)
                for pk in list(runnable().values_list("pk", flat=True)):
                    run_delivery(pk)
        finally:
            connections.close_all()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield synced
    over.set()
    thread.join(60)


def report(name: str = "") -> Any:
    run = next(iter(run_checks(["routing.selftest"])))
    return run if not name else next(one for one in run.evidence["agents"] if one["name"] == name)


def test_all_answer_as_themselves_and_the_report_is_kept(working: House) -> None:
    found = report()
    assert found.status == "pass", found.evidence
    assert found.evidence["passed"] == 3
    for one in found.evidence["agents"]:
        mapping = working.mapping(one["name"])
        assert (one["stage"], one["answered_by"]) == ("seen", mapping.account.user_id)
        assert 0 < one["latency_ms"] < 60_000
        events = working.client.messages(mapping.room.room_id, user_id=mapping.account.user_id).chunk
        words = [event["content"].get("body", "") for event in events if event["type"] == "m.room.message"]
        assert any("Self-test" in text for text in words), "people see what was asked"
    assert CheckState.objects.get(check_id="routing.selftest").evidence["passed"] == 3
    assert AuditEvent.objects.filter(action="selftest.routing").count() == 1


def test_break_red_plan_relink_green(working: House) -> None:
    memory = faults.swap_two_rooms()
    before = Message.objects.count()
    found = report()
    assert found.status == "fail"
    assert found.evidence["passed"] == 1
    assert "another agent's" in found.sentence
    issue = Issue.objects.get(check_id="routing.selftest", target="")
    assert issue.fix["repair"] == "mapping.relink"
    assert Message.objects.filter(role="user").count() == before + 1, "nothing is said in a room of somebody else"
    run = repair_start(
        repair_id="mapping.relink", target=issue.fix["target"], actor="test", trigger="command", issue=issue
    )
    assert run.state == "succeeded", run.error
    issue.refresh_from_db()
    assert issue.state == "resolved"
    assert {one.room.alias[1:] for one in Mapping.objects.select_related("room", "account") if one.room} == {
        one.account.user_id[1:] for one in Mapping.objects.select_related("account")
    }
    faults.swap_back(memory)


def test_the_repair_asks_reports_and_is_unneeded_when_that_was_good(working: House) -> None:
    planned = repair_plan(repair_id="selftest.routing", actor="test")
    assert {change.target for change in planned.plan.changes} == {f"agent:{one.pk}" for one in Agent.objects.all()}
    run = repair_start(repair_id="selftest.routing", actor="test", trigger="command")
    assert (run.state, run.receipt["report"]["passed"]) == ("succeeded", 3)
    assert repair_start(repair_id="selftest.routing", actor="test", trigger="command").state == "unneeded"
    ada = working.mapping("Ada").agent
    one = repair_start(repair_id="selftest.routing", target=f"agent:{ada.pk}", actor="test", trigger="command")
    assert [row["name"] for row in one.receipt["report"]["agents"]] == ["Ada"]
    with pytest.raises(RepairRefused, match="no agent"):
        repair_plan(repair_id="selftest.routing", target="room:1", actor="test")


def test_what_fails_is_said_and_leaves_nothing_behind(working: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "LOOK_EVERY", 0.05)
    agents = list(Agent.objects.order_by("name").select_related("service", "mapping__account", "mapping__room"))
    WORLD.default = (BackendRejected("400 no such agent"),)
    failed = selftest_run(agents=agents[:1], actor="test")[0]
    assert (failed.ok, failed.stage) == (False, "sent")
    assert "400 no such agent" in failed.problem
    WORLD.default = None
    Agent.objects.filter(pk=agents[1].pk).update(paused=True)
    agents[1].refresh_from_db()
    paused = selftest_run(agents=agents[1:2], actor="test")[0]
    assert (paused.problem, paused.message) == ("It is paused.", None)
    assert agents[1] not in selected()
    monkeypatch.setattr("chat.turns.claim.runnable", lambda **_: Turn.objects.none())
    late = selftest_run(agents=agents[2:], actor="test", wait_seconds=0.3)[0]
    assert late.problem == "No answer within 0 s."
    assert not Turn.objects.filter(state__in=["queued", "running", "failed", "dead"]).exists()
    assert not Delivery.objects.filter(state=DeliveryState.DEAD).exists()


def test_somebody_elses_voice_is_noticed(working: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The homeserver says who spoke; our rows are not asked."""
    agent = Agent.objects.select_related("service", "mapping__account", "mapping__room").get(name="Ada")
    other = working.user_id("Bea")
    from agents.matrix.client import AppserviceClient

    monkeypatch.setattr(AppserviceClient, "get_event", lambda *_: {"sender": other})
    found = selftest_run(agents=[agent], actor="test")[0]
    assert not found.ok
    assert other in found.problem


def test_without_rooms_there_is_nothing_to_ask(house: House) -> None:
    Heartbeat.objects.create(name="worker:test", started_at=timezone.now(), seen_at=timezone.now())
    assert not Room.objects.exists()
    assert report().status == "skip"
