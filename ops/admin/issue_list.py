"""The Repairs page: what is broken, worst first, and what can be done about many of them at once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.core.exceptions import ValidationError
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone

from ops.admin.issue_cards import SEVERITY_WORDS, grouped
from ops.choices import ASKING_ISSUE_STATES, IssueState
from ops.doctor.queries import asking_issues, worst_first
from ops.models import Issue
from ops.registry import all_checks
from ops.words import counted, verb

SHOWN = 200
HISTORY_PAGE = 50
MORNING = 8

# What the chips above the list say, with the states behind them.
VIEWS: dict[str, tuple[str, tuple[str, ...]]] = {
    "asking": ("Need a hand", tuple(ASKING_ISSUE_STATES)),
    "acknowledged": ("Acknowledged", (IssueState.ACKNOWLEDGED,)),
    "snoozed": ("Snoozed", (IssueState.SNOOZED,)),
    "ignored": ("Ignored", (IssueState.IGNORED,)),
    "resolved": ("Resolved", (IssueState.RESOLVED,)),
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an operator asked to see."""

    view: str
    severity: str
    area: str
    text: str
    page: int

    @property
    def narrowed(self) -> bool:
        return bool(self.severity or self.area or self.text)


def wanted_of(request: HttpRequest) -> Wanted:
    """The filters of an address; whatever is not known is ignored."""
    asked = request.GET
    page = asked.get("p", "")
    return Wanted(
        view=asked.get("state", "") if asked.get("state", "") in VIEWS else "asking",
        severity=asked.get("severity", "") if asked.get("severity", "") in SEVERITY_WORDS else "",
        area=asked.get("area", "")[:50],
        text=asked.get("q", "").strip()[:200],
        page=int(page) if page.isdigit() and len(page) < 6 else 0,
    )


def list_context(request: HttpRequest) -> dict[str, Any]:
    """Everything that the page shows."""
    wanted = wanted_of(request)
    resolved = wanted.view == "resolved"
    rows = _rows(wanted)
    if resolved:
        start = wanted.page * HISTORY_PAGE
        issues = list(rows.order_by("-resolved_at", "-pk")[start : start + HISTORY_PAGE + 1])
        more = len(issues) > HISTORY_PAGE
        issues = issues[:HISTORY_PAGE]
    else:
        issues = list(worst_first(rows)[: SHOWN + 1])
        more = len(issues) > SHOWN
        issues = issues[:SHOWN]
    cards = grouped(issues)
    asking = list(asking_issues()[:SHOWN])
    return {
        "wanted": wanted,
        "cards": cards,
        "history": resolved,
        "more": more,
        "next_page": wanted.page + 1,
        "chips": _chips(),
        "areas": areas(),
        "severities": list(SEVERITY_WORDS.items()),
        "headline": headline(asking),
        "trouble": any(issue.severity in ("error", "critical") for issue in asking),
        "asking": len(asking),
        "fixable": sum(1 for card in cards if card.main is not None and not card.main.danger),
    }


def headline(asking: list[Issue]) -> str:
    """The answer to "what is broken?" in one sentence."""
    if not asking:
        return "Nothing is broken that a check can see."
    count = counted(len(asking), "thing")
    return f"{count} {verb(len(asking), 'needs', 'need')} a hand."


def areas() -> list[tuple[str, str]]:
    """The tags of all checks as a choice."""
    tags = {tag for check in all_checks() for tag in check.tags}
    return [(tag, tag.replace("_", " ").capitalize()) for tag in sorted(tags)]


def snooze_until(choice: str, zone: str, custom: str = "") -> datetime:
    """The end of a snooze: ``hour``, ``morning`` (tomorrow at eight in ``zone``) or a time typed in that zone.

    Raises ``ValidationError`` with a sentence.
    """
    reader = _zone(zone)
    now = timezone.now()
    if choice == "hour":
        return now + timedelta(hours=1)
    if choice == "morning":
        local = now.astimezone(reader) + timedelta(days=1)
        return local.replace(hour=MORNING, minute=0, second=0, microsecond=0)
    try:
        typed = datetime.fromisoformat(custom.strip())
    except ValueError:
        raise ValidationError("Give the day and the time until which it may wait.") from None
    return typed if typed.tzinfo is not None else typed.replace(tzinfo=reader)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name or "UTC")
    except (KeyError, ValueError, OSError):
        return ZoneInfo("UTC")


def _rows(wanted: Wanted) -> QuerySet[Issue]:
    rows = Issue.objects.filter(state__in=VIEWS[wanted.view][1])
    if wanted.severity:
        rows = rows.filter(severity=wanted.severity)
    if wanted.area:
        ids = [check.id for check in all_checks() if wanted.area in check.tags]
        rows = rows.filter(check_id__in=ids)
    if wanted.text:
        titles = [check.id for check in all_checks() if wanted.text.lower() in check.title.lower()]
        found = Q(check_id__icontains=wanted.text) | Q(target__icontains=wanted.text)
        found |= Q(sentence__icontains=wanted.text) | Q(check_id__in=titles) | Q(affected__target=wanted.text)
        rows = rows.filter(pk__in=Issue.objects.filter(found).values("pk"))
    return rows


def _chips() -> list[tuple[str, str, int]]:
    counts = dict(Issue.objects.order_by().values_list("state").annotate(count=Count("pk")))
    return [(key, label, sum(counts.get(state, 0) for state in states)) for key, (label, states) in VIEWS.items()]
