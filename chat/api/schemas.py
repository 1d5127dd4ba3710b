"""Shapes of answers about what is said, for the description of the API."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ninja import Field, Schema


class ParticipantOut(Schema):
    """Somebody in a conversation. `external_id` is a user name, a Matrix id, or the agent's number."""

    id: int
    kind: str = Field(description="person, agent or guest")
    name: str
    external_id: str
    agent: int | None


class MessageOut(Schema):
    """One thing that was said, numbered in its conversation."""

    id: int
    conversation: int
    seq: int
    role: str = Field(description="user, assistant or notice")
    state: str = Field(description="stored, held (a guard kept it from being answered) or redacted")
    guard: str
    sender: ParticipantOut
    text: str
    parts: list[dict[str, Any]] = Field(description="Reasoning, tool calls and results, in order.")
    transport: str
    external_id: str
    in_reply_to: int | None
    hop: int
    said_at: datetime | None
    received_at: datetime
    stored_at: datetime
    url: str


class MessageList(Schema):
    items: list[MessageOut]
    next: str | None


class HopOut(Schema):
    """One hop of a message's way."""

    name: str = Field(description="said, received, stored, started, first_token, finished, delivered")
    label: str
    at: datetime | None
    lamp: str = Field(description="good, working, trouble or off")
    note: str
    after_ms: float | None


class TurnLinks(Schema):
    self: str
    text: str
    stream: str
    cancel: str
    message: str


class TurnOut(Schema):
    """One agent's answer to one message."""

    id: int
    conversation: int
    agent: int
    agent_name: str
    message: int
    reply: int | None = Field(description="The message with the answer, once it is there.")
    seq: int
    state: str = Field(description="queued, running, waiting_approval, done, failed, cancelled, timed_out or dead")
    attempts: int
    waits: int
    not_before: datetime
    stop_requested_by: str
    finish_reason: str
    input_tokens: int | None
    output_tokens: int | None
    error_code: str
    error_public: str = Field(description="What the person was told.")
    error_reason: str = Field(description="What really happened.")
    created_at: datetime
    started_at: datetime | None
    first_token_at: datetime | None
    finished_at: datetime | None
    links: TurnLinks


class TurnList(Schema):
    items: list[TurnOut]
    next: str | None


class TurnTextOut(Schema):
    """The text of an answer behind `from`. Offsets count Unicode code points. `final`: there will be no more."""

    turn: int
    state: str
    attempt: int = Field(description="Another number than before: the answer was begun anew, read it from 0.")
    start: int = Field(alias="from")
    text: str
    length: int = Field(description="Of the whole text; the next `from`.")
    final: bool


class DeliveryOut(Schema):
    """A message for one place: the outbox. `events` are the Matrix events that show it."""

    id: int
    message: int | None
    turn: int | None
    target: str
    room: int | None
    room_name: str
    account: str | None
    speak_as: str
    notice: bool
    state: str = Field(description="streaming, queued, running, sent, dead or discarded")
    attempts: int
    not_before: datetime
    edits: int
    events: list[str]
    error_code: str
    error_reason: str
    created_at: datetime
    sent_at: datetime | None


class DeliveryList(Schema):
    items: list[DeliveryOut]
    next: str | None


class MessageDetailOut(MessageOut):
    """A message with its way, its turns and where it was shown."""

    trace: list[HopOut]
    turns: list[TurnOut]
    deliveries: list[DeliveryOut]


class SentOut(Schema):
    """The stored message and the turn that answers it. Follow `turn.links.stream`."""

    message: MessageOut
    turn: TurnOut
    repeated: bool = Field(description="It was here already, under the same Idempotency-Key.")


class LinkOut(Schema):
    kind: str = Field(description="room or api")
    room: int | None
    room_id: str | None


class ConversationOut(Schema):
    """What is said, in order. `agent` answers in it."""

    id: int
    title: str
    agent: int | None
    messages: int
    links: list[LinkOut]
    created_at: datetime
    last_message_at: datetime | None
    url: str


class ConversationList(Schema):
    items: list[ConversationOut]
    next: str | None


class ConversationDetailOut(ConversationOut):
    participants: list[ParticipantOut]
