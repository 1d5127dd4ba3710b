"""Shapes of the doctor's answers, for the description of the API."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from ninja import Field, Schema


class GuideStepOut(Schema):
    sentence: str
    snippet: str = Field(description="What to paste, with this installation's own values.")
    language: str = Field(examples=["nginx"])
    place: str = Field(description="The file or place it belongs to.")


class GuideOut(Schema):
    """The remedy for what lies outside Switchboard's reach."""

    title: str
    why: str
    steps: list[GuideStepOut]


class EntryOut(Schema):
    """A known failure of the catalogue and how it is covered."""

    number: int
    id: str = Field(examples=["net.dns"])
    group: str
    severity: str
    symptom: str
    cause: str
    coverage: str = Field(description="repair, guide, check, impossible or open")
    because: str = Field(description="Why it is impossible or still open.")
    checks: list[str]
    repairs: list[str]


class EntryList(Schema):
    items: list[EntryOut]


class CheckAboutOut(Schema):
    """What a check tests, what it needs, what mends it."""

    id: str
    title: str
    about: str
    tags: list[str]
    severity: str
    interval: float = Field(description="Seconds between two runs")
    timeout: float = Field(description="Seconds")
    scope: str
    live: bool = Field(description="Acts on the world; runs only when it is named.")
    depends_on: list[str]
    dependants: list[str]
    opens_after: int
    closes_after: int
    repairs: list[str]
    guide: bool
    entries: list[EntryOut]


class AffectedOut(Schema):
    target: str = Field(examples=["agent:42"])
    label: str
    sentence: str
    since: datetime


class OfferOut(Schema):
    repair: str
    title: str
    button: str
    repair_class: str = Field(alias="class", description="A automatic, C confirm, D destructive")
    target: str
    params: dict[str, Any]


class IssueOut(Schema):
    """The open failure of a check on a target. It closes by itself when the check passes."""

    id: int
    check: str
    title: str
    target: str
    state: str = Field(description="open, acknowledged, snoozed, ignored, fixing or resolved")
    status: str = Field(description="warn or fail")
    severity: str
    sentence: str
    evidence: dict[str, Any]
    affected_count: int
    root: int | None = Field(description="The issue that this one follows from")
    failures: int
    flaps: int
    opened_at: datetime
    last_failed_at: datetime
    passing_since: datetime | None
    resolved_at: datetime | None
    handled_by: str
    handled_at: datetime | None
    note: str
    snoozed_until: datetime | None
    fix: OfferOut | None
    guide: bool
    url: str


class IssueList(Schema):
    items: list[IssueOut]
    next: str | None


class IssueDetailOut(IssueOut):
    affected: list[AffectedOut]
    repairs: list[OfferOut]
    dependants: list[int]
    blocked: list[str]


class RepairFieldOut(Schema):
    name: str
    label: str
    help: str
    kind: str
    required: bool
    secret: bool
    choices: list[list[str]]
    default: Any


class RepairOut(Schema):
    """A registered repair."""

    id: str = Field(examples=["space.relink"])
    title: str
    repair_class: str = Field(alias="class")
    button: str
    explain: str
    fields: list[RepairFieldOut]
    target_kinds: list[str]
    checks: list[str] = Field(description="Checks that it mends")
    undo: bool
    long: bool = Field(description="Runs as a job")
    automatic: bool = Field(description="Allowed to run unattended")


class RepairList(Schema):
    items: list[RepairOut]


class ChangeOut(Schema):
    target: str
    what: str
    before: Any
    after: Any


class PlanOut(Schema):
    """What a repair would change; nothing has been done."""

    repair: str
    title: str
    repair_class: str = Field(alias="class")
    target: str
    sentence: str
    changes: list[ChangeOut]
    changes_count: int
    confirm_word: str = Field(description='Send it as "typed" to apply a destructive repair.')
    undo: bool
    unneeded: bool


class RepairRunOut(Schema):
    """One run of a repair: its difference, its receipt, whether it helped."""

    id: UUID
    repair: str
    target: str
    repair_class: str = Field(alias="class")
    issue: int | None
    state: str = Field(description="queued, running, succeeded, unproven, unneeded, failed or undone")
    sentence: str
    changes: list[ChangeOut]
    changes_count: int
    receipt: dict[str, Any]
    checks_before: dict[str, str]
    checks_after: dict[str, str]
    error: str
    actor: str
    job: str | None = Field(description="Where to follow it when it runs as a job")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    undo_until: datetime | None
    undoable: bool
    undone_at: datetime | None
    undone_by: str
    url: str


class RepairRunList(Schema):
    items: list[RepairRunOut]
    next: str | None
