"""What was said before a message, for backends that keep no history themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.models import Exists, OuterRef

from agents.backends.base import HistoryItem
from agents.backends.files import remark
from chat.models import Attachment, Message, MessageState, Role, Turn
from chat.turns.client import TRANSPORT
from chat.turns.files import as_file, earlier_files, shown_again

_WHOLE = 100_000


def history_of(turn: Turn) -> list[HistoryItem]:
    """The newest ``HISTORY_MESSAGES`` before the turn's message: in a portal conversation those of its own branch, else all, by number."""
    # A client of the OpenAI-compatible API chose itself what is to be known.
    limit = _WHOLE if turn.message.transport == TRANSPORT else settings.HISTORY_MESSAGES
    if not limit:
        return []
    if turn.message.parent_id is not None:
        rows = _branch(turn.message.parent_id, limit)
    else:
        # In a portal conversation a message without a parent begins it, so nothing was said before.
        rows = list(
            Message.objects.filter(
                conversation_id=turn.conversation_id, conversation__portal=False, seq__lt=turn.message.seq
            )
            .exclude(role=Role.NOTICE)
            .exclude(state=MessageState.REDACTED)
            .order_by("-seq")
            .values_list("role", "text", "sender__name", "pk", Exists(_FILES))[:limit]
        )
    files = earlier_files([pk for *_, pk, has_files in rows if has_files])
    again = shown_again([one for row in rows for one in files.get(row[3], [])])
    return [_item(role, text, name, files.get(pk, []), again) for role, text, name, pk, _ in reversed(rows)]


_FILES = Attachment.objects.filter(message=OuterRef("pk"))


def _item(role: str, text: str, name: str, files: Sequence[Attachment], again: set[Any]) -> HistoryItem:
    """A message with its files: some pictures once more, the others by name."""
    shown = [as_file(one) for one in files if one.pk in again]
    named = [remark(as_file(one)) for one in files if one.pk not in again]
    text = "\n".join(filter(None, [text, *named]))
    return HistoryItem("assistant" if role == Role.ASSISTANT else "user", text, name, shown)


_BRANCH = """WITH RECURSIVE branch(id, parent_id, depth) AS (
SELECT id, parent_id, 1 FROM chat_message WHERE id = %s
UNION ALL SELECT earlier.id, earlier.parent_id, branch.depth + 1 FROM chat_message earlier
JOIN branch ON earlier.id = branch.parent_id WHERE branch.depth < %s)
SELECT message.role, message.text, speaker.name, message.id,
EXISTS (SELECT 1 FROM chat_attachment file WHERE file.message_id = message.id) FROM branch JOIN chat_message message ON message.id = branch.id
JOIN chat_participant speaker ON speaker.id = message.sender_id
WHERE message.role <> 'notice' AND message.state <> 'redacted' ORDER BY branch.depth"""


def _branch(parent_id: int, limit: int) -> list[tuple[str, str, str, int, bool]]:
    """The message ``parent_id`` and those before it in its branch, the latest first."""
    with connection.cursor() as cursor:
        cursor.execute(_BRANCH, [parent_id, limit])
        return list(cursor.fetchall())
