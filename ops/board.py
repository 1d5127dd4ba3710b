"""The status board: checks grouped into the parts that an operator knows, each with its state, its history and what hangs on it.

A constant number of queries, however many checks, agents or months there are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db.models import Q
from django.utils import timezone

from ops import uptime
from ops.choices import CheckStatus, IssueState, Lamp
from ops.models import CheckResult, CheckState, Issue, Process, Service
from ops.registry import all_checks, get_check, service_kind
from ops.uptime import WINDOWS, Slot, Window

# Tags in order of precedence: the first that a check has decides where it belongs.
AREAS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("models", "Backends and models", ("letta", "llm", "models", "backend")),
    ("messages", "Message path", ("messages", "turns", "deliveries")),
    ("rooms", "Agents, accounts and rooms", ("agents", "mapping", "mappings", "rooms", "accounts", "sync")),
    ("matrix", "Matrix connection", ("matrix",)),
    ("logs", "Logs and alerts", ("logs", "alerts", "support", "debug")),
    ("database", "Database", ("database",)),
    ("broker", "Broker", ("broker",)),
    ("workers", "Workers and processes", ("worker", "workers", "process", "processes", "beat", "stack")),
    ("api", "API", ("api", "mcp")),
    ("storage", "Disk and data", ("disk", "data", "resources")),
    ("network", "Network and addresses", ("network",)),
    ("config", "Configuration", ("config", "start")),
)
# How they stand on the board while all of them are well.
_DISPLAYED = (
    *("messages", "rooms", "matrix", "models", "database", "broker", "workers", "api", "network", "storage", "config"),
    "logs",
)
OTHER = ("other", "Everything else")
SPARK_POINTS = 36
SPARK_HOURS = 6
MOST_SPARKS = 6000
MOST_ISSUES = 1000
ENDED_SHOWN = timedelta(hours=24)
SILENT, DEAD = timedelta(seconds=30), timedelta(seconds=60)


@dataclass(slots=True)
class Component:
    """One part of the installation. ``shares`` are parts of 1 without trouble by window (24h, 7d, 30d), None: not asked."""

    key: str
    title: str
    kind: str = ""
    states: list[CheckState] = field(default_factory=list)
    service: Service | None = None
    lamp: Lamp = Lamp.OFF
    word: str = ""
    sentence: str = ""
    since: datetime | None = None
    latency: list[int] = field(default_factory=list)
    slots: list[Slot] = field(default_factory=list)
    shares: dict[str, float | None] = field(default_factory=dict)
    issues: list[Issue] = field(default_factory=list)
    last: Issue | None = None
    blocks: list[str] = field(default_factory=list)
    blocked_by: list[str] = field(default_factory=list)
    needs: list[str] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        """How many checks have which status."""
        found: dict[str, int] = {}
        for state in self.states:
            found[state.status] = found.get(state.status, 0) + 1
        return found


@dataclass(frozen=True, slots=True)
class Board:
    """All components, worst first, and the processes."""

    components: list[Component]
    window: Window
    processes: list[tuple[Process, Lamp, str]]
    checked_at: datetime | None


def window_of(key: str | None) -> Window:
    """The window with this key, the shortest when there is none."""
    return next((one for one in WINDOWS if one.key == key), WINDOWS[0])


def board(window: Window = WINDOWS[0]) -> Board:
    """Everything that the page shows."""
    known = components()
    past = uptime.history()
    for one in known:
        spans = past.spans((state.check_id, state.target) for state in one.states)
        one.slots = uptime.slots_of(spans, window, past.end)
        one.shares = {each.key: uptime.share_of(spans, each.length, past.end) for each in WINDOWS}
    _latencies(known)
    return Board(
        components=known,
        window=window,
        processes=processes(),
        checked_at=max((state.checked_at for one in known for state in one.states), default=None),
    )


def components() -> list[Component]:
    """The components with their state, their issues and their dependencies; without history. Worst first."""
    services = {row.name: row for row in Service.objects.defer("credentials", "options", "capabilities")}
    found: dict[str, Component] = {}
    place_of: dict[uptime.Place, Component] = {}
    for state in CheckState.objects.defer("evidence").order_by("check_id", "target"):
        component = _component(state.check_id, state.target, services, found)
        component.states.append(state)
        place_of[state.check_id, state.target] = component
    for service in services.values():
        _of_service(service, found)
    _dependencies(found, place_of)
    for component in found.values():
        _settle(component)
    _issues(found, services)
    order = [Lamp.TROUBLE, Lamp.ATTENTION, Lamp.WORKING, Lamp.GOOD, Lamp.OFF]
    ranks = {key: rank for rank, key in enumerate(found_order(found))}
    return sorted(found.values(), key=lambda one: (order.index(one.lamp), ranks[one.key]))


def component_key(check_id: str, target: str, tags: Iterable[str] = ()) -> str:
    """Where a check's outcome belongs: ``service:<name>`` for checks of one service, else the key of an area."""
    check = get_check(check_id)
    if check is not None and check.scope == "service" and target:
        return f"service:{target.removeprefix('service:')}"
    mine = set(tags or (check.tags if check is not None else ()))
    for key, _, words in AREAS:
        if mine & set(words):
            return key
    return OTHER[0]


