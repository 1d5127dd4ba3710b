"""The dashboard: what needs me? One sentence on top, the numbers below it. A constant number of queries, none of which counts
a table that grows with every message."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Min
from django.db.models.functions import TruncHour
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from agents.models import Agent, AgentState, Room, SyncState
from chat.models import Delivery, DeliveryState, Message, Turn, TurnState
from chat.queries import open_turns
from controlplane import admin_site
from ops import html
from ops.admin.issue_cards import address_of_issue, buttons_of, lamp_of
from ops.choices import Lamp
from ops.models import Heartbeat, Issue, Service, ServiceStatus
from ops.registry import get_check
from ops.words import counted

HOURS = 24
ISSUES_SHOWN = 8
_WORKER_CHECKS = {"worker.alive", "broker.reachable", "svc.down", "svc.stack_start"}
SILENT = timedelta(seconds=90)
WIDTH, HEIGHT, FLOOR = 720, 150, 120


@dataclass(frozen=True, slots=True)
class Need:
    """One thing that needs a hand: its lamp, a sentence, and where to act. ``button`` leads to the plan of what mends it."""

    lamp: Lamp
    sentence: str
    address: str
    button: str = ""
    button_address: str = ""
    count: int = 1


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Called by the theme for the first page of the admin."""
    now = timezone.now()
    services = list(Service.objects.order_by("kind", "name").defer("credentials", "options", "capabilities"))
    agents = _agents()
    work = _work(now)
    worker = Heartbeat.objects.order_by("-seen_at").values_list("seen_at", flat=True).first()
    needs = list(_needs(request, services, work, worker, now))
    context |= {
        "title": "Dashboard",
        "needs": sorted(needs, key=lambda need: need.lamp is not Lamp.TROUBLE),
        "headline": _headline(needs, services, agents),
        "headline_lamp": _worst(needs, services),
        "services": [(row, "Off" if not row.enabled else row.get_status_display()) for row in services],
        "agents": agents,
        "rooms": Room.objects.filter(room_id__isnull=False).exclude(kind="space").count(),
        "work": work,
        "dead": admin_site.dead_letters(request),
        "jobs": admin_site.open_jobs(request)[:6],
        "sync": admin_site.last_sync(request),
        "checks": [(row, _check_title(row.check_id)) for row in admin_site.failing_checks(request)[:8]],
        "worker": worker,
        "backups": admin_site.backups_standing(request),
        "chart": _chart(now),
    }
    return context


def _agents() -> dict[str, int]:
    found = {"total": 0, "active": 0, "paused": 0, "missing": 0, "archived": 0}
    for state, paused, count in Agent.objects.order_by().values_list("state", "paused").annotate(count=Count("pk")):
        if state != AgentState.ARCHIVED:
            found["total"] += count
        found["paused" if paused and state == AgentState.ACTIVE else state] += count
    return found


def _work(now: datetime) -> dict[str, Any]:
    """Waiting and running: open rows only, found by partial indexes however many have ended."""
    counts = dict(open_turns().order_by().values_list("state").annotate(count=Count("pk")))
    oldest = Turn.objects.filter(state=TurnState.QUEUED, agent__paused=False).aggregate(at=Min("created_at"))["at"]
    return {
        "waiting": counts.get(TurnState.QUEUED, 0),
        "running": counts.get(TurnState.RUNNING, 0),
        "approval": counts.get(TurnState.WAITING_APPROVAL, 0),
        # One state at a time: each has a partial index of its own.
        "sending": sum(
            Delivery.objects.filter(state=state).count() for state in (DeliveryState.QUEUED, DeliveryState.RUNNING)
        ),
        "oldest": oldest,
        "late": bool(oldest and now - oldest > timedelta(minutes=5)),
    }


def _needs(
    request: HttpRequest, services: list[Service], work: dict[str, Any], worker: datetime | None, now: datetime
) -> Iterable[Need]:
    issues = admin_site.asking(request)
    yield from _issue_needs(issues)
    # What an issue says already is not said twice.
    told = {issue.check_id for issue in issues}
    told_of = {issue.target.removeprefix("service:") for issue in issues if issue.target}
    if not told & _WORKER_CHECKS and (worker is None or now - worker > SILENT):
        since = f"The last sign of life was {html.relative(worker, now)}." if worker else "None has ever reported."
        yield Need(
            Lamp.TROUBLE,
            f"No worker is running: nothing is answered or sent. {since}",
            reverse("admin:ops_checkstate_changelist"),
        )
    for row in services:
        if row.enabled and row.name not in told_of and row.status in {ServiceStatus.DOWN, ServiceStatus.DEGRADED}:
            yield Need(
                row.lamp, f"{row.name}: {row.status_sentence}", reverse("admin:ops_service_change", args=[row.pk])
            )
    turns, deliveries = admin_site.dead_letters(request)
    if (turns or deliveries) and "deliveries.dead_letters" not in told:
        parts = [
            _many(turns, "answer failed", "answers failed"),
            _many(deliveries, "delivery was given up", "deliveries were given up"),
        ]
        yield Need(Lamp.TROUBLE, f"{' and '.join(filter(None, parts))}.", reverse("admin:dead_letters"))
    trouble = admin_site.mappings_in_trouble(request)
    if trouble and not any(check_id.startswith("mapping.") for check_id in told):
        words = _many(
            trouble, "agent has trouble with its account or room", "agents have trouble with their accounts or rooms"
        )
        yield Need(Lamp.TROUBLE, f"{words}.", reverse("admin:agents_mapping_changelist") + "?connection=trouble")
    _, undecided = admin_site.open_drift(request)
    if undecided:
        words = _many(
            undecided,
            "difference between a mapping and the homeserver waits for a decision",
            "differences between mappings and the homeserver wait for a decision",
        )
        yield Need(Lamp.ATTENTION, f"{words}.", reverse("admin:agents_drift_changelist") + "?standing=decide")
    run = admin_site.last_sync(request)
    if "sync.recent" in told:
        pass
    elif run is not None and run.state == SyncState.STOPPED:
        yield Need(
            Lamp.ATTENTION,
            "The last sync stopped and asks before it archives agents.",
            reverse("admin:agents_syncrun_plan"),
        )
    elif run is not None and run.state == SyncState.FAILED:
        yield Need(
            Lamp.ATTENTION, f"The last sync failed: {run.error}", reverse("admin:agents_syncrun_change", args=[run.pk])
        )
    backups = admin_site.backups_standing(request)
    if backups.lamp is Lamp.TROUBLE and "backup.stale" not in told:
        yield Need(Lamp.TROUBLE, backups.sentence, reverse("admin:ops_backup_changelist"))
    if work["late"] and not told & {"turns.moving", "agent.silent"}:
        waited = html.relative(work["oldest"], now)
        yield Need(
            Lamp.ATTENTION,
            f"A message from {waited} is still waiting for an answer.",
            reverse("admin:chat_turn_changelist") + "?state__exact=queued",
        )
    if work["approval"]:
        words = _many(
            work["approval"],
            "turn waits for somebody to approve a tool call",
            "turns wait for somebody to approve a tool call",
        )
        yield Need(
            Lamp.ATTENTION, f"{words}.", reverse("admin:chat_turn_changelist") + "?state__exact=waiting_approval"
        )


