"""Messages and conversations as JSON for people: what the page, the socket and programs show. A constant number of queries for any number
of messages."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from django.db.models import Q

from agents.models import Agent
from chat.models import Attachment, Membership, Message, Role, Turn
from chat.rendering.markdown import html_of

TURN_FIELDS = (
    *("id", "agent_id", "message_id", "reply_id", "state", "variant", "error_code", "error_public", "approvals"),
    *("created_at", "started_at", "first_token_at", "finished_at", "input_tokens", "output_tokens", "finish_reason"),
)
# A part is shown as it was stored, except for what only we need.
_HIDDEN_PARTS = frozenset({"edit", "mentions", "attachments", "media"})


def message_json(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """``messages`` in the order given. Needs ``sender``; four queries.

    ``turn``: for what a person said the newest turn that answers it, for an answer the turn that gave it. ``siblings``: the ids of all
    versions of it in their order, itself among them; empty when there is only one.
    """
    rows = list(messages)
    ids = [row.pk for row in rows]
    turns = _turns(ids)
    files = _attachments(ids)
    siblings = _siblings(rows)
    return [_message(row, turns.get(row.pk), files.get(row.pk, []), siblings.get(row.pk, [])) for row in rows]


def _message(
    row: Message, turn: dict[str, Any] | None, files: list[dict[str, Any]], siblings: list[int]
) -> dict[str, Any]:
    sender = row.sender
    return {
        "id": row.pk,
        "conversation": row.conversation_id,
        "seq": row.seq,
        "parent": row.parent_id,
        "role": row.role,
        "sender": {
            "name": sender.name or sender.external_id,
            "kind": sender.kind,
            "agent": sender.agent_id,
            "person": sender.person_id,
        },
        "text": row.text,
        "html": html_of(row.text) if row.text and row.role != Role.USER else "",
        "parts": [part_json(part, row.text) for part in row.parts if _is_shown(part)],
        "attachments": files,
        "siblings": siblings,
        "state": row.state,
        "in_reply_to": row.in_reply_to_id,
        "turn": turn,
        "transport": row.transport,
        "client_id": client_id_of(row),
        "said_at": row.said_at or row.received_at,
        "revision": row.revision,
    }


def client_id_of(row: Message) -> str:
    """The id that the sender's own page or program gave a message, by which it knows it again."""
    return row.external_id.partition(":")[2] if row.transport == "portal" else ""


def _is_shown(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") not in _HIDDEN_PARTS


def part_json(part: dict[str, Any], text: str = "") -> dict[str, Any]:
    """A part as it is stored; one of text with its HTML, which is kept as a place in the message's ``text``."""
    if part.get("type") != "text":
        return part
    own = part.get("text")
    if not isinstance(own, str):
        own = text[int(part.get("start") or 0) : int(part.get("end") or 0)]
    return {**part, "html": html_of(own)}


def turn_json(row: dict[str, Any]) -> dict[str, Any]:
    """A turn's values as people see them: nothing of how it went inside."""
    return {
        "id": row["id"],
        "agent": row["agent_id"],
        "message": row["message_id"],
        "reply": row["reply_id"],
        "state": row["state"],
        "variant": row["variant"],
        "error_code": row["error_code"],
        "error": row["error_public"],
        "finish_reason": row["finish_reason"],
        "created_at": row["created_at"],
        "started_at": row["started_at"],
        "first_token_at": row["first_token_at"],
        "finished_at": row["finished_at"],
        "input_tokens": row["input_tokens"],
        "output_tokens": row["output_tokens"],
        "approvals": [
            {key: one.get(key) for key in ("id", "name", "arguments", "approve", "by", "reason", "at")}
            for one in row["approvals"] or []
            if isinstance(one, dict)
        ],
    }


def turn_values(rows: Any) -> list[dict[str, Any]]:
    """``turn_json`` of a queryset of turns, in one query."""
    return [turn_json(row) for row in rows.values(*TURN_FIELDS)]


def _turns(ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    if not ids:
        return {}
    found: dict[int, dict[str, Any]] = {}
    wanted = set(ids)
    for turn in turn_values(Turn.objects.filter(Q(message__in=ids) | Q(reply__in=ids)).order_by("pk")):
        if turn["message"] in wanted:
            found[turn["message"]] = turn
        if turn["reply"] in wanted:
            found[turn["reply"]] = turn
    return found


def attachment_json(row: Attachment) -> dict[str, Any]:
    return {
        "id": str(row.pk),
        "name": row.name,
        "media_type": row.media_type,
        "size": row.size,
        "width": row.width,
        "height": row.height,
        "url": f"/files/{row.pk}",
    }


def _attachments(ids: Sequence[int]) -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in Attachment.objects.filter(message__in=ids).order_by("created_at", "pk") if ids else ():
        found[row.message_id or 0].append(attachment_json(row))
    return found


def _siblings(rows: Sequence[Message]) -> dict[int, list[int]]:
    """The versions of each message: the same parent and the same role. Only those with more than one."""
    parents = {row.parent_id for row in rows if row.parent_id is not None}
    # Those that begin a conversation of the portal; elsewhere no message has a parent.
    begun = {row.conversation_id for row in rows if row.parent_id is None}
    same = Q(parent__in=parents)
    if begun:
        same |= Q(parent=None, conversation__in=begun, conversation__portal=True)
    if not parents and not begun:
        return {}
    groups: dict[tuple[int, int | None, str], list[int]] = defaultdict(list)
    known = Message.objects.filter(same).exclude(role=Role.NOTICE).order_by("seq")
    for pk, conversation, parent, role in known.values_list("pk", "conversation_id", "parent_id", "role"):
        groups[conversation, parent, role].append(pk)
    return {pk: group for group in groups.values() if len(group) > 1 for pk in group}


def agent_json(agent: Agent) -> dict[str, Any]:
    """Needs ``service``."""
    return {
        "id": agent.pk,
        "name": agent.name,
        "description": agent.description,
        "avatar_url": agent.avatar_url if agent.avatar_url.startswith("https://") else "",
        "model": agent.model,
        "state": agent.state,
        "paused": agent.paused,
        "memory_policy": agent.memory_policy,
    }


def conversation_json(membership: Membership, unread: int) -> dict[str, Any]:
    """A person's view of a conversation. Needs ``conversation__agent``."""
    conversation = membership.conversation
    agent = conversation.agent
    return {
        "id": conversation.pk,
        "title": conversation.title,
        "titled": conversation.titled,
        "agent": {"id": agent.pk, "name": agent.name, "state": agent.state} if agent is not None else None,
        "head": conversation.head_id,
        "revision": conversation.revision,
        "last_seq": conversation.next_seq - 1,
        "last_read_seq": membership.last_read_seq,
        "unread": unread,
        "pinned": membership.pinned_at is not None,
        "archived": membership.archived_at is not None,
        "draft": membership.draft,
        "created_at": conversation.created_at,
        "last_message_at": conversation.last_message_at or conversation.created_at,
    }
