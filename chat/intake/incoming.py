"""One thing that was said, as every transport hands it in."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from chat.models import ParticipantKind


@dataclass(slots=True)
class Incoming:
    """A message on its way in. ``external_id`` is the transport's own id ("" when it has none).

    ``mentions`` are Matrix ids or agents' names; ``hop`` is how many agents answered each other before it; ``extra`` is kept with
    the message's parts. ``guard`` is filled by the guards: the name of the one that keeps it from being answered.

    ``branched``: in a portal conversation it is said below ``parent_id`` (None: it begins the conversation anew), not at the tip.
    ``attachments`` are ids of files that came along.
    """

    transport: str
    external_id: str
    sender_id: str
    sender_name: str
    text: str
    received_at: datetime
    sender_kind: ParticipantKind = ParticipantKind.GUEST
    person_id: int | None = None
    sender_agent_id: int | None = None
    said_at: datetime | None = None
    hop: int = 0
    mentions: frozenset[str] = frozenset()
    in_reply_to: str = ""
    parts: list[dict[str, Any]] = field(default_factory=list)
    guard: str = ""
    notice: str = ""
    mirror: bool = False
    branched: bool = False
    parent_id: int | None = None
    attachments: tuple[UUID, ...] = ()
