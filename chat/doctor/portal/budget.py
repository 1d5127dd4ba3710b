"""``llm.budget``: what an agent may use in a day is used up, and people are told to wait. ``quota.raise`` gives it more."""

from __future__ import annotations

from datetime import UTC, datetime, time
from typing import Any

from django.db.models import Count

from agents.models import Agent, AgentState
from chat.models import Message, Quota, UsageDay
from chat.quota_figures import Standing, standings
from chat.services.quotas import quota_set
from chat.usage_figures import today
from ops.doctor.faults import FaultRefused, register_fault
from ops.doctor.repairs import Change, Plan, RepairRefused, RepairWork, register_repair
from ops.registry import Affected, CheckOutcome, Fix, ServiceField, register_check
from ops.words import counted

GUARD = "quota"
# From here on an operator may want to know before people do.
NEARLY = 0.9
_MOST = 500


def _agents() -> list[tuple[Quota, Standing]]:
    """Limits of agents with what is used of each today, the fullest first; two queries."""
    quotas = list(
        Quota.objects.filter(agent__isnull=False)
        .exclude(agent__state=AgentState.ARCHIVED)
        .select_related("agent")[:_MOST]
    )
    found = standings(quotas)
    rows = [(quota, one) for quota in quotas for one in found[quota.pk] if one.limit is not None]
    return sorted(rows, key=lambda row: -row[1].share)


@register_check(
    "llm.budget",
    title="Agents have something left of their day's budget",
    tags=("llm", "agents", "portal"),
    interval=120,
    severity="warning",
    depends_on=("db.reachable",),
    repairs=("quota.raise",),
    covers=("llm.quota",),
)
def budget() -> CheckOutcome:
    """Amber for agents whose own limit of the day is used up; how many messages were held back for a limit today stands with it."""
    rows = _agents()
    begin = datetime.combine(today(), time.min, tzinfo=UTC)
    held = Message.objects.filter(guard__startswith=GUARD, stored_at__gte=begin).aggregate(n=Count("pk"))["n"]
    full = [(quota, one) for quota, one in rows if one.is_full]
    nearly = [(quota, one) for quota, one in rows if not one.is_full and one.share >= NEARLY]
    evidence: dict[str, Any] = {
        "agents": [{"agent": str(quota.agent), **one.to_dict()} for quota, one in (full + nearly)[:20]],
        "held_back_today": held,
    }
    if not full:
        more = f" {nearly[0][0].agent} is near its limit." if nearly else ""
        return CheckOutcome(
            "pass",
            f"No agent's budget is used up; {counted(held, 'message was', 'messages were')} held back for a limit today.{more}",
            evidence,
        )
    quota, one = full[0]
    more = (
        f" So it is with {len({row.pk for row, _ in full}) - 1} more." if len({row.pk for row, _ in full}) > 1 else ""
    )
    return CheckOutcome(
        "warn",
        f"{quota.agent} has used {one.used:,} of {one.limit:,} {one.what} today: whoever writes to it is told to wait until midnight UTC.{more} "
        f"{counted(held, 'message was', 'messages were')} held back for a limit today.",
        evidence,
        tuple(
            Affected(f"agent:{row.agent_id}", f"{row.agent}: {found.used:,} of {found.limit:,} {found.what}.")
            for row, found in full
        ),
        Fix("quota.raise", f"agent:{quota.agent_id}" if not more else ""),
    )


def plan(work: RepairWork) -> Plan:
    """Limits that are used up get room for as much again, or the number that was given."""
    percent = str(work.params.get("percent") or 100)
    if not percent.isdigit() or not 1 <= int(percent) <= 1000:
        raise RepairRefused("Give percent as a whole number from 1 to 1000.")
    kind, _, key = work.target.partition(":")
    if work.target and (kind != "agent" or not key.isdigit()):
        raise RepairRefused("Name an agent: agent:ID.")
    steps: dict[int, dict[str, Any]] = {}
    changes = []
    for quota, one in _agents():
        if not one.is_full or (work.target and quota.agent_id != int(key)):
            continue
        fresh = max(int(one.limit or 0), int(one.used or 0)) * (100 + int(percent)) // 100 + 1
        name = f"{one.what}_per_day"
        steps.setdefault(quota.pk, {})[name] = fresh
        changes.append(Change(f"agent:{quota.agent_id}", f"{one.what} a day", one.limit, fresh))
    kept = {
        str(quota.pk): {"messages_per_day": quota.messages_per_day, "tokens_per_day": quota.tokens_per_day}
        for quota in Quota.objects.filter(pk__in=steps)
    }
    return Plan(
        f"{counted(len(steps), 'agent has', 'agents have')} more for today and every day after."
        if steps
        else "No agent's budget is used up.",
        tuple(changes),
        {"steps": {str(pk): values for pk, values in steps.items()}},
        {"quotas": kept},
    )


def apply(work: RepairWork) -> dict[str, Any]:
    """As the page of quotas does."""
    for key, values in work.plan.data["steps"].items():
        _save(int(key), values, work.actor)
    return {"quotas": len(work.plan.data["steps"])}


def undo(work: RepairWork) -> None:
    """The limits of before."""
    for key, values in work.snapshot["quotas"].items():
        _save(int(key), values, work.actor)


def _save(pk: int, values: dict[str, Any], actor: str) -> None:
    quota = Quota.objects.select_related("agent").filter(pk=pk).first()
    if quota is None or quota.agent is None:
        return
    limits = {"messages_per_day": quota.messages_per_day, "tokens_per_day": quota.tokens_per_day} | values
    quota_set(agent=quota.agent, actor=actor, **limits)


register_repair(
    "quota.raise",
    title="Give an agent a larger budget",
    repair_class="C",
    button="Give it more",
    explain="Raises the agent's own limit of the day by a share of what is used now. Limits of people and roles stay as they are.",
    plan=plan,
    apply=apply,
    undo=undo,
    fields=(ServiceField("percent", "Percent more", kind="number", default=100),),
    target_kinds=("agent",),
)


def _use_up() -> dict[str, Any]:
    """An agent's limit is set below what was used today."""
    agent = Agent.objects.exclude(state=AgentState.ARCHIVED).filter(quota__isnull=True).order_by("pk").first()
    if agent is None:
        raise FaultRefused("There is no agent without a limit of its own.")
    row, made = UsageDay.objects.get_or_create(day=today(), person=None, agent=agent, defaults={"output_tokens": 500})
    used = UsageDay.objects.filter(day=today(), agent=agent).values_list("input_tokens", "output_tokens")
    total = sum(read + written for read, written in used)
    if not total:
        raise FaultRefused(f"{agent} has used nothing today.")
    Quota.objects.create(agent=agent, tokens_per_day=max(1, total // 2))
    return {"agent": agent.pk, "row": row.pk if made else None}


def _forget(memory: dict[str, Any]) -> None:
    Quota.objects.filter(agent=memory["agent"]).delete()
    if memory["row"]:
        UsageDay.objects.filter(pk=memory["row"]).delete()


register_fault(
    "llm.budget",
    title="An agent's budget of the day is used up",
    cause=_use_up,
    heal=_forget,
    evidence=("agents", "held_back_today"),
)
