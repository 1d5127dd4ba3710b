"""Files that people send in rooms: fetched from the homeserver when the agent is to be given them, and kept as attachments.

Intake only notes that there is one (a part of type ``media``), since a homeserver that is slow with files must not hold up everything
else that it pushes. A file that cannot be had leaves the message as it is, with a sentence for the agent and one for the room.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from django.db import transaction

from agents.matrix.crypto import files
from agents.matrix.errors import MatrixError
from agents.matrix.markdown import clean_text
from agents.services.backends import NoHomeserver, homeserver_of
from chat import live
from chat.attachments import folder
from chat.deliveries import outbox
from chat.models import Attachment, Link, Message, Turn
from chat.services import tree
from chat.services.attachments import AttachmentRefused, attachment_take_in, largest_bytes, too_large
from chat.turns.files import cannot_take, mark
from chat.wakeup import wake_deliveries
from ops.logs import get_logger
from ops.secrets import SecretUnreadable, seal_text, unseal_text

log = get_logger(__name__)

PART = "media"


def part(url: str, name: str, size: int | None, key: dict[str, Any] | None = None) -> dict[str, Any]:
    """What intake notes of a file. ``key``: how an encrypted one is opened; it is kept sealed, and until then only."""
    noted = {"type": PART, "url": url[:500], "name": clean_text(name)[:255] or "file", "size": size}
    return {**noted, "sealed": seal_text(json.dumps(key))} if key else noted


def waits(message: Message) -> bool:
    """Whether the message has a file that was not fetched yet."""
    return any(one.get("type") == PART and "problem" not in one for one in message.parts)


def text_for_agent(message: Message) -> str:
    """The text, with what has to be said of files that could not be had."""
    problems = [one["problem"] for one in message.parts if one.get("type") == PART and one.get("problem")]
    return "\n".join([message.text, *(f"[Its content cannot be passed on to you: {one}]" for one in problems)])


def fetch(turn: Turn) -> None:
    """Fetch the files of the turn's message. Never raises for a file that cannot be had: the message then says why."""
    message, link = turn.message, _room_link(turn.conversation_id)
    found: list[Attachment] = []
    parts: list[dict[str, Any]] = []
    problems: list[str] = []
    for one in message.parts:
        if one.get("type") != PART or "problem" in one:
            parts.append(one)
            continue
        try:
            found.append(_fetch_one(one, turn, link))
        except (AttachmentRefused, MatrixError, NoHomeserver) as error:
            log.info("media.not_fetched", error=error.sentence[:300])
            problems.append(f"“{one['name']}”: {error.sentence}")
            parts.append(
                {**{key: value for key, value in one.items() if key != "sealed"}, "problem": error.sentence[:500]}
            )
    _write(turn, found, [*parts, mark(len(found))] if found else parts)
    told = [f"{turn.agent.name} could not be given {problem}" for problem in problems]
    told += filter(None, [cannot_take(turn.agent, found)])
    if told and link is not None and link.room is not None:
        with transaction.atomic():
            row = outbox.notice(turn.conversation, link.room, " ".join(told), about=message, account=turn.agent.account)
            transaction.on_commit(partial(wake_deliveries, [row.pk]))


def _room_link(conversation_id: int) -> Link | None:
    rows = Link.objects.filter(conversation_id=conversation_id, room__isnull=False)
    return rows.select_related("room__homeserver").first()


def _fetch_one(one: dict[str, Any], turn: Turn, link: Link | None) -> Attachment:
    if link is None or link.room is None:
        raise AttachmentRefused("Its room is not known any more.", code="attachment.gone")
    if one.get("size") and one["size"] > largest_bytes():
        raise too_large()
    account = turn.agent.account
    with folder.being_written() as target:
        client = homeserver_of(link.room.homeserver).client
        reader = account.user_id if account is not None else None
        client.download_media(one["url"], target, limit=largest_bytes(), user_id=reader)
        target.seek(0)
        if one.get("sealed"):
            data = _opened(target.read(), one["sealed"])
            target.seek(0)
            target.truncate()
            target.write(data)
            target.seek(0)
        return attachment_take_in(file=target, name=one["name"], owner=turn.message.sender.person)


def _opened(data: bytes, sealed: str) -> bytes:
    try:
        return files.opened(data, json.loads(unseal_text(sealed)))
    except SecretUnreadable as error:
        raise AttachmentRefused("The key to it can no longer be read.", code="attachment.gone") from error


def _write(turn: Turn, found: list[Attachment], parts: list[dict[str, Any]]) -> None:
    """Message and files in one transaction; whoever shows the message is told that it changed."""
    message = turn.message
    with transaction.atomic():
        message.revision = tree.revised(turn.conversation_id)
        message.parts = parts
        Message.objects.filter(pk=message.pk).update(parts=parts, revision=message.revision)
        Attachment.objects.filter(pk__in=[one.pk for one in found]).update(
            message=message, conversation_id=turn.conversation_id
        )
        live.message_stored(message)
