"""Files of messages, as backends are given them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from agents.backends.base import AttachedFile
from agents.backends.files import IMAGES, takes
from agents.backends.registry import kind_of
from agents.models import Agent
from chat.attachments import folder
from chat.models import Attachment, Message

MARK = "attachments"
# Of earlier messages the newest pictures are shown again, as long as they are few and small; texts and documents are only named.
HISTORY_IMAGES = 3
HISTORY_IMAGE_BYTES = 2_000_000


def mark(count: int) -> dict[str, Any]:
    """The part that says that a message has files, so that nobody has to look for files of those that have none."""
    return {"type": MARK, "count": count}


def has_files(message: Message) -> bool:
    return any(part.get("type") == MARK for part in message.parts)


def files_of(message: Message) -> list[AttachedFile]:
    """The files of a message; costs a query only where there are some."""
    return [as_file(one) for one in message.attachments.all()] if has_files(message) else []


def earlier_files(message_ids: Collection[int]) -> dict[int, list[Attachment]]:
    """The files of several messages, in one query."""
    found: dict[int, list[Attachment]] = {}
    if message_ids:
        for one in Attachment.objects.filter(message_id__in=message_ids).order_by("created_at", "id"):
            found.setdefault(one.message_id or 0, []).append(one)
    return found


def shown_again(newest_first: Sequence[Attachment]) -> set[Any]:
    """Keys of those files of earlier messages whose content is given once more."""
    kept: set[Any] = set()
    for one in newest_first:
        if one.media_type in IMAGES and one.size <= HISTORY_IMAGE_BYTES and len(kept) < HISTORY_IMAGES:
            kept.add(one.pk)
    return kept


def as_file(one: Attachment) -> AttachedFile:
    def read() -> bytes:
        with folder.open_content(one.path) as file:
            return file.read()

    return AttachedFile(one.name, one.media_type, one.size, read)


def cannot_take(agent: Agent, files: Sequence[Attachment]) -> str:
    """What a person is told whose files the agent cannot be given; "" when it takes all. Needs ``agent.service``."""
    traits, options = kind_of(agent.service.kind).traits, agent.service.options or {}
    left = [one.name for one in files if not takes(traits, options, one.media_type, one.size)]
    if not left:
        return ""
    names = ", ".join(f"“{name}”" for name in left)
    return f"{agent.name} cannot look into {names}; it is told what came, and not what is in it."
