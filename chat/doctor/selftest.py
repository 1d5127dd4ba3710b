"""``routing.selftest``: do agents answer in their own rooms, as themselves? Asked for real, and only when somebody wants to know."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.db.models import F, Max
from django.utils import timezone

from agents.doctor.mappings.relink import wrong_addresses
from agents.models import Agent, AgentState
from chat.doctor.silence import diagnose
from chat.services.selftest import WAIT_SECONDS, Canary, selftest_run
from ops.doctor.repairs import Change, Plan, RepairFailed, RepairRefused, RepairWork, register_repair
from ops.models import CheckState, CheckStatus, RepairRun, RepairRunState
from ops.registry import Affected, CheckOutcome, Fix, register_check
from ops.runner import run_checks
from ops.words import counted, verb

# So many agents are asked unless somebody names them: the latest of each server first.
SELECTED = 3
MOST = 25
CHECK = "routing.selftest"
# A good report is not asked for again so soon.
GOOD_FOR = timedelta(minutes=10)


def selected(most: int = SELECTED) -> Sequence[Agent]:
    """Agents to ask: of each server the one that was talked to last, then further ones. Paused agents are left in peace."""
    rows = (
        Agent.objects.filter(state=AgentState.ACTIVE, paused=False, service__enabled=True, mapping__room__room_id__isnull=False)
        .annotate(last=Max("participations__conversation__last_message_at"))
        .order_by(F("last").desc(nulls_last=True), "pk")
        .select_related("service", "mapping__account", "mapping__room")[: MOST * 4]
    )  # fmt: skip
    first: dict[int, Agent] = {}
    for agent in rows:
        first.setdefault(agent.service_id, agent)
    # Agents whose rows are mixed up are asked first: of them something is known already.
    mixed = set(wrong_addresses().values_list("agent_id", flat=True)[:MOST])
    ordered = sorted(rows, key=lambda agent: (agent.pk not in mixed, agent is not first[agent.service_id]))
    return ordered[: max(most, len(first))][:MOST]


@register_check(
    CHECK,
    title="Agents answer in their own rooms, as themselves",
    tags=["routing", "agents", "messages"],
    interval=86_400,
    severity="info",
    timeout=WAIT_SECONDS + 30,
    depends_on=["db.reachable", "worker.alive"],
    repairs=["selftest.routing"],
    live=True,
)
def routing_selftest() -> CheckOutcome:
    """Sends a canary to a few agents and measures routing, identity and latency. Runs only when it is asked for: it says something."""
    agents = selected()
    if not agents:
        return CheckOutcome("skip", "No agent has a room yet.")
    return outcome(selftest_run(agents=agents, actor="system"))


def outcome(canaries: list[Canary]) -> CheckOutcome:
    """The report as a check's outcome; it is stored with the check's state."""
    report = {
        "agents": [one.to_dict() for one in canaries],
        "passed": sum(one.ok for one in canaries),
        "slowest_ms": max((one.latency_ms or 0 for one in canaries), default=0),
    }
    bad = [one for one in canaries if not one.ok]
    if not bad:
        return CheckOutcome(
            "pass",
            f"{_all_of(len(canaries))}, the slowest after {report['slowest_ms']} ms.",
            report,
        )
    return CheckOutcome(
        "fail",
        f"{len(bad)} of {counted(len(canaries), 'agent')} did not pass the self-test. {bad[0].name}: {bad[0].problem}",
        report,
        affected=tuple(Affected(f"agent:{one.agent}", f"{one.name}: {one.problem}", one.to_dict()) for one in bad),
        fix=_fix(bad),
    )


def _all_of(count: int) -> str:
    many = f"All {count:,} agents that were asked answered as themselves"
    return verb(count, "The one agent that was asked answered as itself", many)


def _fix(bad: list[Canary]) -> Fix:
    """The repair of the first agent's red hop; where none is known, asking again."""
    for one in bad:
        if wrong_addresses().filter(agent_id=one.agent).exists():
            return Fix("mapping.relink", f"agent:{one.agent}")
        agent = Agent.objects.filter(pk=one.agent).first()
        offer = diagnose(agent).offer if agent is not None else None
        if offer is not None:
            return Fix(offer.repair.id, offer.target, dict(offer.params))
    return Fix("selftest.routing")


def plan(work: RepairWork) -> Plan:
    """Which agents would be asked; none when the last report is good and nobody named any."""
    named = _named(work)
    if work.target and not named:
        raise RepairRefused(f"{work.target} is no agent that can be asked.")
    if _passed_lately(work.target):
        return Plan(f"The last self-test passed less than {GOOD_FOR.seconds // 60} minutes ago.")
    agents: Sequence[Agent] = named or selected()
    return Plan(
        f"{counted(len(agents), 'agent is', 'agents are')} asked one short question in {verb(len(agents), 'its own room', 'their own rooms')}."
        if agents
        else "No agent has a room yet.",
        tuple(Change(f"agent:{agent.pk}", "question in its room", None, "a self-test") for agent in agents),
        {"agents": [agent.pk for agent in agents], "named": bool(named)},
    )


def _named(work: RepairWork) -> list[Agent]:
    kind, _, key = work.target.partition(":")
    if kind != "agent" or not key.isdigit():
        return []
    rows = Agent.objects.filter(pk=int(key)).exclude(state=AgentState.ARCHIVED)
    return list(rows.select_related("service", "mapping__account", "mapping__room"))


def _passed_lately(target: str) -> bool:
    """Whether the newest report is a good and fresh one: of everything the check's, of one agent that of its last run."""
    since = timezone.now() - GOOD_FOR
    if target:
        runs = RepairRun.objects.filter(repair_id="selftest.routing", target=target, finished_at__gt=since)
        last = runs.exclude(state=RepairRunState.UNNEEDED).order_by("-created_at").values_list("state", flat=True)
        return last.first() in (RepairRunState.SUCCEEDED, RepairRunState.UNPROVEN)
    return CheckState.objects.filter(check_id=CHECK, status=CheckStatus.PASS, checked_at__gt=since).exists()


def apply(work: RepairWork) -> dict[str, Any]:
    """Ask, wait, report. The report of everything is the check's own; that of one agent stands in the receipt."""
    if not work.plan.data["named"]:
        run = next(iter(run_checks([CHECK])), None)
        if run is None or run.status not in (CheckStatus.PASS, CheckStatus.SKIP):
            raise RepairFailed(run.sentence if run is not None else "The self-test did not run.")
        return {"report": run.evidence}
    agents = list(
        Agent.objects.filter(pk__in=work.plan.data["agents"]).select_related(
            "service", "mapping__account", "mapping__room"
        )
    )
    found = outcome(selftest_run(agents=agents, actor=work.actor, progress=work.progress))
    if found.status == "fail":
        raise RepairFailed(found.sentence)
    return {"report": found.evidence}


register_repair(
    "selftest.routing",
    title="Run the routing self-test",
    repair_class="A",
    button="Run the self-test",
    explain="Asks a few agents one short question in their own rooms and looks whether the right one answers, from its own account, "
    "and how fast. People in these rooms see question and answer. The report is kept.",
    plan=plan,
    apply=apply,
    target_kinds=("agent",),
    long=True,
)
