"""Shapes of answers to people, for the description of the API."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ninja import Field, Schema


class AgentChoiceOut(Schema):
    """An agent that the person may talk to."""

    id: int
    name: str
    description: str
    avatar_url: str
    model: str
    state: str = Field(description="active, or missing: not in its server's last list")
    paused: bool
    memory_policy: str = Field(
        description="isolated: each conversation has its own history; shared: one memory for all"
    )


class AgentChoiceList(Schema):
    items: list[AgentChoiceOut]
    next: str | None


class AgentBriefOut(Schema):
    id: int
    name: str
    state: str


class ConversationOfPersonOut(Schema):
    """A conversation as its person sees it."""

    id: int
    title: str
    titled: bool = Field(description="The person gave it this title; otherwise it was made from the first message.")
    agent: AgentBriefOut | None
    head: int | None = Field(description="The last message of the branch that is shown.")
    revision: int = Field(description="Rises with every change of what was said before.")
    last_seq: int
    last_read_seq: int
    unread: int = Field(description="Messages of others beyond `last_read_seq`; at most 100 are counted.")
    pinned: bool
    archived: bool
    draft: dict[str, Any] = Field(description="`text`, `attachments` and `at`, or nothing at all.")
    created_at: datetime
    last_message_at: datetime


class ConversationsOfPersonList(Schema):
    items: list[ConversationOfPersonOut]
    next: str | None


class PlaceOut(Schema):
    """The Matrix room that shows the conversation as well."""

    room_id: str
    alias: str
    url: str = Field(description="Opens the room in a Matrix client.")


class SenderOut(Schema):
    name: str
    kind: str = Field(description="person, agent or guest")
    agent: int | None
    person: int | None


class AttachmentOut(Schema):
    """A file. `url` is for whoever is in the conversation; `media_type` was found by looking into it."""

    id: str
    name: str
    media_type: str
    size: int = Field(description="Bytes.")
    width: int | None
    height: int | None
    url: str


class ConversationOfPersonDetailOut(ConversationOfPersonOut):
    room: PlaceOut | None
    draft_attachments: list[AttachmentOut] = Field(description="The draft's files that are still there.")
    people: int = Field(description="How many people have this conversation in the portal.")


class ApprovalOut(Schema):
    """A tool call that waits for a word, or got one."""

    id: str | None
    name: str | None
    arguments: Any = None
    approve: bool | None
    by: str | None
    reason: str | None
    at: datetime | None


class TurnBriefOut(Schema):
    """An agent's answer to a message."""

    id: int
    agent: int
    message: int
    reply: int | None
    state: str = Field(description="queued, running, waiting_approval, done, failed, cancelled, timed_out or dead")
    variant: int = Field(description="0: the first answer; more: it was asked to answer again.")
    error_code: str
    error: str = Field(description="A sentence for people.")
    finish_reason: str
    created_at: datetime
    started_at: datetime | None
    first_token_at: datetime | None
    finished_at: datetime | None
    input_tokens: int | None
    output_tokens: int | None
    approvals: list[ApprovalOut]


class MessageOfPersonOut(Schema):
    """One thing that was said."""

    id: int
    conversation: int
    seq: int
    parent: int | None
    role: str = Field(description="user, assistant or notice")
    sender: SenderOut
    text: str
    html: str = Field(description="Sanitised; empty for what people say, which is shown as it is.")
    parts: list[dict[str, Any]] = Field(description="Reasoning, texts, tool calls and results, in order.")
    attachments: list[AttachmentOut]
    siblings: list[int] = Field(description="All versions of it, itself among them; empty when there is one only.")
    state: str = Field(description="stored, held (not answered) or redacted (taken back)")
    in_reply_to: int | None
    turn: TurnBriefOut | None
    transport: str
    client_id: str
    said_at: datetime
    revision: int


class BranchOut(Schema):
    """A page of the branch that is shown, oldest first. `before` is for the page of what was said earlier."""

    items: list[MessageOfPersonOut]
    before: int | None = Field(description="Send it as `before` for the page before this one; null: there is none.")
    head: int | None
    revision: int
    last_seq: int


class SaidOut(Schema):
    """What was said, and the turn that answers it (null: nobody does)."""

    message: MessageOfPersonOut
    turn: TurnBriefOut | None
    repeated: bool = Field(description="It was here already, under the same client id.")


class ReadOut(Schema):
    last_read_seq: int
    unread: int


class DraftOut(Schema):
    draft: dict[str, Any]


class TurnTextOfPersonOut(Schema):
    """A turn with its text so far."""

    turn: TurnBriefOut
    text: str
    attempt: int
    final: bool