def _issue_needs(issues: list[Issue]) -> Iterable[Need]:
    """The worst issues, each with the button that mends it; the rest as one line."""
    for issue in issues[:ISSUES_SHOWN]:
        button = next(iter(buttons_of(issue)), None)
        about = f" ({issue.target})" if issue.target else ""
        yield Need(
            lamp_of(issue),
            f"{_check_title(issue.check_id)}{about}: {issue.sentence}",
            address_of_issue(issue),
            button.label if button is not None else "",
            button.address if button is not None else "",
        )
    more = len(issues) - ISSUES_SHOWN
    if more > 0:
        sentence = f"{_many(more, 'more issue asks', 'more issues ask')} for a hand."
        yield Need(Lamp.ATTENTION, sentence, reverse("admin:ops_issue_changelist"), count=more)


def _headline(needs: list[Need], services: list[Service], agents: dict[str, int]) -> str:
    if needs:
        return f"{_many(sum(need.count for need in needs), 'thing needs', 'things need')} you."
    if not services:
        return "Nothing is connected yet. Add a homeserver and a server with agents."
    if not agents["total"]:
        return "Nothing needs you. No agent has been found yet; the next sync looks again."
    return f"Nothing needs you. {_many(agents['total'], 'agent is', 'agents are')} connected."


def _worst(needs: list[Need], services: list[Service]) -> Lamp:
    if any(need.lamp is Lamp.TROUBLE for need in needs):
        return Lamp.TROUBLE
    return Lamp.ATTENTION if needs or not services else Lamp.GOOD


def _many(count: int, one: str, more: str) -> str:
    return f"{count} {one if count == 1 else more}" if count else ""


def _check_title(check_id: str) -> str:
    known = get_check(check_id)
    return known.title if known else check_id


def _chart(now: datetime) -> dict[str, Any]:
    """Messages and turns of the last 24 hours as bars, in the units of the drawing. Both queries walk an index by time."""
    start = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=HOURS - 1)
    said = _by_hour(Message.objects.filter(stored_at__gte=start), "stored_at")
    ended = Turn.objects.filter(finished_at__gte=start)
    failed = _by_hour(ended.filter(state__in=[TurnState.FAILED, TurnState.TIMED_OUT, TurnState.DEAD]), "finished_at")
    done = _by_hour(ended.filter(state=TurnState.DONE), "finished_at")
    hours = [start + timedelta(hours=number) for number in range(HOURS)]
    top = max([1, *said.values(), *(done.get(hour, 0) + failed.get(hour, 0) for hour in hours)])
    step, bar = WIDTH / HOURS, WIDTH / HOURS * 0.36
    bars = []
    for number, hour in enumerate(hours):
        x = number * step
        counts = said.get(hour, 0), done.get(hour, 0), failed.get(hour, 0)
        sizes = [count / top * (FLOOR - 8) for count in counts]
        bars.append(
            {
                "title": f"{hour:%H}:00 UTC: {counted(counts[0], 'message')}, {counts[1]} answered, {counts[2]} failed",
                "x": round(x + 3, 1),
                "x2": round(x + 3 + bar + 1, 1),
                "said": (round(FLOOR - sizes[0], 1), round(sizes[0], 1)),
                "done": (round(FLOOR - sizes[1], 1), round(sizes[1], 1)),
                "failed": (round(FLOOR - sizes[1] - sizes[2], 1), round(sizes[2], 1)),
                "label": f"{hour:%H}" if number % 3 == 0 else "",
            }
        )
    return {
        "bars": bars,
        "bar": round(bar, 1),
        "width": WIDTH,
        "height": HEIGHT,
        "floor": FLOOR,
        "top": top,
        "said": sum(said.values()),
        "done": sum(done.values()),
        "failed": sum(failed.values()),
    }


def _by_hour(rows: Any, field: str) -> dict[datetime, int]:
    return dict(rows.order_by().values_list(TruncHour(field)).annotate(count=Count("pk")))
