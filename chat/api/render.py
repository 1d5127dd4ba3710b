"""Rows as JSON."""

from __future__ import annotations

from typing import Any

from chat.models import Conversation, Delivery, Message, Participant, Turn
from ops.redaction import redact_text

ROOT = "/api/v1"


def participant_dict(row: Participant) -> dict[str, Any]:
    return {
        "id": row.pk,
        "kind": row.kind,
        "name": row.name,
        "external_id": row.external_id,
        "agent": row.agent_id,
    }


def message_dict(message: Message) -> dict[str, Any]:
    """Needs ``sender``."""
    return {
        "id": message.pk,
        "conversation": message.conversation_id,
        "seq": message.seq,
        "role": message.role,
        "state": message.state,
        "guard": message.guard,
        "sender": participant_dict(message.sender),
        "text": message.text,
        "parts": message.parts,
        "transport": message.transport,
        "external_id": message.external_id,
        "in_reply_to": message.in_reply_to_id,
        "hop": message.hop,
        "said_at": message.said_at,
        "received_at": message.received_at,
        "stored_at": message.stored_at,
        "url": f"{ROOT}/messages/{message.pk}",
    }


def turn_dict(turn: Turn) -> dict[str, Any]:
    """Needs ``agent``; never reads the partial text."""
    url = f"{ROOT}/turns/{turn.pk}"
    return {
        "id": turn.pk,
        "conversation": turn.conversation_id,
        "agent": turn.agent_id,
        "agent_name": turn.agent.name,
        "message": turn.message_id,
        "reply": turn.reply_id,
        "seq": turn.seq,
        "state": turn.state,
        "attempts": turn.attempts,
        "waits": turn.waits,
        "not_before": turn.not_before,
        "stop_requested_by": turn.stop_requested_by,
        "finish_reason": turn.finish_reason,
        "input_tokens": turn.input_tokens,
        "output_tokens": turn.output_tokens,
        "error_code": turn.error_code,
        "error_public": turn.error_public,
        "error_reason": redact_text(turn.error_reason),
        "created_at": turn.created_at,
        "started_at": turn.started_at,
        "first_token_at": turn.first_token_at,
        "finished_at": turn.finished_at,
        "links": {
            "self": url,
            "text": f"{url}/text",
            "stream": f"{url}/stream",
            "cancel": f"{url}/cancel",
            "message": f"{ROOT}/messages/{turn.message_id}",
        },
    }


def delivery_dict(delivery: Delivery) -> dict[str, Any]:
    """Needs ``room`` and ``account``."""
    return {
        "id": delivery.pk,
        "message": delivery.message_id,
        "turn": delivery.turn_id,
        "target": delivery.target,
        "room": delivery.room_id,
        "room_name": str(delivery.room) if delivery.room else "",
        "account": delivery.account.user_id if delivery.account else None,
        "speak_as": delivery.speak_as,
        "notice": delivery.notice,
        "state": delivery.state,
        "attempts": delivery.attempts,
        "not_before": delivery.not_before,
        "edits": delivery.edits,
        "events": [shown["event_id"] for shown in delivery.shown if shown.get("event_id")],
        "error_code": delivery.error_code,
        "error_reason": redact_text(delivery.error_reason),
        "created_at": delivery.created_at,
        "sent_at": delivery.sent_at,
    }


def agent_id_in(conversation: Conversation) -> int | None:
    """Who answers in a conversation: the room's agent, or the one it was opened with. Needs ``links__room__mapping``."""
    for link in conversation.links.all():
        mapping = getattr(link.room, "mapping", None) if link.room else None
        if mapping is not None:
            return int(mapping.agent_id)
        kind, _, rest = link.address.partition(":")
        number = rest.partition(":")[0]
        if kind == "agent" and number.isdigit():
            return int(number)
    return None


def conversation_dict(conversation: Conversation) -> dict[str, Any]:
    """Needs ``links__room__mapping``."""
    return {
        "id": conversation.pk,
        "title": conversation.title,
        "agent": agent_id_in(conversation),
        "messages": conversation.next_seq - 1,
        "links": [
            {"kind": link.kind, "room": link.room_id, "room_id": link.room.room_id if link.room else None}
            for link in conversation.links.all()
        ],
        "created_at": conversation.created_at,
        "last_message_at": conversation.last_message_at,
        "url": f"{ROOT}/conversations/{conversation.pk}",
    }