def title_of(key: str) -> str:
    """The words for an area's key; the name of a service."""
    if key.startswith("service:"):
        return key.partition(":")[2]
    return next((title for one, title, _ in AREAS if one == key), OTHER[1])


def found_order(found: Iterable[str]) -> list[str]:
    """Services first, then the areas as they are listed."""
    listed = [*_DISPLAYED, OTHER[0]]
    keys = list(found)
    return sorted(key for key in keys if key not in listed) + [key for key in listed if key in keys]


def processes(now: datetime | None = None) -> list[tuple[Process, Lamp, str]]:
    """Processes that run or ended lately, each with its lamp and a word, running ones first."""
    moment = now or timezone.now()
    rows = Process.objects.filter(Q(ended_at=None) | Q(ended_at__gt=moment - ENDED_SHOWN)).defer(
        "settings_seen", "reach", "samples"
    )
    found = [(row, *_process_state(row, moment)) for row in rows[:200]]
    return sorted(found, key=lambda one: (one[0].ended_at is not None, one[0].role, one[0].started_at))


def _process_state(row: Process, now: datetime) -> tuple[Lamp, str]:
    if row.ended_at is not None:
        return Lamp.OFF, "Ended"
    silent = now - row.seen_at
    if silent > DEAD:
        return Lamp.TROUBLE, "Silent"
    if silent > SILENT:
        return Lamp.ATTENTION, "Late"
    return (Lamp.WORKING, "Finishing its work") if row.drain_requested_at else (Lamp.GOOD, "Running")


def _component(check_id: str, target: str, services: dict[str, Service], found: dict[str, Component]) -> Component:
    key = component_key(check_id, target)
    if key.startswith("service:"):
        service = services.get(key.partition(":")[2])
        if service is not None:
            return _of_service(service, found)
    return found.setdefault(key, Component(key, title_of(key)))


def _of_service(service: Service, found: dict[str, Component]) -> Component:
    key = f"service:{service.name}"
    if key not in found:
        kind = service_kind(service.kind)
        found[key] = Component(key, service.name, kind.label if kind else service.kind, service=service)
    return found[key]


