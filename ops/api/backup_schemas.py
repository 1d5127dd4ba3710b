"""Shapes of what the API says of backups, their destinations, keys and plan."""

from __future__ import annotations

from datetime import datetime, time
from typing import Any
from uuid import UUID

from ninja import Field, Schema


class CopyOut(Schema):
    """One backup at one destination."""

    destination: str
    state: str = Field(description="waiting, stored, failed, missing or pruned")
    size: int
    attempts: int
    error: str
    stored_at: datetime | None
    checked_at: datetime | None


class BackupOut(Schema):
    """A backup. `good` is true only after a drill restored all of it."""

    id: UUID
    name: str
    reason: str = Field(description="manual, schedule, safety or found")
    state: str = Field(description="running, complete, partial (not at every destination) or failed")
    good: bool
    note: str
    version: str
    installation: str
    recipients: list[str] = Field(description="Fingerprints of the keys that open it.")
    size: int
    sha256: str
    rows: int
    missing: dict[str, Any] = Field(description="Parts that should be in it and are not, with why.")
    error: str
    actor: str
    job: UUID | None
    pinned: bool
    made_at: datetime = Field(description="The moment that it holds.")
    finished_at: datetime | None
    verified_at: datetime | None
    verify_error: str
    good_at: datetime | None
    copies: list[CopyOut]
    url: str
    admin_url: str


class DrillOut(Schema):
    """One restore into a scratch place. `steps` are `{step, ok, sentence, seconds}`."""

    id: int
    backup: UUID
    destination: str | None
    state: str = Field(description="running, passed or failed")
    steps: list[dict[str, Any]]
    findings: list[dict[str, Any]]
    rows: int
    seconds: float
    error: str
    actor: str
    started_at: datetime
    finished_at: datetime | None


class BackupDetailOut(BackupOut):
    """A backup with what is in it and its last drills."""

    parts: dict[str, Any]
    tables: dict[str, int] = Field(description="Rows of each table.")
    drills: list[DrillOut]


class BackupList(Schema):
    items: list[BackupOut]
    next: str | None


class DrillList(Schema):
    items: list[DrillOut]
    next: str | None


class StandingOut(Schema):
    """How all backups stand together."""

    status: str = Field(description="good, attention or trouble")
    sentence: str
    hints: list[str]
    last_good: UUID | None
    last_good_at: datetime | None
    newest: UUID | None
    newest_at: datetime | None
    running: UUID | None
    next_at: datetime | None


class PruneLineOut(Schema):
    name: str
    made_at: datetime
    size: int
    goes: bool
    why: str


class PruneOut(Schema):
    """What the rules of each destination keep, by its name."""

    plan: dict[str, list[PruneLineOut]]
    removed: int
    freed: int
    findings: list[dict[str, Any]]


class DestinationOut(Schema):
    """A destination for copies. Credentials are never shown."""

    id: int
    name: str
    kind: str = Field(description="folder or s3")
    options: dict[str, Any]
    credentials_set: list[str]
    enabled: bool
    keep_last: int
    keep_daily: int
    keep_weekly: int
    keep_monthly: int
    last_ok_at: datetime | None
    last_error: str
    last_error_at: datetime | None
    created_at: datetime


class DestinationList(Schema):
    items: list[DestinationOut]
    next: str | None


class DestinationTestOut(Schema):
    ok: bool
    sentence: str


class KeyOut(Schema):
    """The public half of a recovery key."""

    id: int
    label: str
    recipient: str
    fingerprint: str
    created_at: datetime
    created_by: str
    confirmed_at: datetime | None
    retired_at: datetime | None


class KeyMadeOut(KeyOut):
    """A key that was made. `secret` is shown this once; type it back at `/confirm`, before that it counts for no backup."""

    secret: str | None = Field(
        description="Null when the public half was given: the secret one is known to whoever made it."
    )


class KeyList(Schema):
    items: list[KeyOut]
    next: str | None


class PlanOut(Schema):
    """When backups are made by themselves."""

    enabled: bool
    every_hours: int
    at: time | None
    timezone: str
    jitter_minutes: int
    contents: list[str]
    drill_every_days: int
    next_at: datetime | None
    last_attempt_at: datetime | None
    last_complete_at: datetime | None
    last_drill_at: datetime | None
