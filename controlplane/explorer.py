"""What can be found by its id: everything an operator may paste, from an agent's id to a request's."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote, urlencode

from django.db.models import Model, Q, QuerySet

from agents.models import Account, Agent, Mapping, Room, SyncRun
from chat.models import Conversation, Delivery, Message, Person, RefusedEvent, Turn
from ops.logbook.explorer import Found, register_finder
from ops.logbook.rows import STATUS_LOGGER
from ops.models import ApiToken, AuditEvent, Issue, Job, LogLine, RepairRun, Service

EACH = 8
_LARGEST = 2**63


def _number(term: str) -> int | None:
    """``42`` and ``#42``, and the id behind a word: ``turn:42``, ``message 42``."""
    text = term.lower().replace(":", " ").replace("#", " ").split()
    last = text[-1] if text and len(text) <= 2 else ""
    return int(last) if last.isascii() and last.isdigit() and int(last) < _LARGEST else None


def _kind(term: str) -> str:
    """The word before a number, "" when there is none."""
    head = term.lower().replace(":", " ").split()
    return head[0] if len(head) == 2 else ""


def _uuid(term: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(term)
    except ValueError:
        return None


def _matrix(term: str) -> str:
    """The id out of a matrix.to or matrix: link, or the term itself."""
    if "matrix.to/#/" in term:
        return unquote(term.partition("matrix.to/#/")[2]).partition("?")[0].partition("/")[0]
    return term


def _newest(rows: QuerySet[Any], column: str, order: str = "-pk") -> str:
    return str(rows.order_by(order).values_list(column, flat=True).first() or "")


def agents(term: str) -> Sequence[Found]:
    term = _matrix(term)
    wanted = Q(name__icontains=term) | Q(external_id__icontains=term) | Q(mapping__account__user_id__icontains=term)
    if (number := _number(term)) is not None and _kind(term) in ("", "agent"):
        wanted |= Q(pk=number)
    rows = Agent.objects.filter(wanted).select_related("service", "mapping__account").order_by("name")[:EACH]
    return [
        Found(
            row.name, f"Agent of {row.service.name}, {row.external_id}", "agents_agent_change", row.pk, "support_agent"
        )
        for row in rows
    ]


def accounts(term: str) -> Sequence[Found]:
    term = _matrix(term)
    if not term.startswith("@"):
        return []
    rows = Account.objects.filter(user_id__icontains=term).order_by("user_id")[:EACH]
    return [Found(row.user_id, "Matrix account", "agents_account_change", row.pk, "alternate_email") for row in rows]


def rooms(term: str) -> Sequence[Found]:
    term = _matrix(term)
    wanted = Q(room_id__icontains=term) | Q(alias__icontains=term)
    if not term.startswith(("!", "#", "@", "$")):
        wanted |= Q(name__icontains=term)
    rows = Room.objects.filter(wanted).order_by("name")[:EACH]
    return [
        Found(str(row), f"Room {row.room_id or row.alias}", "agents_room_change", row.pk, "meeting_room")
        for row in rows
    ]


def _at(message: Message) -> Found:
    """A message stands on the page of its conversation."""
    return Found(
        str(message),
        f"Message {message.pk} in {message.conversation}",
        "chat_conversation_change",
        message.conversation_id,
        "chat",
        f"?before={message.seq + 5}#m{message.seq}",
    )


def events(term: str) -> Sequence[Found]:
    """Matrix events: the message they became, or why they became none."""
    if "matrix.to/#/" in term and "/$" in unquote(term):
        term = "$" + unquote(term).partition("/$")[2].partition("?")[0]
    if not term.startswith("$"):
        return []
    found = [_at(row) for row in Message.objects.filter(external_id=term).select_related("conversation")[:EACH]]
    found += [
        Found(f"Refused event {row.pk}", str(row), "chat_refusedevent_change", row.pk, "block")
        for row in RefusedEvent.objects.filter(external_id=term)[:EACH]
    ]
    # What we sent ourselves is known by its delivery; that is the slower question.
    found += (
        []
        if found
        else [
            Found(str(row), f"Delivery {row.pk}", "chat_delivery_change", row.pk, "outbox")
            for row in Delivery.objects.filter(shown__icontains=term).order_by("-pk")[:EACH]
        ]
    )
    return found


def numbers(term: str) -> Sequence[Found]:
    """Ids that are numbers: conversations, messages, turns, deliveries, syncs, issues; ``turn:42`` names one kind."""
    number, kind = _number(term), _kind(term)
    if number is None:
        return []
    found: list[Found] = []
    if kind in ("", "conversation"):
        found += _rows(Conversation.objects.filter(pk=number), "Conversation", "chat_conversation_change", "forum")
    if kind in ("", "message"):
        found += [_at(row) for row in Message.objects.filter(pk=number).select_related("conversation")]
    if kind in ("", "turn"):
        found += _rows(Turn.objects.filter(pk=number), "Turn", "chat_turn_change", "swap_horiz")
    if kind in ("", "delivery"):
        found += _rows(Delivery.objects.filter(pk=number), "Delivery", "chat_delivery_change", "outbox")
    if kind in ("", "sync"):
        found += _rows(SyncRun.objects.filter(pk=number).defer("plan"), "Sync", "agents_syncrun_change", "sync")
    if kind in ("", "issue"):
        found += _rows(Issue.objects.filter(pk=number), "Issue", "ops_issue_change", "report")
    if kind in ("", "mapping"):
        rows = Mapping.objects.filter(pk=number).select_related("agent", "account")
        found += _rows(rows, "Mapping", "agents_mapping_change", "cable")
    return found


def _rows(rows: QuerySet[Any], word: str, view: str, icon: str) -> list[Found]:
    return [Found(_words(row), f"{word} {row.pk}", view, row.pk, icon) for row in rows[:EACH]]


def _words(row: Model) -> str:
    return str(row)[:120] or f"{row._meta.verbose_name} {row.pk}"


def jobs(term: str) -> Sequence[Found]:
    key = _uuid(term)
    found = [
        Found(row.title, f"Job, {row.get_state_display().lower()}", "ops_job_change", row.pk, "pending_actions")
        for row in Job.objects.filter(Q(pk=key) if key else Q(title__icontains=term))
        .defer("params", "result")
        .order_by("-created_at")[:EACH]
    ]
    if key:
        found += [
            Found(str(row), f"Repair, {row.get_state_display().lower()}", "ops_repairrun_change", row.pk, "build")
            for row in RepairRun.objects.filter(pk=key).defer("params", "snapshot")
        ]
    return found


def people(term: str) -> Sequence[Found]:
    term = _matrix(term)
    wanted = (
        Q(username__icontains=term)
        | Q(matrix_user_id__icontains=term)
        | Q(display_name__icontains=term)
        | Q(email__icontains=term)
    )
    rows = Person.objects.filter(wanted).order_by("username")[:EACH]
    return [Found(str(row), row.email or "Person", "chat_person_change", row.pk, "group") for row in rows]


def titles(term: str) -> Sequence[Found]:
    rows = Conversation.objects.filter(title__icontains=term).order_by("-last_message_at")[:EACH]
    return [Found(str(row), "Conversation", "chat_conversation_change", row.pk, "forum") for row in rows]


def upstream(term: str) -> Sequence[Found]:
    """A run's id at the backend belongs to a turn; a conversation's id there, to a conversation."""
    if len(term) < 8 or " " in term or term.startswith(("@", "!", "#", "$")):
        return []
    rows = Turn.objects.filter(upstream_ref=term).order_by("-pk")
    found = _rows(rows, "Turn", "chat_turn_change", "swap_horiz")
    known = Conversation.objects.filter(participants__backend_ref=term).distinct()
    return [*found, *_rows(known, "Conversation", "chat_conversation_change", "forum")]


def services(term: str) -> Sequence[Found]:
    rows = Service.objects.filter(Q(name__icontains=term) | Q(base_url__icontains=term)).order_by("name")[:EACH]
    return [Found(row.name, f"Service, {row.base_url}", "ops_service_change", row.pk, "dns") for row in rows]


def tokens(term: str) -> Sequence[Found]:
    """By name, or by the beginning that lists show; a whole token is never looked for."""
    rows = ApiToken.objects.filter(Q(name__icontains=term) | Q(prefix=term[:8])).order_by("name")[:EACH]
    return [Found(row.name, "API token", "ops_apitoken_change", row.pk, "key") for row in rows]


def traces(term: str) -> Sequence[Found]:
    """Request ids, and other ids that lines carry: the page of the logs, with these lines."""
    if len(term) < 8 or " " in term:
        return []
    found: list[Found] = []
    if LogLine.objects.filter(request_id=term).exists():
        found.append(
            Found(f"Request {term}", "Its log lines", "ops_logline_changelist", None, "article", _query(request=term))
        )
    for row in AuditEvent.objects.filter(request_id=term).order_by("-pk")[:3]:
        found.append(Found(str(row), "What the request changed", "ops_auditevent_change", row.pk, "history"))
    return found


def _query(**wanted: Any) -> str:
    return f"?{urlencode(wanted)}"


def _sample_request() -> str:
    rows = LogLine.objects.exclude(logger=STATUS_LOGGER).exclude(request_id="").order_by("-id")
    return next((one for one in rows.values_list("request_id", flat=True)[:20] if len(one) >= 8), "")


def _sample_turn() -> str:
    newest = _newest(Turn.objects.all(), "pk")
    return f"turn:{newest}" if newest else ""


def _sample_run() -> str:
    newest = _newest(Turn.objects.exclude(upstream_ref=""), "upstream_ref")
    return newest if len(newest) >= 8 and " " not in newest else ""


register_finder("agent", label="agents", find=agents, sample=lambda: _newest(Agent.objects.all(), "external_id"))
register_finder("account", label="accounts", find=accounts, sample=lambda: _newest(Account.objects.all(), "user_id"))
register_finder(
    "room", label="rooms", find=rooms, sample=lambda: _newest(Room.objects.exclude(room_id=None), "room_id")
)
register_finder(
    "event",
    label="Matrix events",
    find=events,
    sample=lambda: _newest(Message.objects.filter(external_id__startswith="$"), "external_id"),
)
register_finder("number", label="conversations, messages, turns and deliveries", find=numbers, sample=_sample_turn)
register_finder(
    "job", label="jobs and repairs", find=jobs, sample=lambda: _newest(Job.objects.all(), "pk", "-created_at")
)
register_finder("person", label="people", find=people, sample=lambda: _newest(Person.objects.all(), "username"))
register_finder(
    "title",
    label="conversations by title",
    find=titles,
    sample=lambda: _newest(Conversation.objects.exclude(title=""), "title"),
)
register_finder("upstream", label="runs at a backend", find=upstream, sample=_sample_run)
register_finder("service", label="services", find=services, sample=lambda: _newest(Service.objects.all(), "name"))
register_finder("token", label="API tokens", find=tokens, sample=lambda: _newest(ApiToken.objects.all(), "name"))
register_finder("request", label="requests", find=traces, sample=_sample_request)
