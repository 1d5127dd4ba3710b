"""Shapes of answers, for the description of the API. Views render plain values; tests hold them against these."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from ninja import Field, Schema


class ServiceOut(Schema):
    """An outside server. Credentials are never shown: `credentials_set` names those that are there."""

    name: str = Field(examples=["letta"])
    kind: str = Field(examples=["letta"])
    base_url: str = Field(examples=["http://127.0.0.1:8283"])
    options: dict[str, Any]
    credentials_set: list[str] = Field(description="Names of the stored credentials.", examples=[["token"]])
    credentials_readable: bool = Field(description="False when the key that encrypted them is missing.")
    enabled: bool
    managed_by: str = Field(description="operator or environment")
    status: str = Field(description="unknown, ok, degraded, down or off")
    status_sentence: str
    status_changed_at: datetime | None
    last_ok_at: datetime | None
    checked_at: datetime | None
    version: str
    capabilities: dict[str, Any]
    latency_ms: int | None
    created_at: datetime
    updated_at: datetime


class ServiceList(Schema):
    items: list[ServiceOut]
    next: str | None


class ServiceTestOut(Schema):
    """What a test of the connection said."""

    status: str = Field(description="ok, degraded or down")
    sentence: str
    version: str
    latency_ms: int | None
    service: ServiceOut


class JobOut(Schema):
    """A long action."""

    id: UUID
    kind: str = Field(examples=["agents.sync"])
    title: str
    state: str = Field(description="queued, running, succeeded, failed or cancelled")
    progress_done: int
    progress_total: int
    progress_text: str
    params: dict[str, Any]
    result: dict[str, Any] | None
    error: str
    actor: str
    trigger: str
    cancel_requested: bool
    attempts: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    url: str


class JobList(Schema):
    items: list[JobOut]
    next: str | None


class JobLineOut(Schema):
    id: int
    at: datetime
    level: str
    text: str


class JobDetailOut(JobOut):
    """A job with its log, oldest line first; `lines_after` of the next request is the last `id`."""

    lines: list[JobLineOut]


class CheckOut(Schema):
    """The last outcome of one check on one target ("" for the whole installation)."""

    check: str = Field(examples=["db.reachable"])
    title: str
    target: str
    status: str = Field(description="pass, warn, fail, skip or blocked")
    severity: str = Field(description="How bad a failure of it is: info, warning, error or critical")
    sentence: str
    evidence: dict[str, Any]
    since: datetime
    failures_in_a_row: int
    duration_ms: int
    checked_at: datetime


class CheckList(Schema):
    items: list[CheckOut]
    next: str | None


class CheckRunOut(Schema):
    check: str
    title: str
    target: str
    status: str
    severity: str
    sentence: str
    evidence: dict[str, Any]
    affected: list[dict[str, str]] = Field(description="The first objects with which something is wrong")
    affected_count: int
    duration_ms: int


class CheckRuns(Schema):
    runs: list[CheckRunOut]


class AuditOut(Schema):
    """Who did what, when, to what. Secrets were masked when it was written."""

    id: int
    at: datetime
    actor: str = Field(examples=["token:ci"])
    action: str = Field(examples=["service.changed"])
    target_type: str
    target_id: str
    target_label: str
    message: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    request_id: str


class AuditList(Schema):
    items: list[AuditOut]
    next: str | None


class PersonOut(Schema):
    id: int
    username: str
    name: str


class TokenOut(Schema):
    name: str
    prefix: str
    expires_at: datetime | None
    last_used_at: datetime | None


class MeOut(Schema):
    """Who is calling, and what they may do."""

    actor: str = Field(examples=["token:ci"])
    scope: str = Field(description="read or write")
    person: PersonOut
    token: TokenOut | None = Field(description="null for the admin's session")
    version: str = Field(description="Of Switchboard")


class FieldErrorOut(Schema):
    field: str = Field(examples=["text"])
    place: str = Field(alias="in", description="body, query, path or header", examples=["body"])
    message: str = Field(examples=["This field is required."])


class ProblemOut(Schema):
    """Every error (RFC 9457). `code` is stable; `detail` says what is wrong and what to do."""

    type: str = Field(examples=["urn:switchboard:problem:request.invalid"])
    title: str = Field(examples=["Some fields are not right"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["Correct and send again: text."])
    instance: str = Field(examples=["/api/v1/agents/7/messages"])
    code: str = Field(examples=["request.invalid"])
    errors: list[FieldErrorOut]
    request_id: str = Field(
        description="The same in the log and in the audit.", examples=["0c4b1f9be2a14d0f9b0e5a2c4d1e7f30"]
    )