def _settle(one: Component) -> None:
    """State, word and sentence from the checks."""
    levels = [(uptime.level_of(state.check_id, state.status), state) for state in one.states]
    worst = max((level for level, _ in levels if level is not None), default=None)
    blocked = [state for state in one.states if state.status == CheckStatus.BLOCKED]
    if one.service is not None and not one.service.enabled:
        one.lamp, one.word, one.sentence = Lamp.OFF, "Switched off", "An operator switched it off."
    elif worst is None and not blocked:
        one.lamp, one.word = Lamp.OFF, "Not asked"
        one.sentence = "No check has anything to say about it yet." if not one.states else "There is nothing to check."
    elif worst in (1, 2):
        one.lamp, one.word = (Lamp.TROUBLE, "Trouble") if worst == 2 else (Lamp.ATTENTION, "Needs attention")
        bad = [state for level, state in levels if level == worst]
        one.sentence, one.since = bad[0].sentence, min(state.since for state in bad)
    elif blocked:
        one.lamp, one.word = Lamp.ATTENTION, "Blocked"
        one.sentence, one.since = "It cannot be judged while what it needs is broken.", min(s.since for s in blocked)
    else:
        one.lamp, one.word = Lamp.GOOD, "Well"
        one.since = max((state.since for level, state in levels if level == 0), default=None)
        one.sentence = _well(one)


def _well(one: Component) -> str:
    asked = [state for state in one.states if state.status == CheckStatus.PASS]
    return asked[0].sentence if len(asked) == 1 else f"All {len(asked)} checks pass."


def _dependencies(found: dict[str, Component], place_of: dict[uptime.Place, Component]) -> None:
    """What each component needs by its checks' declarations, and what is blocked by what at this moment."""
    by_check: dict[str, list[Component]] = {}
    for (check_id, _), component in place_of.items():
        by_check.setdefault(check_id, []).append(component)
    for check in all_checks():
        for component in by_check.get(check.id, ()):
            for needed in check.depends_on:
                for other in by_check.get(needed, ()):
                    if other is not component and other.title not in component.needs:
                        component.needs.append(other.title)
    blocked = CheckState.objects.filter(status=CheckStatus.BLOCKED).values_list("check_id", "target", "evidence")
    for check_id, target, evidence in blocked:
        victim = place_of.get((check_id, target))
        cause = str((evidence or {}).get("blocked_by", ""))
        culprit = place_of.get((cause, target)) or place_of.get((cause, ""))
        if victim is None or culprit is None or victim is culprit:
            continue
        if victim.title not in culprit.blocks:
            culprit.blocks.append(victim.title)
        if culprit.title not in victim.blocked_by:
            victim.blocked_by.append(culprit.title)


def _issues(found: dict[str, Component], services: dict[str, Service]) -> None:
    """Open issues, and the newest of all within the longest window, by component."""
    since = timezone.now() - uptime.LONGEST
    rows = Issue.objects.filter(~Q(state=IssueState.RESOLVED) | Q(opened_at__gte=since)).defer("evidence")
    for issue in rows.order_by("-opened_at")[:MOST_ISSUES]:
        key = component_key(issue.check_id, issue.target)
        component = found.get(key)
        if component is None:
            continue
        if component.last is None and issue.severity in ("error", "critical"):
            component.last = issue
        if issue.is_open:
            component.issues.append(issue)


def _latencies(found: list[Component]) -> None:
    """The durations of each component's main check in the last hours, oldest first: one query for all."""
    main: dict[uptime.Place, Component] = {}
    for component in found:
        place = _main_place(component)
        if place is not None:
            main[place] = component
    rows = CheckResult.objects.filter(
        check_id__in={check_id for check_id, _ in main}, at__gte=timezone.now() - timedelta(hours=SPARK_HOURS)
    ).order_by("-at")
    for check_id, target, milliseconds in rows.values_list("check_id", "target", "duration_ms")[:MOST_SPARKS]:
        owner = main.get((check_id, target))
        if owner is not None and len(owner.latency) < SPARK_POINTS:
            owner.latency.append(milliseconds)
    for component in found:
        component.latency.reverse()


def _main_place(component: Component) -> uptime.Place | None:
    """The check that asks most often: it says how fast the component answers."""
    asked = [state for state in component.states if state.status not in (CheckStatus.SKIP, CheckStatus.BLOCKED)]
    known = [(check.interval, state) for state in asked if (check := get_check(state.check_id)) is not None]
    if not known:
        return None
    state = min(known, key=lambda one: (one[0], one[1].check_id))[1]
    return state.check_id, state.target
