"""The parts of an answer's time, from rows that are there anyway. Three queries for however many agents.

A turn has: *queue* (said until a worker took it up, failed attempts included), *first word* (asked until the first word: network,
server and model, less its tools), *tools*, *writing* (first word until the end, less tools that came later), *sending* (end until
it stood in the room). Connecting is not in the turn's row: connections are kept open, and the service's own latency tells what
one costs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Max
from django.utils import timezone

from chat.models import Delivery, DeliveryState, Turn, TurnState
from ops.models import RepairRun, RepairRunState

WINDOW = timedelta(hours=1)
MOST_TURNS = 20_000
OF_EACH_AGENT = 30
PARTS = ("queue", "first_word", "tools", "writing", "sending")


@dataclass(slots=True)
class Answered:
    """One finished turn. Times in milliseconds; ``waited`` is what the person waited for the first word."""

    pk: int
    agent: int
    queue: float
    first_word: float
    writing: float
    waited: float
    tokens: int | None
    tools: float = 0.0
    sending: float = 0.0


@dataclass(slots=True)
class AgentTimes:
    """The last answers of one agent, newest first."""

    agent: int
    answers: list[Answered] = field(default_factory=list)

    def percentile(self, part: str, share: float) -> float:
        """The value that ``share`` of the answers do not exceed (nearest rank)."""
        values = sorted(getattr(one, part) for one in self.answers)
        return float(values[min(len(values) - 1, max(0, round(share * len(values) + 0.5) - 1))]) if values else 0.0

    def dominant(self) -> str:
        """The part that takes most of the time, on the whole."""
        return max(PARTS, key=lambda part: sum(getattr(one, part) for one in self.answers))

    def tokens_per_second(self) -> float | None:
        """Over all answers that say how many tokens they have; None when none does."""
        told = [one for one in self.answers if one.tokens and one.writing > 0]
        seconds = sum(one.writing for one in told) / 1000
        return round(sum(one.tokens or 0 for one in told) / seconds, 1) if seconds else None

    def to_dict(self) -> dict[str, Any]:
        """JSON shape: ``{answers, waited_ms: {p50, p95}, <part>_ms: {p50, p95}…, tokens_per_second, dominant}``."""
        found: dict[str, Any] = {"answers": len(self.answers), "dominant": self.dominant()}
        for part in ("waited", *PARTS):
            found[f"{part}_ms"] = {
                "p50": round(self.percentile(part, 0.5)),
                "p95": round(self.percentile(part, 0.95)),
            }
        found["tokens_per_second"] = self.tokens_per_second()
        return found


def agent_times(*, since: datetime | None = None, agents: Sequence[int] = ()) -> dict[int, AgentTimes]:
    """The latest answers by agent: one query. Answers to what was said before the agent's last failover do not count.

    ``tools`` and ``sending`` are filled in by ``complete`` for those of interest.
    """
    rows = Turn.objects.filter(
        state=TurnState.DONE, finished_at__gt=since or timezone.now() - WINDOW, started_at__isnull=False
    )
    if agents:
        rows = rows.filter(agent_id__in=list(agents))
    of_agents, of_services = _moved()
    found: dict[int, AgentTimes] = {}
    columns = (
        *("pk", "agent_id", "agent__service__name", "created_at", "started_at", "first_token_at", "finished_at"),
        "output_tokens",
    )
    for pk, agent, service, created, started, first, finished, tokens in (
        rows.order_by("-finished_at").values_list(*columns)[:MOST_TURNS].iterator(chunk_size=2000)
    ):
        times = found.setdefault(agent, AgentTimes(agent))
        moved = max(filter(None, (of_agents.get(agent), of_services.get(service))), default=None)
        if len(times.answers) >= OF_EACH_AGENT or (moved is not None and created < moved):
            continue
        first = first or finished
        times.answers.append(
            Answered(
                pk,
                agent,
                queue=_ms(created, started),
                first_word=_ms(started, first),
                writing=_ms(first, finished),
                waited=_ms(created, first),
                tokens=tokens,
            )
        )
    return {agent: times for agent, times in found.items() if times.answers}


def complete(several: Iterable[AgentTimes]) -> None:
    """Fill in tools and sending: two queries."""
    answers = {one.pk: one for times in several for one in times.answers}
    if not answers:
        return
    sent = (
        Delivery.objects.filter(turn_id__in=list(answers), state=DeliveryState.SENT, notice=False)
        .order_by()
        .values_list("turn_id", "turn__finished_at")
        .annotate(at=Max("sent_at"))
    )
    for pk, finished, at in sent:
        if at is not None and finished is not None:
            answers[pk].sending = _ms(finished, at)
    replies = Turn.objects.filter(pk__in=list(answers)).exclude(reply__parts=[]).values_list("pk", "reply__parts")
    for pk, parts in replies.iterator(chunk_size=500):
        one = answers[pk]
        spoke = False
        for part in parts or []:
            if not isinstance(part, dict):
                continue
            spoke = spoke or part.get("type") == "text"
            if part.get("type") == "tool_result" and isinstance(part.get("ms"), int | float):
                one.tools += part["ms"]
                # A tool's time is part of the wait before the first word, or of the writing after it.
                place = "writing" if spoke else "first_word"
                setattr(one, place, max(0.0, getattr(one, place) - part["ms"]))


def _moved() -> tuple[dict[int, datetime], dict[str, datetime]]:
    """When agents, and whole services, were last given another model by a repair that still stands."""
    runs = RepairRun.objects.filter(
        repair_id="llm.failover",
        state__in=[RepairRunState.RUNNING, RepairRunState.SUCCEEDED, RepairRunState.UNPROVEN],
        started_at__gt=timezone.now() - WINDOW,
    ).values_list("started_at", "changes")
    agents: dict[int, datetime] = {}
    services: dict[str, datetime] = {}
    for at, changes in runs:
        if at is None:
            continue
        for change in changes or []:
            if not str(change.get("what", "")).startswith("model"):
                continue  # pausing makes nobody quicker
            kind, _, key = str(change.get("target", "")).partition(":")
            if kind == "agent" and key.isdigit():
                agents[int(key)] = max(at, agents.get(int(key)) or at)
            elif kind == "service":
                services[key] = max(at, services.get(key) or at)
    return agents, services


def _ms(start: datetime, end: datetime) -> float:
    return max(0.0, (end - start).total_seconds() * 1000)
