"""What belongs to the whole operator's site: badges of the navigation, and the search behind Ctrl-K."""

from __future__ import annotations

import contextlib
import uuid
from typing import Any

from django.db.models import Q
from django.http import HttpRequest
from django.urls import reverse
from unfold.dataclasses import SearchResult

from agents.models import Agent, Mapping, Room, SyncRun, SyncState
from chat.models import Conversation, Delivery, Person, Turn
from chat.queries import dead_deliveries, dead_turns
from ops.choices import OPEN_JOB_STATES, CheckStatus
from ops.models import CheckState, Job, Service

EACH = 8


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


def badge_dead_letters(request: HttpRequest) -> str:
    """For the navigation; "" shows no badge."""
    return _text(sum(dead_letters(request)))


def badge_checks(request: HttpRequest) -> str:
    return _text(len(failing_checks(request)))


def badge_jobs(request: HttpRequest) -> str:
    return _text(len(open_jobs(request)))


def badge_mappings(request: HttpRequest) -> str:
    return _text(mappings_in_trouble(request))


def badge_sync(request: HttpRequest) -> str:
    run = last_sync(request)
    return "▲" if run is not None and run.state == SyncState.STOPPED else ""


def _text(count: int) -> str:
    return "" if not count else (str(count) if count < 1000 else "999+")


def search(request: HttpRequest, term: str) -> list[SearchResult]:
    """Whatever an operator may paste: a name, an MXID, a room id or alias, an agent's id, a conversation's or a job's id."""
    term = term.strip()
    if len(term) < 2 and not term.isdigit():
        return []
    found = [*_agents(term), *_rooms(term), *_numbers(term), *_jobs(term)]
    if not term.startswith(("!", "#")):
        found += _others(term)
    return found


def _result(title: str, description: str, view: str, pk: Any, icon: str) -> SearchResult:
    return SearchResult(
        title=title, description=description, link=reverse(f"admin:{view}_change", args=[pk]), icon=icon
    )


def _agents(term: str) -> list[SearchResult]:
    wanted = Q(name__icontains=term) | Q(external_id__icontains=term) | Q(mapping__account__user_id__icontains=term)
    rows = Agent.objects.filter(wanted).select_related("service", "mapping__account").order_by("name")[:EACH]
    return [
        _result(row.name, f"Agent of {row.service.name}, {row.external_id}", "agents_agent", row.pk, "support_agent")
        for row in rows
    ]


def _rooms(term: str) -> list[SearchResult]:
    wanted = Q(room_id__icontains=term) | Q(alias__icontains=term)
    if not term.startswith(("!", "#", "@")):
        wanted |= Q(name__icontains=term)
    rows = Room.objects.filter(wanted).order_by("name")[:EACH]
    return [
        _result(str(row), f"Room {row.room_id or row.alias}", "agents_room", row.pk, "meeting_room") for row in rows
    ]


def _numbers(term: str) -> list[SearchResult]:
    if not term.isdigit() or len(term) > 15:
        return []
    number = int(term)
    found = [
        _result(str(row), f"Conversation {row.pk}", "chat_conversation", row.pk, "forum")
        for row in Conversation.objects.filter(pk=number)
    ]
    found += [_result(str(row), "Turn", "chat_turn", row.pk, "swap_horiz") for row in Turn.objects.filter(pk=number)]
    found += [
        _result(str(row), "Delivery", "chat_delivery", row.pk, "outbox") for row in Delivery.objects.filter(pk=number)
    ]
    return found


def _jobs(term: str) -> list[SearchResult]:
    wanted = Q(title__icontains=term)
    with contextlib.suppress(ValueError):
        wanted |= Q(pk=uuid.UUID(term))
    rows = Job.objects.filter(wanted).defer("params", "result").order_by("-created_at")[:EACH]
    return [
        _result(row.title, f"Job, {row.get_state_display().lower()}", "ops_job", row.pk, "pending_actions")
        for row in rows
    ]


def _others(term: str) -> list[SearchResult]:
    found = [
        _result(str(row), "Conversation", "chat_conversation", row.pk, "forum")
        for row in Conversation.objects.filter(title__icontains=term).order_by("-last_message_at")[:EACH]
    ]
    people = Q(username__icontains=term) | Q(matrix_user_id__icontains=term) | Q(display_name__icontains=term)
    found += [
        _result(str(row), "Person", "chat_person", row.pk, "group")
        for row in Person.objects.filter(people).order_by("username")[:EACH]
    ]
    found += [
        _result(row.name, "Service", "ops_service", row.pk, "dns")
        for row in Service.objects.filter(name__icontains=term)[:EACH]
    ]
    return found
