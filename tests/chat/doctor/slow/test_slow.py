"""``llm.slow``: which part of an answer takes the time, from rows, and the failover that it proposes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from agents.models import Agent
from chat.doctor.slow.check import slow
from chat.doctor.slow.fault import slow_answers
from chat.doctor.slow.parts import agent_times, complete
from chat.models import Message, Participant, ParticipantKind, Role, Turn
from ops.doctor.guides import guide_for
from ops.live import live_clear, live_set
from ops.models import CheckState, Service
from ops.runner import run_checks
from ops.services.repairs import repair_start, repair_undo

pytestmark = pytest.mark.django_db(transaction=True)


def agents(count: int, **options: Any) -> list[Agent]:
    service = Service.objects.create(name="llm", kind="openai", base_url="http://127.0.0.1:9/v1", options=options)
    return [
        Agent.objects.create(service=service, external_id=f"m{number}", name=f"Agent {number}", model=f"m{number}")
        for number in range(count)
    ]


def found() -> Any:
    return next(run for run in run_checks(["llm.slow"]) if run.check.id == "llm.slow")


def test_slow_models_are_told_apart_from_quick_ones() -> None:
    quick, late = agents(2)
    slow_answers(quick, seconds=1.0)
    assert found().status == "pass"
    slow_answers(late, seconds=40.0)
    run = found()
    assert run.status == "warn"
    assert [one.target for one in run.affected] == [f"agent:{late.pk}"]
    assert "Agent 1 begins to answer after 40.0 s" in run.sentence
    assert run.evidence["dominant"] == "first_word"
    parts = run.evidence["slowest"][0]
    assert parts["waited_ms"] == {"p50": 40000, "p95": 40000}
    assert parts["first_word_ms"]["p50"] == 39900
    assert parts["writing_ms"]["p50"] == 2000
    assert parts["tokens_per_second"] == 30.0
    assert run.fix is None  # no fallback model is named: the guide says so
    guide = guide_for("llm.slow")
    assert guide is not None
    assert "Fallback model" in guide.steps[0].sentence


def test_a_queue_is_no_fault_of_the_model() -> None:
    (agent,) = agents(1, fallback_model="small")
    slow_answers(agent, seconds=40.0)
    for turn in Turn.objects.all():
        Turn.objects.filter(pk=turn.pk).update(started_at=turn.created_at + timedelta(seconds=39))
    run = found()
    assert run.evidence["dominant"] == "queue"
    assert "More workers help" in run.sentence
    assert run.fix is None
    guide = guide_for("llm.slow")
    assert guide is not None
    assert "WORKER_CONCURRENCY" in guide.steps[0].snippet


def test_time_of_tools_is_taken_out_of_the_models() -> None:
    (agent,) = agents(1)
    slow_answers(agent, seconds=40.0, count=3)
    for turn in Turn.objects.select_related("message").all():
        speaker, _ = Participant.objects.get_or_create(
            conversation=turn.conversation,
            kind=ParticipantKind.AGENT,
            external_id=str(agent.pk),
            defaults={"name": "A"},
        )
        parts = [{"type": "tool_call", "id": "1"}, {"type": "tool_result", "id": "1", "ms": 30000}, {"type": "text"}]
        turn.reply = Message.objects.create(
            conversation=turn.conversation, seq=100 + turn.seq, sender=speaker, role=Role.ASSISTANT, text="x",
            parts=parts, transport="turn", external_id=str(turn.pk), received_at=timezone.now(), stored_at=timezone.now(),
        )  # fmt: skip
        turn.save()
    times = agent_times()
    complete(times.values())
    assert times[agent.pk].dominant() == "tools"
    assert times[agent.pk].percentile("first_word", 0.5) == pytest.approx(9900)
    assert "its tools wait for" in found().sentence


def test_few_answers_and_old_ones_say_nothing() -> None:
    (agent,) = agents(1)
    slow_answers(agent, count=2)
    assert found().status == "pass"
    Turn.objects.all().update(finished_at=timezone.now() - timedelta(hours=3))
    slow_answers(agent, count=2)
    assert found().status == "pass"


def test_the_target_is_changed_live() -> None:
    (agent,) = agents(1)
    slow_answers(agent, seconds=5.0)
    assert found().status == "pass"
    live_set(key="SLOW_ANSWER_SECONDS", value=2, actor="test")
    try:
        assert found().status == "warn"
    finally:
        live_clear(key="SLOW_ANSWER_SECONDS", actor="test")


def test_failover_ends_it_and_undoing_brings_it_back(monkeypatch: pytest.MonkeyPatch, model_stub: Any) -> None:
    service = Service.objects.create(
        name="llm", kind="openai", base_url=model_stub.base_url, options={"fallback_model": "gpt-4o"}
    )
    agent = Agent.objects.create(service=service, external_id="gpt-4o-mini", name="Mini", model="gpt-4o-mini")
    slow_answers(agent)
    run = found()
    assert run.fix is not None
    assert run.fix.params == {"agents": [f"agent:{agent.pk}"]}
    asked = {"repair_id": "llm.failover", "target": run.fix.target, "params": run.fix.params, "actor": "test"}
    done = repair_start(**asked, trigger="command")
    assert (done.state, done.error) == ("succeeded", "")
    assert Service.objects.get(name="llm").options["instead"] == {"*": "gpt-4o"}
    assert found().status == "pass"
    assert repair_start(**asked, trigger="command").state == "unneeded"
    repair_undo(run=done, actor="test")
    assert found().status == "warn"
    assert CheckState.objects.get(check_id="llm.slow").status == "warn"


def test_the_number_of_queries_does_not_grow_with_agents() -> None:
    several = agents(12)
    slow_answers(several[0])
    with CaptureQueriesContext(connection) as one:
        slow()
    for agent in several[1:]:
        slow_answers(agent)
    with CaptureQueriesContext(connection) as many:
        assert len(slow().affected) == 12
    assert len(many) <= len(one)


def test_pausing_does_not_count_as_another_model() -> None:
    (agent,) = agents(1)
    slow_answers(agent)
    done = repair_start(
        repair_id="llm.failover",
        target=f"agent:{agent.pk}",
        params={"action": "pause"},
        actor="test",
        trigger="command",
    )
    assert done.changes_count == 1
    assert found().status == "warn"
