"""``llm.quota`` and ``llm.failover`` on the whole way: a message, a provider that refuses, what people are told, another model."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from agents.models import Agent
from agents.services.agents import agent_pause
from agents.services.troubles import NO_CREDIT, RATE_LIMITED
from chat.models import Message, Role, Turn
from chat.services.messages import conversation_open, message_send
from ops.doctor.repairs import RepairRefused
from ops.models import Service, Sighting
from ops.services.repairs import repair_plan, repair_start, repair_undo
from ops.services.services import service_save
from ops.services.sightings import sighting_count
from tests.agents.doctor.letta.conftest import change, letta_service, outcome
from tests.support.stage import Stage

pytestmark = pytest.mark.django_db(transaction=True)
CHECK, REPAIR = "llm.quota", "llm.failover"


def provider(url: str, **options: Any) -> Agent:
    service = service_save(actor="test", name="llm", kind="openai", base_url=url, options=options)
    return Agent.objects.create(service=service, external_id="gpt-4o-mini", name="Mini", model="gpt-4o-mini")


def ask(stage: Stage, agent: Agent, text: str) -> Turn:
    conversation = conversation_open(agent=agent, actor="test")
    turn = message_send(agent=agent, text=text, conversation=conversation, speaker_name="Ann", speaker_id="ann").turn
    assert turn is not None
    stage.run_turns()
    turn.refresh_from_db()
    return turn


def test_a_rate_limit_is_told_counted_and_overcome_by_the_fallback(stage: Stage, model_stub: Any) -> None:
    agent = provider(model_stub.base_url, fallback_model="gpt-4o")
    turn = ask(stage, agent, "[error 429 retry 600] one")
    assert (turn.state, turn.error_code) == ("queued", "backend.rate_limited")
    told = Message.objects.filter(conversation=turn.conversation, role=Role.NOTICE).values_list("text", flat=True)
    assert len(told) == 1
    assert "Your message waits; it is answered at about" in told[0]
    assert "UTC" in told[0]
    # A second refusal of the same message is not told again.
    stage.hurry()
    stage.run_turns()
    assert Message.objects.filter(conversation=turn.conversation, role=Role.NOTICE).count() == 1

    row = Sighting.objects.get()
    assert (row.service, row.kind, row.label, row.count) == ("llm", RATE_LIMITED, "gpt-4o-mini", 2)
    run = outcome(CHECK, "llm")
    assert run.status == "fail"
    assert "is rate-limited until" in run.sentence
    assert "Mini wait" in run.sentence
    assert [one.target for one in run.affected] == [f"agent:{agent.pk}"]
    assert run.evidence["cause"] == RATE_LIMITED
    assert run.fix is not None

    asked = {"repair_id": REPAIR, "target": run.fix.target, "params": run.fix.params, "actor": "test"}
    planned = repair_plan(**asked)
    assert [(one.what, one.after) for one in planned.plan.changes] == [("model instead of every other", "gpt-4o")]
    done = repair_start(**asked, trigger="command")
    assert done.state == "succeeded", done.error
    assert outcome(CHECK, "llm").status == "pass"
    # What has waited is due at once, and the other model is asked.
    turn.refresh_from_db()
    assert turn.not_before <= timezone.now()
    Turn.objects.filter(pk=turn.pk).update(state="cancelled")
    answered = ask(stage, agent, "two")
    assert answered.state == "done"
    assert model_stub.ledger(text="two")[-1]["model"] == "gpt-4o"
    assert repair_start(**asked, trigger="command").state == "unneeded"

    repair_undo(run=done, actor="test")
    assert "instead" not in Service.objects.get(name="llm").options
    ask(stage, agent, "three")
    assert model_stub.ledger(text="three")[-1]["model"] == "gpt-4o-mini"


def test_a_good_answer_overtakes_refusals(stage: Stage, model_stub: Any) -> None:
    agent = provider(model_stub.base_url)
    # So late that it is not tried again meanwhile, which would be another refusal.
    ask(stage, agent, "[error 429 retry 600]")
    for _ in range(4):
        sighting_count(service="llm", kind=RATE_LIMITED, agent=f"agent:{agent.pk}", label="gpt-4o-mini")
    assert outcome(CHECK, "llm").status == "fail"
    assert ask(stage, agent, "well").state == "done"
    run = outcome(CHECK, "llm")
    assert run.status == "pass"
    assert "answered later" in run.sentence


def test_a_turn_that_goes_well_costs_no_query_more(stage: Stage, model_stub: Any) -> None:
    agent = provider(model_stub.base_url)
    ask(stage, agent, "warm up")
    with CaptureQueriesContext(
        connection,
    ) as seen:
        assert ask(stage, agent, "again").state == "done"
    assert not [query["sql"] for query in seen if "sighting" in query["sql"]]
    assert Sighting.objects.count() == 0


def test_out_of_credit_without_a_fallback_the_agents_are_paused(stage: Stage, model_stub: Any) -> None:
    agent = provider(model_stub.base_url)
    sighting_count(service="llm", kind=NO_CREDIT, agent=f"agent:{agent.pk}", sample="insufficient_quota")
    run = outcome(CHECK, "llm")
    assert run.status == "fail"
    assert "credit" in run.sentence
    asked = {"repair_id": REPAIR, "target": "service:llm", "actor": "test"}
    done = repair_start(**asked, trigger="command")
    assert done.state == "succeeded", done.error
    assert Agent.objects.get(pk=agent.pk).paused
    assert outcome(CHECK, "llm").status == "pass"
    assert repair_start(**asked, trigger="command").state == "unneeded"
    repair_undo(run=done, actor="test")
    assert not Agent.objects.get(pk=agent.pk).paused
    assert outcome(CHECK, "llm").status == "fail"
    # One that was paused before stays paused.
    agent_pause(agent=agent, actor="test")
    assert repair_start(**asked, trigger="command").state == "unneeded"


def test_failover_refuses_what_cannot_work(model_stub: Any) -> None:
    agent = provider(model_stub.base_url)
    target = f"agent:{agent.pk}"
    with pytest.raises(RepairRefused, match="has no model 'gpt-99'"):
        repair_plan(repair_id=REPAIR, target=target, params={"model": "gpt-99"}, actor="test")
    with pytest.raises(RepairRefused, match="No fallback model is named"):
        repair_plan(repair_id=REPAIR, target=target, params={"action": "fallback"}, actor="test")
    with pytest.raises(RepairRefused, match="there is none called"):
        repair_plan(repair_id=REPAIR, target="service:nobody", actor="test")


def test_a_fallback_that_is_refused_too_is_said(model_stub: Any) -> None:
    agent = provider(model_stub.base_url, fallback_model="gpt-4o", instead={"*": "gpt-4o"})
    sighting_count(service="llm", kind=NO_CREDIT, agent=f"agent:{agent.pk}")
    with pytest.raises(RepairRefused, match="use gpt-4o already"):
        repair_plan(repair_id=REPAIR, target="service:llm", actor="test")


def test_counters_of_the_last_hour_only(model_stub: Any) -> None:
    agent = provider(model_stub.base_url)
    sighting_count(service="llm", kind=NO_CREDIT, agent=f"agent:{agent.pk}")
    Sighting.objects.update(last_at=timezone.now() - timedelta(hours=2))
    assert outcome(CHECK, "llm").status == "pass"


def test_a_real_letta_gives_its_agent_another_model_and_back(stage: Stage, letta: Any, model_stub: Any) -> None:
    made = letta.create_agent("Failover")
    try:
        service = letta_service(letta.url, agents=False, options={"fallback_model": "openai-proxy/gpt-4o"})
        agent = Agent.objects.create(
            service=service, external_id=made["id"], name="Failover", model="openai-proxy/gpt-4o-mini"
        )
        turn = ask(stage, agent, "[error 429] please")
        assert turn.error_code == "backend.rate_limited"
        for _ in range(2):
            stage.hurry()
            stage.run_turns()
        assert Sighting.objects.get().count == 3
        run = outcome(CHECK, "letta")
        assert run.status == "fail", run.sentence
        assert run.fix is not None
        Turn.objects.filter(pk=turn.pk).update(state="cancelled")
        asked = {"repair_id": REPAIR, "target": run.fix.target, "actor": "test"}
        planned = repair_plan(**asked)
        assert [(one.target, one.before, one.after) for one in planned.plan.changes] == [
            (f"agent:{agent.pk}", "openai-proxy/gpt-4o-mini", "openai-proxy/gpt-4o")
        ]
        done = repair_start(**asked, trigger="command")
        assert done.state == "succeeded", done.error
        assert letta._call("GET", f"/v1/agents/{made['id']}")["model"] == "openai-proxy/gpt-4o"
        assert ask(stage, agent, "and now on the other model").state == "done"
        assert [one["model"] for one in model_stub.ledger() if "on the other model" in one["text"]][-1] == "gpt-4o"
        assert repair_start(**asked, trigger="command").state == "unneeded"
        repair_undo(run=done, actor="test")
        assert letta._call("GET", f"/v1/agents/{made['id']}")["model"] == "openai-proxy/gpt-4o-mini"
        with pytest.raises(RepairRefused, match="has no model"):
            repair_plan(**asked, params={"model": "openai-proxy/nonsense"})
    finally:
        letta.delete_agent(made["id"])


def test_a_real_letta_whose_provider_refuses_the_key(stage: Stage, letta: Any) -> None:
    made = letta.create_agent("Refused")
    try:
        service = letta_service(letta.url, agents=False)
        agent = Agent.objects.create(service=service, external_id=made["id"], name="Refused")
        turn = ask(stage, agent, "[error 401] please")
        assert (turn.state, turn.error_code) == ("failed", "backend.provider_refused")
        assert turn.error_public.startswith("The agent's model provider refused its key.")
        run = outcome("letta.provider_401", "letta")
        assert run.status == "fail"
        assert run.evidence["refusals"] == 1
        assert ask(stage, agent, "better now").state == "done"
        assert outcome("letta.provider_401", "letta").status == "pass"
    finally:
        letta.delete_agent(made["id"])


def test_one_agent_of_a_provider_gets_an_entry_of_its_own(model_stub: Any) -> None:
    agent = provider(model_stub.base_url)
    change(agent.service, options={"instead": {"gpt-3": "gpt-4o"}})
    done = repair_start(
        repair_id=REPAIR, target=f"agent:{agent.pk}", params={"model": "gpt-4o"}, actor="test", trigger="command"
    )
    assert Service.objects.get(name="llm").options["instead"] == {"gpt-3": "gpt-4o", "gpt-4o-mini": "gpt-4o"}
    repair_undo(run=done, actor="test")
    assert Service.objects.get(name="llm").options["instead"] == {"gpt-3": "gpt-4o"}
