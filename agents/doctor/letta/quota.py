"""``llm.quota``: a provider limits how often it may be asked, or its credit is used up.

Read from counters that failing turns leave behind (``ops.Sighting``); a turn that goes well writes none.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from agents.models import Agent
from agents.services.troubles import NO_CREDIT, QUOTA_KINDS, RATE_LIMITED, answered_since
from ops.checks import service_targets
from ops.doctor.guides import Guide, GuideStep, register_guide
from ops.models import Service, Sighting
from ops.registry import Affected, CheckOutcome, Fix, register_check
from ops.words import counted, verb

WITHIN = timedelta(hours=1)
LATELY = timedelta(minutes=15)
# So many refusals in a quarter of an hour are no hiccup.
MANY = 3
MOST_ROWS = 5000


def _targets() -> list[str]:
    return service_targets("backend")


@register_check(
    "llm.quota",
    title="Model providers have credit and may be asked",
    tags=["llm", "agents"],
    interval=60,
    severity="error",
    scope="service",
    targets=_targets,
    depends_on=["db.reachable"],
    repairs=["llm.failover"],
)
def quota(target: str) -> CheckOutcome:
    """Red while refusals of the last hour stand that no good answer of the same agent has overtaken."""
    service = Service.objects.filter(name=target, enabled=True).first()
    if service is None:
        return CheckOutcome("skip", "The service is switched off or was removed.")
    now = timezone.now()
    rows = list(
        Sighting.objects.filter(service=service.name, kind__in=QUOTA_KINDS, settled_at=None, last_at__gt=now - WITHIN)[
            :MOST_ROWS
        ]
    )
    if not rows:
        return CheckOutcome("pass", "Nobody was refused for quota within the last hour.")
    standing = _standing(rows)
    total = sum(row.count for row in rows)
    evidence: dict[str, Any] = {
        "refusals_last_hour": total,
        "by_model": dict(Counter({row.label or "(unnamed)": row.count for row in rows}).most_common(10)),
        "sample": rows[0].sample,
    }
    if not standing:
        if total >= 10 * MANY:
            return CheckOutcome(
                "warn",
                f"{counted(total, 'request was', 'requests were')} refused within the last hour; "
                f"{verb(total, 'it was', 'they were')} answered later. Answers are late.",
                evidence,
            )
        return CheckOutcome(
            "pass",
            f"{counted(total, 'request was', 'requests were')} refused within the last hour, and answered later.",
            evidence,
        )
    return _judge(service, standing, evidence, now)


def _standing(rows: list[Sighting]) -> list[Sighting]:
    """Refusals that nothing has overtaken: the agent has not answered since."""
    keys = [int(row.agent.rpartition(":")[2] or 0) for row in rows]
    good = answered_since(sorted(set(keys)), min(row.last_at for row in rows))
    return [row for row, key in zip(rows, keys, strict=True) if not (key in good and good[key] > row.last_at)]


def _judge(service: Service, standing: list[Sighting], evidence: dict[str, Any], now: datetime) -> CheckOutcome:
    agents = sorted({row.agent for row in standing if row.agent})
    affected = tuple(
        Affected(row.agent, _words(row)) for row in {row.agent: row for row in standing if row.agent}.values()
    )
    fallback = str(service.options.get("fallback_model") or "")
    evidence |= {"agents": len(agents), "fallback_model": fallback or "none"}
    offer = (
        f"Switch to {fallback}, or pause them." if fallback else "Pause them, or name a fallback model in the service."
    )
    fix = Fix("llm.failover", f"service:{service.name}")
    who, wait = _who(agents), verb(len(agents), "waits", "wait")
    broke = [row for row in standing if row.kind == NO_CREDIT]
    if broke:
        return CheckOutcome(
            "fail",
            f"The credit at the model provider of {service.name} is used up: {who} cannot answer. Top it up. {offer}",
            {**evidence, "cause": NO_CREDIT},
            affected,
            fix,
        )
    until = max((row.until for row in standing if row.until is not None), default=None)
    lately = sum(row.count for row in standing if row.last_at > now - LATELY)
    evidence["cause"] = RATE_LIMITED
    if until is not None and until > now:
        evidence["until"] = until.isoformat(timespec="seconds")
        return CheckOutcome(
            "fail",
            f"The model provider of {service.name} is rate-limited until {until:%H:%M} UTC: {who} {wait}. {offer}",
            evidence,
            affected,
            fix,
        )
    if lately >= MANY:
        return CheckOutcome(
            "fail",
            f"The model provider of {service.name} refused {counted(lately, 'request')} within a quarter of an hour: {who} {wait}. {offer}",
            evidence,
            affected,
            fix,
        )
    return CheckOutcome(
        "pass",
        f"The model provider of {service.name} refused "
        f"{counted(sum(row.count for row in standing), 'request')}; {verb(sum(row.count for row in standing), 'it is', 'they are')} tried again.",
        evidence,
    )


def _who(agents: list[str]) -> str:
    if len(agents) == 1:
        name = Agent.objects.filter(pk=agents[0].rpartition(":")[2]).values_list("name", flat=True).first()
        return str(name or "an agent")
    return counted(len(agents), "agent") if agents else "its agents"


def _words(row: Sighting) -> str:
    if row.kind == NO_CREDIT:
        return "Its provider's credit is used up."
    return f"Refused {counted(row.count, 'time')} within the hour." + (
        f" Until {row.until:%H:%M} UTC." if row.until else ""
    )


@register_guide("llm.quota")
def guide(target: str, evidence: dict[str, Any]) -> Guide:
    """Where to look at the provider's, and how to be prepared."""
    name = target or "the service"
    return Guide(
        "The model provider's limits",
        str(evidence.get("sample") or "The provider refuses requests: its limit is reached, or its credit is used up."),
        (
            GuideStep("Look at usage and billing in the provider's console, and raise the limit or top up the credit."),
            GuideStep(
                f"Name a fallback model in {name}: Services → {name} → Fallback model. 'Switch model' then moves its agents to it."
            ),
            GuideStep("Messages wait meanwhile, and people are told until when. They are answered by themselves."),
        ),
    )
