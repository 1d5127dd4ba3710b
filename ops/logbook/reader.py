"""Reads the kept lines: filters that pages, the API, commands and bundles share, and the two forms of a download."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from ops.logbook.rows import RANKS, STATUS_LOGGER, clean
from ops.models import LogLine

MOST = 1000
MOST_IN_FILE = 100_000
_LATE, _LATE_IDS = timedelta(seconds=4), 1000


class FilterInvalid(ValueError):
    """A filter that cannot be used; the text says which and why."""


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Which lines. ``level`` is the least one; ``text`` is looked for in the event, the details and the traceback, in any case;
    ``minutes`` counts back from now; the others are exact."""

    level: str = ""
    role: str = ""
    process: str = ""
    logger: str = ""
    service: str = ""
    agent: str = ""
    message: str = ""
    request: str = ""
    text: str = ""
    since: datetime | None = None
    until: datetime | None = None

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> LogFilter:
        """From a query. Unknown names are left out; raises ``FilterInvalid``."""
        values: dict[str, Any] = {
            one.name: clean(given.get(one.name, "")).strip()[:300] for one in fields(cls) if one.name not in _TIMES
        }
        if values["level"] and values["level"] not in RANKS:
            raise FilterInvalid(f"A level is one of {', '.join(RANKS)}.")
        for name in _TIMES:
            text = str(given.get(name, "") or "").strip()
            values[name] = _moment(name, text) if text else None
        minutes = str(given.get("minutes", "") or "").strip()
        if minutes:
            if not minutes.isdigit() or not 0 < int(minutes) < 1_000_000:
                raise FilterInvalid("minutes is a number.")
            values["since"] = timezone.now() - timedelta(minutes=int(minutes))
        return cls(**values)

    @property
    def query(self) -> str:
        """As the query of an address: what the page and the API understand."""
        found = {one.name: getattr(self, one.name) for one in fields(self) if getattr(self, one.name)}
        return urlencode({name: v.isoformat() if isinstance(v, datetime) else v for name, v in found.items()})

    @property
    def is_empty(self) -> bool:
        """Every line fits."""
        return self == LogFilter()

    def without(self, name: str) -> LogFilter:
        """The same without one of its conditions."""
        empty: Any = None if name in _TIMES else ""
        return replace(self, **{name: empty})

    def words(self) -> list[tuple[str, str, str]]:
        """(name, label, value) of the conditions that are set, for people."""
        return [(n, label, str(getattr(self, n))) for n, label in _LABELS.items() if getattr(self, n)]


_TIMES = ("since", "until")
_LABELS = {
    "level": "from level",
    "role": "process kind",
    "process": "process",
    "logger": "logger",
    "service": "service",
    "agent": "agent",
    "message": "message",
    "request": "request",
    "text": "text",
    "since": "since",
    "until": "until",
}


def _moment(name: str, text: str) -> datetime:
    try:
        found = parse_datetime(text.replace(" ", "+") if text.count(" ") == 1 and "T" in text else text)
    except ValueError:
        found = None
    if found is None:
        raise FilterInvalid(f"{name} is a time like 2026-01-31T12:00:00Z.")
    return found if found.tzinfo else found.replace(tzinfo=timezone.get_current_timezone())


def lines(wanted: LogFilter) -> QuerySet[LogLine]:
    """The lines that fit, newest first."""
    rows = LogLine.objects.exclude(logger=STATUS_LOGGER).order_by("-id")
    if wanted.level and wanted.level != "debug":
        rows = rows.filter(level__in=[name for name, rank in RANKS.items() if rank >= RANKS[wanted.level]])
    for name, column in _EXACT.items():
        if value := getattr(wanted, name):
            rows = rows.filter(**{column: value})
    if wanted.logger:
        rows = rows.filter(Q(logger=wanted.logger) | Q(logger__startswith=f"{wanted.logger}."))
    if wanted.text:
        rows = rows.filter(text_condition(wanted.text))
    if wanted.since:
        rows = rows.filter(at__gte=wanted.since)
    if wanted.until:
        rows = rows.filter(at__lte=wanted.until)
    return rows


