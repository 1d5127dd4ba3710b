"""Shapes of the operators' API about people: who they are, how they join, what they have open, what they use."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from ninja import Field, Schema
from pydantic import AwareDatetime

from ops.api.inputs import LARGEST_ID, Body, Text


class PersonOut(Schema):
    """Somebody who may sign in."""

    id: int
    username: str
    display_name: str
    email: str
    role: str = Field(description="person or operator")
    is_active: bool
    matrix_user_id: str
    all_agents: bool
    second_factor: bool
    sessions: int = Field(description="Browsers that are signed in.")
    failures: int = Field(description="Failed attempts to get in within seven days.")
    joined_at: datetime
    last_seen_at: datetime | None
    deactivated_at: datetime | None
    deactivated_by: str
    deactivated_reason: str
    url: str


class PersonList(Schema):
    items: list[PersonOut]
    next: str | None


class PersonDetailOut(PersonOut):
    agents: list[int] = Field(description="The agents that they may talk to, unless `all_agents`.")
    quota: list[dict[str, Any]] = Field(description="Limits that hold for them: what, used today, limit.")


class ReasonIn(Body):
    reason: Text = Field("", max_length=500, examples=["Left the team"])


class PersonAgentsIn(Body):
    all_agents: bool = False
    agents: list[int] = Field(
        default_factory=list, max_length=10_000, description="Ids of agents; none with `all_agents`."
    )


class LinkOut(Schema):
    """A link that counts once. It is stored nowhere, and cannot be shown again."""

    link: str


class SessionOut(Schema):
    """Something by which a person is signed in."""

    kind: str = Field(description="browser, program or token")
    key: str
    what: str
    address: str | None
    since: datetime
    last_used_at: datetime | None


class SessionList(Schema):
    items: list[SessionOut]
    next: str | None


class InviteIn(Body):
    """An invitation to be made. Without `all_agents` name the agents."""

    role: str = Field("person", max_length=10, description="person or operator")
    max_uses: int | None = Field(1, ge=1, le=1_000_000, description="null: any number.")
    expires_at: AwareDatetime | None = Field(None, description="null: no end.")
    all_agents: bool = True
    agents: list[int] = Field(default_factory=list, max_length=10_000)
    note: Text = Field("", max_length=255, examples=["The team in Lyon"])


class InviteChangeIn(Body):
    """Only what is given changes; null is no limit."""

    max_uses: int | None = Field(None, ge=1, le=1_000_000)
    expires_at: AwareDatetime | None = None


class InviteOut(Schema):
    """An invitation. Of its code only the beginning is known."""

    id: int
    code_begins: str
    state: str = Field(description="open, used_up, expired or revoked")
    role: str
    uses: int
    max_uses: int | None
    expires_at: datetime | None
    all_agents: bool
    agents: list[int]
    note: str
    made_by: str | None
    created_at: datetime
    revoked_at: datetime | None
    revoked_by: str
    joined: list[str] = Field(description="User names, the latest first; at most a hundred.")
    url: str


class InviteList(Schema):
    items: list[InviteOut]
    next: str | None


class InviteMadeOut(InviteOut):
    code: str = Field(description="Shown once: it is not stored.")
    link: str


class CodeIn(Body):
    code: Text = Field(max_length=300)


class InviteCheckOut(Schema):
    """What is true about a code."""

    counts: bool
    reason: str = Field(description="ok, not_found, invalid, expired, used_up or revoked")
    sentence: str
    invite: int | None


class QuotaIn(Body):
    """For exactly one of person, agent and role. Two nulls take the limit away."""

    person: int | None = Field(None, ge=1, le=LARGEST_ID)
    agent: int | None = Field(None, ge=1, le=LARGEST_ID)
    role: str = Field("", max_length=10, description="person or operator")
    messages_per_day: int | None = Field(None, ge=0, le=2**31 - 1)
    tokens_per_day: int | None = Field(None, ge=0, le=2**53)


class QuotaOut(Schema):
    """A limit for a day of UTC, with what is used of it today (null for a role: it is a limit for each of its people)."""

    id: int
    person: int | None
    agent: int | None
    role: str
    messages_per_day: int | None
    tokens_per_day: int | None
    messages_used: int | None
    tokens_used: int | None


class QuotaList(Schema):
    items: list[QuotaOut]
    next: str | None


class UsageOut(Schema):
    """Sums of one day, person, agent or role."""

    key: str
    label: str
    messages: int
    answers: int
    input_tokens: int
    output_tokens: int


class UsageSums(Schema):
    since: date
    by: str
    total: UsageOut
    items: list[UsageOut]


class AttemptOut(Schema):
    """An attempt to get in, with what really came of it."""

    id: int
    kind: str
    outcome: str
    name: str
    person: int | None
    invite: int | None
    address: str | None
    user_agent: str
    at: datetime


class AttemptList(Schema):
    items: list[AttemptOut]
    next: str | None
