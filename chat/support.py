"""The conversations' part of a support bundle: traces of chosen messages, and what failed lately; no words unless asked for."""

from __future__ import annotations

from typing import Any

from chat.models import Delivery, DeliveryState, Message, RefusedEvent, Turn, TurnState
from chat.trace import traces
from ops.logbook import reader
from ops.support.bundle import BundleWish, register_part

_ENDED_BADLY = (TurnState.FAILED, TurnState.TIMED_OUT, TurnState.DEAD)


@register_part("chat/traces.json", what="The way of the chosen messages, hop by hop, with their log lines.")
def message_traces(wish: BundleWish) -> list[dict[str, Any]]:
    rows = list(Message.objects.filter(pk__in=wish.messages).select_related("sender", "conversation").order_by("pk"))
    ways = traces(rows) if rows else {}
    found: list[dict[str, Any]] = []
    for row in rows:
        lines = reader.lines(reader.LogFilter(message=str(row.pk)))[:200]
        found.append(
            {
                "message": row.pk,
                "conversation": row.conversation_id,
                "seq": row.seq,
                "role": row.role,
                "state": row.state,
                "guard": row.guard,
                "transport": row.transport,
                "external_id": row.external_id,
                "characters": len(row.text),
                **({"text": row.text, "parts": row.parts} if wish.texts else {}),
                "hops": [
                    {"hop": hop.name, "at": hop.at, "lamp": hop.lamp, "note": hop.note, "after_ms": hop.after_ms}
                    for hop in ways[row.pk]
                ],
                "turns": _turns(row.pk),
                "lines": [reader.as_text(line) for line in reader.oldest_first(lines)],
            }
        )
    missing = sorted(set(wish.messages) - {row.pk for row in rows})
    return [*found, *({"message": pk, "missing": "There is no message with this id."} for pk in missing)]


def _turns(message: int) -> list[dict[str, Any]]:
    rows = (
        Turn.objects.filter(message_id=message)
        .order_by("pk")
        .values(
            "id",
            "agent__name",
            "state",
            "attempts",
            "waits",
            "error_code",
            "error_reason",
            "finish_reason",
            "created_at",
            "started_at",
            "first_token_at",
            "finished_at",
            "input_tokens",
            "output_tokens",
        )
    )
    return [dict(row) for row in rows]


@register_part(
    "chat/failures.json", what="Turns and deliveries that failed lately, and refused events, without their words."
)
def failures(wish: BundleWish) -> dict[str, Any]:
    turns = Turn.objects.filter(state__in=_ENDED_BADLY).order_by("-pk").values(
        "id", "message_id", "agent__name", "state", "attempts", "error_code", "error_reason", "finished_at"
    )  # fmt: skip
    deliveries = Delivery.objects.filter(state=DeliveryState.DEAD).order_by("-pk").values(
        "id", "message_id", "room__room_id", "attempts", "error_code", "error_reason", "created_at"
    )  # fmt: skip
    return {
        "turns": list(turns[:100]),
        "deliveries": list(deliveries[:100]),
        "refused_events": RefusedEvent.objects.count(),
    }
