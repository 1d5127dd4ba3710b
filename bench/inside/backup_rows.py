"""Makes an installation as a backup finds it: agents with rooms, conversations with questions, answers, turns and deliveries. Rows only."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from bench.inside.setup import start

TEXT = (
    "the a of to room agent answer question please look where when which report number list table friday letter invoice train Zürich "
    "café weather window river because therefore perhaps already between against during without library chapter version server error"
)
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def main(agents: int, messages: int) -> dict[str, Any]:
    """``agents`` with account, room and mapping, each with one conversation; ``messages`` over all of them, every second an answer with its
    turn and its delivery; ten audit events for each agent."""
    from django.db import transaction
    from django.db.models import Max

    from agents.models import Account, Agent, Mapping, Room
    from chat.models import Conversation, Delivery, Link, Message, Participant, Turn
    from ops.models import AuditEvent, Service

    chance, words = random.Random(11), TEXT.split()
    each = messages // agents
    homeserver = Service.objects.get_or_create(name="bench-homeserver", defaults={"kind": "homeserver"})[0].pk
    service = Service.objects.get_or_create(name="bench-agents", defaults={"kind": "demo"})[0].pk
    first = 1 + max((model.objects.aggregate(Max("pk"))["pk__max"] or 0) for model in (Agent, Room, AuditEvent))
    numbers = range(first, first + agents)
    texts = [" ".join(chance.choices(words, k=chance.choice((6, 12, 30, 60, 120)))) for _ in range(5000)]

    def said() -> Iterator[tuple[int, int, int, str]]:
        """(message, conversation, seq, moment)."""
        pk = first
        for seq in range(1, each + 1):
            for number in numbers:
                yield pk, number, seq, _iso(pk)
                pk += 1

    with transaction.atomic():
        _put(
            Agent,
            (
                {"id": n, "service_id": service, "external_id": f"agent-{n:08x}", "name": f"Librarian {n}"}
                for n in numbers
            ),
        )
        _put(
            Account,
            (
                {"id": n, "homeserver_id": homeserver, "user_id": f"@a{n}:sb.test", "localpart": f"a{n}"}
                for n in numbers
            ),
        )
        _put(
            Room,
            ({"id": n, "homeserver_id": homeserver, "room_id": f"!a{n}:sb.test", "kind": "agent"} for n in numbers),
        )
        _put(Mapping, ({"id": n, "agent_id": n, "account_id": n, "room_id": n} for n in numbers))
        _put(Conversation, ({"id": n, "title": f"Librarian {n}", "agent_id": n, "next_seq": each + 1} for n in numbers))
        _put(Link, ({"id": n, "conversation_id": n, "kind": "room", "room_id": n} for n in numbers))
        _put(
            Participant,
            (
                {"id": 2 * n + answers, "conversation_id": n, "kind": "agent" if answers else "guest", "agent_id": n if answers else None,
                 "external_id": f"@{'a' if answers else 'person'}{n}:sb.test", "name": "Somebody"}
                for n in numbers
                for answers in (0, 1)
            ),
        )  # fmt: skip
        _put(
            Message,
            (
                {"id": pk, "conversation_id": n, "seq": seq, "sender_id": 2 * n + (seq % 2 == 0), "text": texts[pk * 7 % 5000],
                 "role": "user" if seq % 2 else "assistant", "transport": "matrix", "external_id": f"${pk * 2654435761 % 2**61:043x}",
                 "parts": '[{"type":"reasoning","text":"Let me see."}]' if pk % 10 == 0 else "[]", "said_at": at, "received_at": at,
                 "stored_at": at}
                for pk, n, seq, at in said()
            ),
        )  # fmt: skip
        _put(
            Turn,
            (
                {"id": pk, "lane": f"conversation:{n}", "attempts": 1, "fence": 1, "conversation_id": n, "agent_id": n,
                 "message_id": pk - agents, "reply_id": pk, "seq": seq - 1, "state": "done", "finish_reason": "stop", "input_tokens": 900,
                 "output_tokens": 120, "created_at": at, "started_at": at, "first_token_at": at, "finished_at": at, "not_before": at}
                for pk, n, seq, at in said()
                if seq % 2 == 0
            ),
        )  # fmt: skip
        _put(
            Delivery,
            (
                {"id": pk, "lane": f"room:{n}", "attempts": 1, "fence": 1, "message_id": pk, "turn_id": pk, "target": "room", "room_id": n,
                 "account_id": n, "state": "done", "created_at": at, "sent_at": at, "not_before": at}
                for pk, n, seq, at in said()
                if seq % 2 == 0
            ),
        )  # fmt: skip
        _put(
            AuditEvent,
            (
                {"id": first + 10 * k + again, "at": _iso(k), "actor": "person:operator", "action": "agent.updated",
                 "target_type": "agents.agent", "target_id": str(n), "message": "As its server says.", "before": '{"name":"a"}',
                 "after": '{"name":"b"}'}
                for k, n in enumerate(numbers)
                for again in range(10)
            ),
        )  # fmt: skip
        _sequences()
    return {"first": first}


def _iso(number: int) -> str:
    return (BEGAN + timedelta(milliseconds=17_001 * number)).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _put(model: Any, rows: Iterator[dict[str, Any]]) -> None:
    from ops.backup.rows import insert_rows
    from ops.backup.shapes import shape_of

    shape = shape_of(model, "kept", "")
    usual = [_usual(model._meta.get_field(column.field), column.type) for column in shape.columns]
    places = {name: place for place, name in enumerate(shape.names)}

    def whole() -> Iterator[list[Any]]:
        for row in rows:
            values = list(usual)
            for name, value in row.items():
                values[places[name]] = value
            yield values

    insert_rows("default", shape, whole())


def _usual(field: Any, kind: str) -> Any:
    """What a column holds when nobody says anything."""
    from ops.backup.codecs import canonical_json

    if field.null:
        return None
    if kind == "datetime":
        return _iso(0)
    value = field.get_default() if field.has_default() else None
    if kind == "json":
        import json

        return canonical_json(json.dumps(value))
    if kind == "bool":
        return bool(value)
    if kind == "int":
        return value or 0
    return "" if value is None or value == {} else str(value)


def _sequences() -> None:
    from django.db import connection

    from ops.backup.load import raise_sequences
    from ops.backup.shapes import table_shapes

    raise_sequences(connection.alias, table_shapes())


if __name__ == "__main__":
    start(main)
