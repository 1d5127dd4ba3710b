"""``llm.slow``: people wait long for the first word; which part of the way takes the time?"""

from __future__ import annotations

from collections import Counter
from typing import Any

from agents.models import Agent
from agents.services.models import can_change_models
from chat.doctor.slow.parts import PARTS, AgentTimes, agent_times, complete
from ops.doctor.guides import Guide, GuideStep, register_guide
from ops.live import live, register_live
from ops.models import Service
from ops.registry import Affected, CheckOutcome, Fix, register_check
from ops.words import counted

SLOW_SECONDS = "SLOW_ANSWER_SECONDS"
# Fewer answers say nothing about how an agent usually is.
FEWEST = 3
SHOWN = 20
MOST_AT_ONCE = 500

WORDS = {
    "queue": "waiting for a worker or for the agent's earlier answer",
    "first_word": "the model or its server before the first word",
    "tools": "the agent's tools",
    "writing": "the model's writing",
    "sending": "sending to the room",
}
_MODEL = ("first_word", "writing")


def _seconds(value: Any) -> float:
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        raise ValueError("Give a number of seconds.") from None
    if not 0.1 <= seconds <= 3600:
        raise ValueError("Give between 0.1 and 3600 seconds.")
    return seconds


register_live(
    SLOW_SECONDS,
    label="Seconds until the first word",
    help="An agent whose answers take longer than this to begin (95 of 100) is reported as slow.",
    parse=_seconds,
    default=lambda: 15.0,
)


@register_check(
    "llm.slow",
    title="Agents answer without delay",
    tags=["llm", "agents", "messages"],
    interval=120,
    severity="warning",
    timeout=20,
    depends_on=["db.reachable", "turns.moving"],
    opens_after=2,
    repairs=["llm.failover"],
)
def slow() -> CheckOutcome:
    """A warning while the first word of 95 % of an agent's latest answers takes longer than the target. Reads rows only: four
    queries and at most 20,000 turns, however many agents there are.
    """
    target = float(live(SLOW_SECONDS))
    times = agent_times()
    slow_ones = [
        one for one in times.values() if len(one.answers) >= FEWEST and one.percentile("waited", 0.95) > target * 1000
    ]
    evidence: dict[str, Any] = {"target_seconds": target, "agents": len(times)}
    if not slow_ones:
        count = sum(len(one.answers) for one in times.values())
        return CheckOutcome(
            "pass",
            f"{counted(count, 'answer')} of {counted(len(times), 'agent')} within the last hour began in time.",
            evidence,
        )
    complete(slow_ones)
    slow_ones.sort(key=lambda one: -one.percentile("waited", 0.95))
    dominant = Counter(one.dominant() for one in slow_ones).most_common(1)[0][0]
    rows = {
        row.pk: row
        for row in Agent.objects.filter(pk__in=[one.agent for one in slow_ones[:MOST_AT_ONCE]]).select_related(
            "service"
        )
    }
    evidence |= {
        "slow": len(slow_ones),
        "dominant": dominant,
        "slowest": [{"agent": f"agent:{one.agent}", **one.to_dict()} for one in slow_ones[:SHOWN] if one.agent in rows],
        "connect_ms": {row.service.name: row.service.latency_ms for row in rows.values()},
    }
    worst = slow_ones[0]
    name = rows[worst.agent].name if worst.agent in rows else "An agent"
    more = "" if len(slow_ones) == 1 else f" ({len(slow_ones)} agents are slow)"
    return CheckOutcome(
        "warn",
        f"{name} begins to answer after {worst.percentile('waited', 0.5) / 1000:.1f} s (95 of 100 answers within "
        f"{worst.percentile('waited', 0.95) / 1000:.1f} s){more}. Most of the time goes into {WORDS[dominant]}. {_advice(dominant)}",
        evidence,
        tuple(Affected(f"agent:{one.agent}", _sentence(one)) for one in slow_ones),
        _fix(dominant, slow_ones, rows),
    )


def _sentence(times: AgentTimes) -> str:
    parts = ", ".join(
        f"{part.replace('_', ' ')} {times.percentile(part, 0.5) / 1000:.1f} s"
        for part in PARTS
        if times.percentile(part, 0.5) >= 100
    )
    rate = times.tokens_per_second()
    return f"Half of its answers: {parts or 'no part stands out'}" + (f"; {rate:g} tokens/s." if rate else ".")


def _advice(dominant: str) -> str:
    return {
        "queue": "More workers help, or fewer people at one agent.",
        "first_word": "A faster model helps.",
        "writing": "A faster model helps.",
        "tools": "Look at what its tools wait for.",
        "sending": "Look at the homeserver.",
    }[dominant]


def _fix(dominant: str, slow_ones: list[AgentTimes], rows: dict[int, Agent]) -> Fix | None:
    """Another model, where the model is what takes the time and the service names one to fall back to."""
    if dominant not in _MODEL:
        return None
    for one in slow_ones:
        row = rows.get(one.agent)
        if row is not None and row.service.options.get("fallback_model") and can_change_models(row.service):
            service = row.service_id
            same = [other.agent for other in slow_ones if getattr(rows.get(other.agent), "service_id", None) == service]
            return Fix(
                "llm.failover",
                f"service:{row.service.name}",
                {"agents": [f"agent:{key}" for key in same[:MOST_AT_ONCE]]},
            )
    return None


@register_guide("llm.slow")
def guide(target: str, evidence: dict[str, Any]) -> Guide:
    """What to do about the part that takes the time."""
    dominant = str(evidence.get("dominant") or "first_word")
    services = sorted(str(name) for name in evidence.get("connect_ms") or {})
    name = (
        services[0]
        if services
        else Service.objects.exclude(kind="homeserver").values_list("name", flat=True).first() or "letta"
    )
    steps = {
        "queue": (
            GuideStep(
                "Give the worker more threads, or start another worker.",
                "WORKER_CONCURRENCY=96",
                "ini",
                ".env of the worker",
            ),
            GuideStep(
                "An agent that keeps its history answers one message after the other: give busy rooms agents of their own."
            ),
        ),
        "tools": (
            GuideStep("Open a slow answer: each tool call shows how long it took. Look at what that tool waits for."),
        ),
        "sending": (
            GuideStep(
                "Ask the homeserver how long it takes.", "python manage.py doctor homeserver.reachable --format json"
            ),
        ),
    }.get(
        dominant,
        (
            GuideStep(
                f"Name a faster model in {name} (Services → {name} → Fallback model), then press 'Switch model'."
            ),
            GuideStep("Or ask the provider's status page whether it is slow for everybody."),
        ),
    )
    return Guide(
        "Where the time goes",
        f"Most of the time goes into {WORDS.get(dominant, dominant)}. The evidence shows each part for the slowest agents.",
        steps,
    )