_EXACT = {
    "role": "role",
    "process": "process",
    "service": "service",
    "agent": "agent",
    "message": "message_id",
    "request": "request_id",
}


def text_condition(text: str) -> Q:
    """Every word must be somewhere in the line."""
    found = Q()
    for word in text.split()[:8]:
        found &= (
            Q(event__icontains=word)
            | Q(trace__icontains=word)
            | Q(logger__icontains=word)
            | Q(agent__icontains=word)
            | Q(service__icontains=word)
            | Q(message_id=word)
            | Q(request_id=word)
            | Q(extra__icontains=word)
            # SQLite keeps JSON as it was written, with other letters escaped.
            | Q(extra__icontains=json.dumps(word)[1:-1])
        )
    return found


def line_dict(line: LogLine) -> dict[str, Any]:
    """JSON shape of a line: ``{id, at, level, role, process, logger, event, service, agent, message, request, extra, trace}``."""
    return {
        "id": line.pk,
        "at": line.at,
        "level": line.level,
        "role": line.role,
        "process": line.process,
        "logger": line.logger,
        "event": line.event,
        "service": line.service,
        "agent": line.agent,
        "message": line.message_id,
        "request": line.request_id,
        "extra": line.extra,
        "trace": line.trace,
    }


def as_text(line: LogLine) -> str:
    """One line for people, its traceback below it, indented."""
    where = " ".join(
        f"{name}={value}"
        for name, value in (
            ("service", line.service),
            ("agent", line.agent),
            ("message", line.message_id),
            ("request", line.request_id),
            *(line.extra or {}).items(),
        )
        if value not in ("", None)
    )
    head = f"{line.at:%Y-%m-%dT%H:%M:%S.%f}"[:-3] + f"Z {line.level:<7} {line.role:<6} {line.logger}: {line.event}"
    trace = "".join(f"\n    {row}" for row in line.trace.splitlines())
    return f"{head} {where}".rstrip() + trace


def as_jsonl(line: LogLine) -> str:
    """One JSON object without a line break."""
    return json.dumps(line_dict(line), ensure_ascii=False, default=_plain)


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def behind(wanted: LogFilter, after: int, *, most: int) -> list[LogLine]:
    """Lines that came after the line ``after``, oldest first, and once more those that may have come late.

    Several processes write at once: a line with a smaller number may become visible a moment after one with a larger number.
    So the last few seconds are given again; whoever follows leaves out the ids that it has.
    """
    lately = Q(id__gt=after - _LATE_IDS, at__gt=timezone.now() - _LATE)
    return list(lines(wanted).filter(Q(id__gt=after) | lately).order_by("id")[:most])


def export(wanted: LogFilter, form: str, *, most: int = MOST_IN_FILE) -> Iterator[str]:
    """The newest ``most`` lines that fit, oldest first, piece by piece; ``form`` is ``jsonl`` or ``text``. Memory stays flat."""
    render = as_jsonl if form == "jsonl" else as_text
    ends = list(lines(wanted).values_list("id", flat=True)[most - 1 : most])
    rows = lines(wanted).order_by("id")
    if ends:
        rows = rows.filter(id__gte=ends[0])
    for line in rows.iterator(chunk_size=1000):
        yield render(line) + "\n"


def known_values(column: str, most: int = 60) -> list[str]:
    """What occurs in a column of the newest lines, for a list to choose from."""
    newest = LogLine.objects.exclude(logger=STATUS_LOGGER).order_by("-id").values_list(column, flat=True)[:5000]
    return sorted({value for value in newest if value})[:most]


def oldest_first(rows: Iterable[LogLine]) -> list[LogLine]:
    """For pages that read downwards."""
    return list(rows)[::-1]
