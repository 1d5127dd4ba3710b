"""What strangers may know: whether it works, since when, and how it was. Chosen labels, no names, no addresses, no sentences.

Made from the same checks and issues as the operators' board. What a check says is for operators; here only its weight counts:
a critical failure means that a part does not work, any other failure that it is disturbed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.utils import timezone

from ops import uptime
from ops.board import component_key
from ops.choices import CheckStatus, IssueState, Lamp
from ops.models import CheckState, Issue, MaintenanceWindow, Service
from ops.registry import get_check, service_kind
from ops.uptime import WINDOWS

# Nobody asked for so long: then nobody knows.
STALE = timedelta(minutes=5)
INCIDENTS_SHOWN = 50
_APART = timedelta(minutes=5)
# Labels for what people notice. The inner parts (configuration, logs, disk) are no business of theirs.
_AREAS = {
    "messages": "Answers",
    "workers": "Answers",
    "broker": "Answers",
    "rooms": "Agents",
    "models": "Agents",
    "matrix": "Chat rooms",
    "database": "This website",
    "api": "This website",
}
_ROLES = {"homeserver": "Chat rooms", "backend": "Agents"}
_ORDER = ("Answers", "Agents", "Chat rooms", "This website")
_WORDS: dict[str, tuple[str, Lamp]] = {
    "well": ("Works", Lamp.GOOD),
    "disturbed": ("Disturbed", Lamp.ATTENTION),
    "down": ("Not working", Lamp.TROUBLE),
    "unknown": ("Not known", Lamp.OFF),
}
_RANK = ("unknown", "well", "disturbed", "down")


@dataclass(slots=True)
class Part:
    """One line of the page."""

    label: str
    state: str = "unknown"
    since: datetime | None = None
    shares: dict[str, float | None] = field(default_factory=dict)
    slots: list[uptime.Slot] = field(default_factory=list)

    @property
    def word(self) -> str:
        return _WORDS[self.state][0]

    @property
    def lamp(self) -> Lamp:
        return _WORDS[self.state][1]


@dataclass(frozen=True, slots=True)
class Incident:
    """A stretch in which a part did not work; ``end`` is empty while it goes on."""

    label: str
    state: str
    start: datetime
    end: datetime | None

    @property
    def word(self) -> str:
        return _WORDS[self.state][0].lower()


@dataclass(frozen=True, slots=True)
class Status:
    """The whole page. ``state`` is the worst of the parts."""

    state: str
    sentence: str
    checked_at: datetime | None
    parts: list[Part]
    incidents: list[Incident]
    maintenance: list[tuple[datetime, datetime]]

    @property
    def lamp(self) -> Lamp:
        return _WORDS[self.state][1]

    def to_dict(self) -> dict[str, Any]:
        """JSON shape: ``{status, sentence, checked_at, parts: [{label, status, since, uptime}], incidents, maintenance}``."""
        return {
            "status": self.state,
            "sentence": self.sentence,
            "checked_at": _iso(self.checked_at),
            "parts": [
                {
                    "label": part.label,
                    "status": part.state,
                    "since": _iso(part.since),
                    "uptime": {key: None if share is None else round(share, 5) for key, share in part.shares.items()},
                }
                for part in self.parts
            ],
            "incidents": [
                {
                    "label": one.label,
                    "status": one.state,
                    "from": _iso(one.start),
                    "to": _iso(one.end),
                    "seconds": round(((one.end or timezone.now()) - one.start).total_seconds()),
                }
                for one in self.incidents
            ],
            "maintenance": [{"from": _iso(start), "to": _iso(end)} for start, end in self.maintenance],
        }


def labels() -> dict[str, str]:
    """Public labels by the key of a component: those of ``STATUS_PAGE_LABELS``, or everybody's defaults.

    Services get the label of what they are; their names are not public unless the setting says so.
    """
    chosen = dict(pair.split("=", 1) for pair in settings.STATUS_PAGE_LABELS if "=" in pair)
    if chosen:
        return {key.strip(): label.strip() for key, label in chosen.items()}
    found = dict(_AREAS)
    for name, kind in Service.objects.filter(enabled=True).values_list("name", "kind"):
        known = service_kind(kind)
        if known is not None and known.role in _ROLES:
            found[f"service:{name}"] = _ROLES[known.role]
    return found


def public_status() -> Status:
    """The present state and the last 30 days. Eight queries at most."""
    now = timezone.now()
    chosen = labels()
    parts = {label: Part(label) for label in _in_order(chosen.values())}
    places: dict[str, list[uptime.Place]] = {label: [] for label in parts}
    newest: datetime | None = None
    for state in CheckState.objects.defer("evidence", "sentence"):
        newest = max(newest or state.checked_at, state.checked_at)
        label = chosen.get(component_key(state.check_id, state.target))
        if label is None:
            continue
        places[label].append((state.check_id, state.target))
        _take(parts[label], state)
    past = uptime.history()
    for label, part in parts.items():
        spans = past.spans(places[label])
        part.shares = {each.key: uptime.share_of(spans, each.length, past.end) for each in WINDOWS}
        part.slots = uptime.slots_of(spans, WINDOWS[2], past.end)
    shown = [part for part in parts.values() if places[part.label]]
    stale = newest is None or now - newest > STALE
    if stale:
        for part in shown:
            part.state, part.since = "unknown", newest
    worst = max((part.state for part in shown), key=_RANK.index, default="unknown")
    windows = MaintenanceWindow.objects.filter(ends_at__gt=now, starts_at__lt=now + timedelta(days=14))
    return Status(
        state=worst,
        sentence=_sentence(worst, shown, stale),
        checked_at=newest,
        parts=shown,
        incidents=incidents(chosen, now),
        maintenance=list(windows.order_by("starts_at").values_list("starts_at", "ends_at")[:10]),
    )


def incidents(chosen: dict[str, str], now: datetime) -> list[Incident]:
    """What went wrong within the longest window, newest first; what overlaps in one part is one incident."""
    since = now - uptime.LONGEST
    rows = (
        Issue.objects.filter(severity__in=("error", "critical"), opened_at__gte=since)
        .exclude(state=IssueState.IGNORED)
        .order_by("opened_at")
        .values_list("check_id", "target", "severity", "opened_at", "resolved_at")[:2000]
    )
    found: list[Incident] = []
    last: dict[str, int] = {}
    for check_id, target, severity, opened, resolved in rows:
        label = chosen.get(component_key(check_id, target))
        if label is None:
            continue
        state = "down" if severity == "critical" else "disturbed"
        before = found[last[label]] if label in last else None
        if before is not None and (before.end is None or opened - before.end <= _APART):
            end = None if before.end is None or resolved is None else max(before.end, resolved)
            worse = max(before.state, state, key=_RANK.index)
            found[last[label]] = Incident(label, worse, before.start, end)
        else:
            last[label] = len(found)
            found.append(Incident(label, state, opened, resolved))
    return sorted(found, key=lambda one: one.start, reverse=True)[:INCIDENTS_SHOWN]


def _take(part: Part, state: CheckState) -> None:
    """Let one check's state count for its part."""
    if state.status in (CheckStatus.SKIP, CheckStatus.BLOCKED):
        return
    known = get_check(state.check_id)
    severity = known.severity if known is not None else "error"
    word = "well"
    if state.status == CheckStatus.FAIL and severity in ("error", "critical"):
        word = "down" if severity == "critical" else "disturbed"
    if _RANK.index(word) > _RANK.index(part.state):
        part.state, part.since = word, state.since
    elif word == part.state and part.since is not None:
        part.since = min(part.since, state.since) if word != "well" else max(part.since, state.since)


def _in_order(found: Iterable[str]) -> Sequence[str]:
    names = list(dict.fromkeys(found))
    return sorted(names, key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), names.index(name)))


def _sentence(worst: str, parts: list[Part], stale: bool) -> str:
    if stale:
        return "Nobody is checking at this moment, so nothing is known."
    if not parts:
        return "Nothing has been checked yet."
    if worst == "well":
        return "Everything works."
    if worst == "unknown":
        return "Nothing is known yet."
    bad = [part.label for part in parts if part.state == worst]
    return f"{_WORDS[worst][0]}: {', '.join(bad)}."


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="seconds") if moment is not None else None
