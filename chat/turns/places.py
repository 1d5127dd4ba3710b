"""In which of the server's own conversations a turn is answered, for backends that keep history and have conversations.

A room's conversation is one of theirs. In the portal a conversation has branches, and what was said in one must not be remembered in
another: a branch that goes on where the server's conversation ends goes on there; any other gets one of its own, which begins with what
was said before in the branch. (Letta 0.16.8 can fork a conversation, but only with all that was said in it, so that is of no use here.)
"""

from __future__ import annotations

from dataclasses import dataclass, field

from django.db import connection
from django.db.models import QuerySet

from agents.backends.base import Backend, HistoryItem
from agents.models import Agent, MemoryPolicy
from chat.models import Conversation, Participant, Turn
from chat.turns.history import history_of
from chat.turns.speaker import speaker_of
from ops.prepared import PreparedRead

# So many messages back is looked for the turn that a branch goes on from.
LOOKED_BACK = 100
GONE = "-"


@dataclass(frozen=True, slots=True)
class Place:
    """The server's conversation ("": none, or shared), and what it has to be told of what was said before."""

    ref: str
    history: list[HistoryItem] = field(default_factory=list)


def place_of(turn: Turn, backend: Backend, installation: str) -> Place:
    """Where the turn is answered; a conversation that is needed is made. Raises ``BackendError``."""
    if turn.agent.memory_policy != MemoryPolicy.ISOLATED:
        return Place("")
    row = speaker_of(turn)
    if turn.backend_ref:
        return Place(turn.backend_ref, _untold(turn, turn.backend_ref))
    if turn.message.parent_id is None and not _portal.first(turn.conversation_id):
        return _in_main(turn, row, backend, installation)
    before = _turn_before(turn)
    if before is None:
        ref = "" if row.backend_ref else _open_main(turn, row, backend, installation)
    else:
        ref = before.backend_ref or row.backend_ref
    if ref in {"", GONE} or (before is not None and _last_in(turn, ref) != before.pk):
        # The time for the same reason as in ``_key``: another branch of a former life must not be taken up.
        begun = int(turn.created_at.timestamp() * 1e6)
        ref = _open(turn, backend, f"{_key(turn, installation)}-{turn.pk}-{begun:x}")
    if ref:
        Turn.objects.filter(pk=turn.pk).update(backend_ref=ref)
        turn.backend_ref = ref
    return Place(ref, _untold(turn, ref))


def _in_main(turn: Turn, row: Participant, backend: Backend, installation: str) -> Place:
    """The room's one conversation on the server. One that is opened because the agent has moved there is told what was said before."""
    moved = row.backend_ref == GONE
    ref = (not moved and row.backend_ref) or _open_main(turn, row, backend, installation)
    # Another attempt cannot know whether the first one has told it.
    if ref and (moved or turn.attempts > 1) and not _answered_in(turn, ref).exists():
        return Place(ref, history_of(turn))
    return Place(ref)


def known_place(turn: Turn) -> str:
    """The server's conversation in which the turn was answered so far; "" when there was none."""
    known = turn.backend_ref or speaker_of(turn).backend_ref
    return "" if known == GONE else known


def place_gone(turn: Turn) -> None:
    """Somebody deleted it on the server. The next attempt opens another one."""
    rows = Participant.objects.filter(conversation_id=turn.conversation_id, agent_id=turn.agent_id)
    if turn.backend_ref:
        rows = rows.filter(backend_ref=turn.backend_ref)
        Turn.objects.filter(conversation_id=turn.conversation_id, backend_ref=turn.backend_ref).update(backend_ref=GONE)
        Turn.objects.filter(pk=turn.pk).update(backend_ref="")
    rows.update(backend_ref="")


def remembers_branches(agent: Agent) -> bool:
    """Whether the agent itself remembers an earlier version of what was edited or answered again: it keeps all in one history.

    Needs ``agent.service``.
    """
    from agents.backends.registry import kind_of

    traits = kind_of(agent.service.kind).traits
    if not traits.keeps_history:
        return False
    separate = traits.has_conversations and (agent.service.capabilities or {}).get("conversations", True)
    return not separate or agent.memory_policy != MemoryPolicy.ISOLATED


def _open_main(turn: Turn, row: Participant, backend: Backend, installation: str) -> str:
    ref = _open(turn, backend, _key(turn, installation))
    if ref:
        # Only the first of two racing workers writes; the other one's conversation on the server stays unused.
        Participant.objects.filter(pk=row.pk, backend_ref__in=["", GONE]).update(backend_ref=ref)
        row.refresh_from_db(fields=["backend_ref"])
    return "" if row.backend_ref == GONE else row.backend_ref


def _key(turn: Turn, installation: str) -> str:
    """Names our conversation to the server. The time keeps a database that was lost and begun anew from its former conversations."""
    born = int(turn.conversation.created_at.timestamp() * 1e6)
    return f"switchboard-{installation}-{turn.conversation_id}-{born:x}"


def _open(turn: Turn, backend: Backend, key: str) -> str:
    title = turn.conversation.title or turn.agent.name
    return backend.open_conversation(turn.agent.external_id, title=title, key=key)


def _answered_in(turn: Turn, ref: str) -> QuerySet[Turn]:
    """Other turns that were answered in this conversation of the server (those from before it became a tree: in the main one)."""
    refs = [ref, ""] if ref == speaker_of(turn).backend_ref else [ref]
    others = Turn.objects.filter(conversation_id=turn.conversation_id, agent_id=turn.agent_id, backend_ref__in=refs)
    return others.filter(started_at__isnull=False).exclude(pk=turn.pk)


def _untold(turn: Turn, ref: str) -> list[HistoryItem]:
    """What was said before in the branch, for a conversation in which nothing was answered yet."""
    if not ref or turn.message.parent_id is None or _answered_in(turn, ref).exists():
        return []
    return history_of(turn)


_BEFORE = """WITH RECURSIVE branch(id, parent_id, depth) AS (
SELECT id, parent_id, 1 FROM chat_message WHERE id = %s
UNION ALL SELECT earlier.id, earlier.parent_id, branch.depth + 1 FROM chat_message earlier
JOIN branch ON earlier.id = branch.parent_id WHERE branch.depth < %s)
SELECT turn.id FROM chat_turn turn JOIN branch ON branch.id = turn.message_id
WHERE turn.agent_id = %s AND turn.started_at IS NOT NULL
AND (turn.reply_id IS NULL OR turn.reply_id IN (SELECT id FROM branch))
ORDER BY turn.started_at DESC LIMIT 1"""


def _turn_before(turn: Turn) -> Turn | None:
    """The latest turn of this branch that the server may have heard."""
    if turn.message.parent_id is None:
        return None
    with connection.cursor() as cursor:
        cursor.execute(_BEFORE, [turn.message.parent_id, LOOKED_BACK, turn.agent_id])
        found = cursor.fetchone()
    return Turn.objects.only("pk", "backend_ref").filter(pk=found[0]).first() if found else None


def _last_in(turn: Turn, ref: str) -> int | None:
    """The latest of them."""
    return _answered_in(turn, ref).order_by("-started_at").values_list("pk", flat=True).first()


_portal = PreparedRead(
    lambda conversation_id: Conversation.objects.filter(pk=conversation_id).values_list("portal", flat=True), 1
)
