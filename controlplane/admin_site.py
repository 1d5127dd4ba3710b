"""What belongs to the whole operator's site: badges of the navigation, and the search behind Ctrl-K."""

from __future__ import annotations

from typing import Any

from django.db.models import Count
from django.http import HttpRequest
from unfold.dataclasses import SearchResult

from agents.models import Drift, Mapping, SyncRun, SyncState
from chat.queries import dead_deliveries, dead_turns
from ops.admin.backup_words import Standing, standing
from ops.choices import OPEN_JOB_STATES, CheckStatus, Lamp
from ops.doctor.queries import asking_issues
from ops.logbook import explorer
from ops.models import CheckState, Issue, Job


def _once(request: HttpRequest, name: str, ask: Any) -> Any:
    """A number that several parts of one page show is asked for once."""
    kept = request.__dict__.setdefault("_switchboard", {})
    if name not in kept:
        kept[name] = ask()
    return kept[name]


def dead_letters(request: HttpRequest) -> tuple[int, int]:
    """(answers that failed, deliveries that were given up)."""
    return (
        _once(request, "dead_turns", lambda: dead_turns().count()),
        _once(request, "dead_deliveries", lambda: dead_deliveries().count()),
    )


def failing_checks(request: HttpRequest) -> list[CheckState]:
    """Checks that fail now."""
    return list(_once(request, "checks", lambda: list(CheckState.objects.filter(status=CheckStatus.FAIL))))


def asking(request: HttpRequest) -> list[Issue]:
    """Issues that ask for a hand, worst first."""
    return list(_once(request, "issues", lambda: list(asking_issues().defer("evidence")[:1000])))


def open_jobs(request: HttpRequest) -> list[Job]:
    """Jobs that wait or run."""
    rows = Job.objects.filter(state__in=OPEN_JOB_STATES).defer("params", "result").order_by("created_at")
    return list(_once(request, "jobs", lambda: list(rows[:100])))


def last_sync(request: HttpRequest) -> SyncRun | None:
    """The newest pass that has ended."""
    rows = SyncRun.objects.exclude(state=SyncState.RUNNING).defer("plan").order_by("-id")
    found: SyncRun | None = _once(request, "sync", rows.first)
    return found


def mappings_in_trouble(request: HttpRequest) -> int:
    """Agents whose account or room has a problem."""
    rows = Mapping.objects.exclude(problem="").exclude(agent__state="archived")
    return int(_once(request, "mappings", rows.count))


def open_drift(request: HttpRequest) -> tuple[int, int]:
    """(open differences between mappings and homeserver, those of them that somebody has to decide)."""
    rows = Drift.objects.filter(mended_at=None).order_by().values_list("mends").annotate(count=Count("pk"))
    found: dict[bool, int] = _once(request, "drift", lambda: dict(rows))
    return sum(found.values()), found.get(False, 0)


def backups_standing(request: HttpRequest) -> Standing:
    """How all backups stand together."""
    found: Standing = _once(request, "backups", standing)
    return found


def badge_backups(request: HttpRequest) -> str:
    return "■" if backups_standing(request).lamp is Lamp.TROUBLE else ""


def badge_dead_letters(request: HttpRequest) -> str:
    """For the navigation; "" shows no badge."""
    return _text(sum(dead_letters(request)))


def badge_issues(request: HttpRequest) -> str:
    """Issues that ask for a hand and do not follow from another open one."""
    return _text(len(asking(request)))


def badge_jobs(request: HttpRequest) -> str:
    return _text(len(open_jobs(request)))


def badge_mappings(request: HttpRequest) -> str:
    return _text(mappings_in_trouble(request))


def badge_drift(request: HttpRequest) -> str:
    return _text(open_drift(request)[0])


def badge_sync(request: HttpRequest) -> str:
    run = last_sync(request)
    return "▲" if run is not None and run.state == SyncState.STOPPED else ""


def _text(count: int) -> str:
    return "" if not count else (str(count) if count < 1000 else "999+")


def search(request: HttpRequest, term: str) -> list[SearchResult]:
    """Whatever an operator may paste: see ``controlplane.explorer`` for what is found."""
    hits = ((hit, hit.address) for hit in explorer.search(term))
    return [
        SearchResult(title=hit.title, description=hit.description, link=address, icon=hit.icon)
        for hit, address in hits
        if address
    ]
