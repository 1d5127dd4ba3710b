"""Log lines, errors in groups, captured calls."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from ninja import Field, Query, Router, Schema

from ops.api.answers import answer
from ops.api.inputs import LARGEST_ID, Body, Id, Text
from ops.api.paging import Paging, page
from ops.api.principals import principal_of
from ops.api.problems import REQUEST_INVALID, FieldError, Problem, not_found
from ops.choices import LogLevel
from ops.logbook import reader
from ops.logbook.capture import to_har
from ops.logbook.signatures import Dictionary, groups_since
from ops.models import Capture, LogLine
from ops.services.logbook import capture_start, capture_stop, exchanges_of

router = Router(tags=["Logs"])
captures_router = Router(tags=["Logs"])


class LogFilterIn(Schema):
    """Which lines; conditions are joined by "and"."""

    level: LogLevel = Field(LogLevel.INFO, description="The least level.")
    role: Text = Field("", description="up, web, worker or beat.")
    process: Text = Field("", description="One process by its name.")
    logger: Text = Field("", description="This logger and those below it.")
    service: Text = ""
    agent: Text = Field("", description="The agent's name.")
    message: Text = Field("", description="The id of a message.")
    request: Text = Field("", description="A request id: the `X-Request-Id` of an answer.")
    text: Text = Field("", max_length=300, description="Words that must all stand in the line, in any case.")
    since: datetime | None = None
    until: datetime | None = None

    def wanted(self) -> reader.LogFilter:
        """As readers understand it."""
        given = self.model_dump(exclude={"limit", "cursor", "after", "form", "hours"})
        try:
            return reader.LogFilter.parse(
                {name: v.isoformat() if isinstance(v, datetime) else (v or "") for name, v in given.items()}
            )
        except reader.FilterInvalid as error:
            raise Problem(REQUEST_INVALID, str(error), errors=[FieldError("query", str(error), "query")]) from None


class LogQuery(LogFilterIn, Paging):
    after: int | None = Field(
        None,
        ge=0,
        le=LARGEST_ID,
        description="Only lines behind this id, oldest first, for following. The last seconds are given once more: leave out "
        "ids that you have.",
    )


class ExportQuery(LogFilterIn):
    form: str = Field("jsonl", pattern="^(jsonl|text)$", description="jsonl or text")


class Explanation(Schema):
    meaning: str
    remedy: str
    check: str = Field(description="The check that is about it; empty when there is none.")


class LogLineOut(Schema):
    """One line of the log, without secrets."""

    id: int
    at: datetime
    level: str = Field(examples=["warning"])
    role: str
    process: str
    logger: str = Field(examples=["chat.turns.finish"])
    event: str = Field(examples=["turn.gave_up"])
    service: str
    agent: str
    message: str
    request: str
    extra: dict[str, Any]
    trace: str = Field(description="The traceback, if there is one.")
    known: Explanation | None = Field(description="What a warning or error means, when that is known.")


class LogLineList(Schema):
    items: list[LogLineOut]
    next: str | None


class ErrorGroupOut(Schema):
    """Errors that are the same but for names and numbers."""

    fingerprint: str
    count: int
    sample: str
    line: int = Field(description="The newest line.")
    first_at: datetime
    last_at: datetime
    known: Explanation | None


class ErrorGroups(Schema):
    items: list[ErrorGroupOut]


class ErrorQuery(Schema):
    hours: int = Field(24, ge=1, le=168)


class CaptureIn(Body):
    """What to write down, and for how long."""

    minutes: int = Field(5, ge=1, le=60)
    service: Text = Field("", description="Only calls to this service.")
    agent: Text = Field("", max_length=200, description="Only calls for this agent: its name, id or Matrix id.")


class CaptureOut(Schema):
    """An order to write calls down. It ends by itself."""

    id: UUID
    service: str
    agent: str
    started_at: datetime
    until: datetime
    started_by: str
    calls: int


class CaptureList(Schema):
    items: list[CaptureOut]
    next: str | None


def _line(dictionary: Dictionary) -> Any:
    def render(line: LogLine) -> dict[str, Any]:
        return {**reader.line_dict(line), "known": _known(dictionary.of_line(line))}

    return render


def _known(signature: Any) -> dict[str, str] | None:
    if signature is None:
        return None
    return {"meaning": signature.meaning, "remedy": signature.remedy, "check": signature.check}


@router.get("", response=LogLineList, operation_id="logs_list", summary="List log lines, newest first")
def logs_list(request: HttpRequest, query: Query[LogQuery]) -> HttpResponse:
    """With `after` it follows instead: lines behind that id, oldest first, and `next` is null."""
    render = _line(Dictionary())
    if query.after is not None:
        found = reader.behind(query.wanted(), query.after, most=query.limit)
        return answer({"items": [render(line) for line in found], "next": None})
    return page(request, reader.lines(query.wanted()), query, render=render, order=("-id",))


@router.get("/export", operation_id="logs_export", summary="Download log lines, oldest first", response={200: str})
def logs_export(request: HttpRequest, query: Query[ExportQuery]) -> StreamingHttpResponse:
    """All lines that fit, at most 100,000, as JSON lines or text."""
    pieces = (piece.encode("utf-8", "replace") for piece in reader.export(query.wanted(), query.form))
    kind = "application/x-ndjson" if query.form == "jsonl" else "text/plain; charset=utf-8"
    return StreamingHttpResponse(pieces, content_type=kind)


@router.get("/errors", response=ErrorGroups, operation_id="logs_errors", summary="List errors in groups")
def logs_errors(request: HttpRequest, query: Query[ErrorQuery]) -> HttpResponse:
    """New ones first; `known` says what the others mean."""
    groups = groups_since(timedelta(hours=query.hours))
    return answer(
        {
            "items": [
                {
                    "fingerprint": one.fingerprint,
                    "count": one.count,
                    "sample": one.sample,
                    "line": one.line_id,
                    "first_at": one.first_at,
                    "last_at": one.last_at,
                    "known": _known(one.signature),
                }
                for one in groups[:500]
            ]
        }
    )


@router.get("/{line_id}", response=LogLineOut, operation_id="logs_get", summary="Get a log line")
def logs_get(request: HttpRequest, line_id: Id) -> HttpResponse:
    line = LogLine.objects.filter(pk=line_id).first()
    if line is None:
        raise not_found("log line", line_id)
    return answer(_line(Dictionary())(line))


def _capture_dict(row: Capture) -> dict[str, Any]:
    return {
        "id": row.pk,
        "service": row.service,
        "agent": row.agent,
        "started_at": row.started_at,
        "until": row.until,
        "started_by": row.started_by,
        "calls": row.exchanges.count(),
    }


def _capture(capture_id: UUID) -> Capture:
    row = Capture.objects.filter(pk=capture_id).first()
    if row is None:
        raise not_found("capture", capture_id)
    return row


@captures_router.get("", response=CaptureList, operation_id="captures_list", summary="List captures of calls")
def captures_list(request: HttpRequest, query: Query[Paging]) -> HttpResponse:
    return page(request, Capture.objects.all(), query, render=_capture_dict, order=("-started_at", "id"))


@captures_router.post(
    "", response={201: CaptureOut}, operation_id="captures_start", summary="Capture calls for a while"
)
def captures_start(request: HttpRequest, body: CaptureIn) -> HttpResponse:
    """Writes calls to the homeserver and the backends down, without secrets. What people say is in the bodies."""
    row = capture_start(minutes=body.minutes, service=body.service, agent=body.agent, actor=principal_of(request).actor)
    return answer(_capture_dict(row), status=201)


@captures_router.post(
    "/{capture_id}/stop", response=CaptureOut, operation_id="captures_stop", summary="End a capture of calls"
)
def captures_stop(request: HttpRequest, capture_id: UUID) -> HttpResponse:
    row = _capture(capture_id)
    capture_stop(capture=row, actor=principal_of(request).actor)
    return answer(_capture_dict(row))


@captures_router.get(
    "/{capture_id}/har",
    response=dict[str, Any],
    operation_id="captures_har",
    summary="Get captured calls as an HTTP archive",
)
def captures_har(request: HttpRequest, capture_id: UUID) -> HttpResponse:
    row = _capture(capture_id)
    return answer(to_har(exchanges_of(row).iterator(chunk_size=100), settings.VERSION))
