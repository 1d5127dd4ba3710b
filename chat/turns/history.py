"""What was said before a message, for backends that keep no history themselves."""

from __future__ import annotations

from django.conf import settings
from django.db import connection

from agents.backends.base import HistoryItem
from chat.models import Message, MessageState, Role, Turn


def history_of(turn: Turn) -> list[HistoryItem]:
    """The newest ``HISTORY_MESSAGES`` before the turn's message: in a portal conversation those of its own branch, else all, by number."""
    limit = settings.HISTORY_MESSAGES
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
            .values_list("role", "text", "sender__name")[:limit]
        )
    return [
        HistoryItem("assistant" if role == Role.ASSISTANT else "user", text, name)
        for role, text, name in reversed(rows)
    ]


_BRANCH = """WITH RECURSIVE branch(id, parent_id, depth) AS (
SELECT id, parent_id, 1 FROM chat_message WHERE id = %s
UNION ALL SELECT earlier.id, earlier.parent_id, branch.depth + 1 FROM chat_message earlier
JOIN branch ON earlier.id = branch.parent_id WHERE branch.depth < %s)
SELECT message.role, message.text, speaker.name FROM branch JOIN chat_message message ON message.id = branch.id
JOIN chat_participant speaker ON speaker.id = message.sender_id
WHERE message.role <> 'notice' AND message.state <> 'redacted' ORDER BY branch.depth"""


def _branch(parent_id: int, limit: int) -> list[tuple[str, str, str]]:
    """The message ``parent_id`` and those before it in its branch, the latest first."""
    with connection.cursor() as cursor:
        cursor.execute(_BRANCH, [parent_id, limit])
        return list(cursor.fetchall())
