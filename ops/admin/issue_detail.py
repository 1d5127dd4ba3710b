"""What the page of an issue shows: what happened when, the log of that time, what it names, and what mends it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Q
from django.http import HttpRequest
from django.urls import reverse

from ops.admin.issue_cards import Thing, buttons_of, card_of, cards_of, title_of
from ops.choices import CheckStatus, IssueState, Lamp, LogLevel
from ops.doctor.catalogue import Entry, entry_of
from ops.doctor.guides import Guide, guide_for
from ops.doctor.queries import dependants_of
from ops.doctor.targets import address_of, labels_of
from ops.logs import get_logger
from ops.models import AlertMessage, AuditEvent, CheckResult, CheckState, Issue, LogLine, RepairRun
from ops.registry import Check, get_check
from ops.words import counted

logger = get_logger(__name__)

AFFECTED_SHOWN = 50
LINES_SHOWN = 30
EVENTS_SHOWN = 40
EARLIER_SHOWN = 8
BEFORE, AFTER = timedelta(minutes=3), timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class Moment:
    """One line of the timeline."""

    at: datetime
    lamp: Lamp
    word: str
    text: str = ""
    address: str = ""


def issue_context(request: HttpRequest, issue: Issue) -> dict[str, Any]:
    """Everything but the row itself."""
    check = get_check(issue.check_id)
    follows, waiting = dependants_of(issue)
    text = request.GET.get("about", "").strip()[:200]
    things, count = affected(issue, text)
    root = issue.root if issue.root is not None and issue.root.is_open else None
    state = CheckState.objects.filter(check_id=issue.check_id, target=issue.target).first()
    return {
        "card": card_of(issue),
        "check": check,
        "check_state": state,
        "guide": guide_of(issue) if issue.is_open else None,
        "root_card": card_of(root) if root is not None else None,
        "follows": cards_of(follows),
        "waiting": [(title_of(one.check_id), one.target) for one in waiting],
        "things": things,
        "things_count": count,
        "about": text,
        "timeline": timeline(issue),
        "lines": lines_of(issue),
        "lines_address": _lines_address(),
        "earlier": earlier(issue),
        "entry": _entry(check),
        "runs_every": check.interval if check is not None else None,
        "can_speak": issue.state not in (IssueState.RESOLVED, IssueState.FIXING),
    }


def guide_of(issue: Issue) -> Guide | None:
    """The rendered guide. One that cannot be rendered must not take the page with it."""
    try:
        return guide_for(issue.check_id, issue.target, dict(issue.evidence or {}))
    except Exception:
        logger.exception("guide_not_rendered", check=issue.check_id, target=issue.target)
        return None


def affected(issue: Issue, text: str = "") -> tuple[list[tuple[Thing, Any]], int]:
    """The first affected objects, each with the button that mends it alone, and how many fit ``text``."""
    rows = issue.affected.order_by("id")
    if text:
        rows = rows.filter(Q(target__icontains=text) | Q(sentence__icontains=text) | Q(target__in=_named(issue, text)))
    found = list(rows[:AFFECTED_SHOWN])
    count = rows.count() if text else issue.affected_count
    labels = labels_of([row.target for row in found])
    shown = []
    for row in found:
        label = labels.get(row.target, row.target)
        thing = Thing(row.target, label, address_of(row.target), row.sentence, row)
        buttons = buttons_of(issue, row.target) if issue.is_open else []
        # Not every repair of an issue is for single objects: the repair says for which kinds it is.
        kind = row.target.partition(":")[0]
        fits = [one for one in buttons if kind in one.offer.repair.target_kinds]
        shown.append((thing, fits[0] if fits else None))
    return shown, count


def _named(issue: Issue, text: str) -> list[str]:
    """Targets whose object's name holds the text; the names stand in other tables, so a bounded number is looked at."""
    targets = list(issue.affected.values_list("target", flat=True)[:500])
    wanted = text.lower()
    return [target for target, label in labels_of(targets).items() if wanted in label.lower()]


def timeline(issue: Issue) -> list[Moment]:
    """What happened to it, newest first: openings, changes of its check, words of operators, repairs, alerts."""
    moments = [Moment(issue.opened_at, Lamp.TROUBLE, "Opened", _opened(issue))]
    until = issue.resolved_at
    results = CheckResult.objects.filter(
        check_id=issue.check_id, target=issue.target, changed=True, at__gte=issue.opened_at - timedelta(hours=1)
    )
    if until is not None:
        results = results.filter(at__lte=until + timedelta(minutes=1))
    for result in results.order_by("-at")[:EVENTS_SHOWN]:
        status = CheckStatus(result.status)
        moments.append(Moment(result.at, status.lamp, f"Check: {status.label.lower()}", result.sentence))
    events = AuditEvent.objects.filter(target_type="ops.issue", target_id=str(issue.pk))
    for event in events[:EVENTS_SHOWN]:
        word = event.action.partition(".")[2].replace("_", " ").capitalize()
        text = f"by {event.actor}" + (f": {event.message}" if event.message else "")
        moments.append(Moment(event.at, Lamp.OFF, word, text))
    for run in RepairRun.objects.filter(issue=issue).defer("params", "snapshot")[:EVENTS_SHOWN]:
        address = reverse("admin:ops_repairrun_change", args=[run.pk])
        text = f"{run.sentence} By {run.actor}."
        moments.append(Moment(run.created_at, run.lamp, f"Repair: {run.get_state_display().lower()}", text, address))
    for message in (
        AlertMessage.objects.filter(issue=issue).select_related("channel").defer("channel__url")[:EVENTS_SHOWN]
    ):
        word = f"Alert: {message.get_state_display().lower()}"
        text = f"{message.get_kind_display()}, through {message.channel.name}"
        moments.append(Moment(message.sent_at or message.created_at, _lamp(message), word, text))
    if issue.passing_since is not None:
        text = "It stays open until it has been quiet for a while, because it came and went."
        moments.append(Moment(issue.passing_since, Lamp.WORKING, "Passing again", text))
    if until is not None:
        moments.append(Moment(until, Lamp.GOOD, "Resolved", "Its check passes."))
    return sorted(moments, key=lambda one: one.at, reverse=True)[:EVENTS_SHOWN]


def lines_of(issue: Issue) -> list[LogLine]:
    """Warnings and errors of the log around the opening, oldest first."""
    around = (issue.opened_at - BEFORE, issue.opened_at + AFTER)
    rows = LogLine.objects.filter(at__range=around, level__in=(LogLevel.WARNING, LogLevel.ERROR))
    return list(rows.order_by("-id")[:LINES_SHOWN])[::-1]


def earlier(issue: Issue) -> list[Issue]:
    """Issues of the same place before this one."""
    rows = Issue.objects.filter(check_id=issue.check_id, target=issue.target, opened_at__lt=issue.opened_at)
    return list(rows.exclude(pk=issue.pk).defer("evidence", "fix")[:EARLIER_SHOWN])


def _opened(issue: Issue) -> str:
    if issue.flaps:
        return f"It had been resolved within the hour before, {counted(issue.flaps, 'time')}."
    return ""


def _lamp(message: AlertMessage) -> Lamp:
    from ops.models import AlertState

    return AlertState(message.state).lamp


def _entry(check: Check | None) -> Entry | None:
    return entry_of(check) if check is not None else None


def _lines_address() -> str:
    from django.urls import NoReverseMatch

    try:
        return reverse("admin:ops_logline_changelist")
    except NoReverseMatch:
        return ""
