"""Full runs of the doctor in a process of their own: statements counted for each check, time and memory taken."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from bench.inside.setup import start
from bench.measure import peak_rss_mb


def main(step: str, **arguments: Any) -> Any:
    """One step: ``talk`` makes conversations, ``examine`` runs the doctor."""
    return {"talk": talk, "examine": examine}[step](**arguments)


def talk(each: int) -> dict[str, Any]:
    """A conversation for every agent in its room, with ``each`` messages that were answered."""
    from django.utils import timezone

    from agents.models import Agent
    from chat.models import Conversation, Link, Message, Participant, Turn
    from chat.turns.lanes import lane_of

    now = timezone.now()
    agents = list(Agent.objects.select_related("service", "mapping__room").order_by("pk"))
    places = Conversation.objects.bulk_create(
        [Conversation(title=agent.name, next_seq=2 * each + 1) for agent in agents], batch_size=2000
    )
    Link.objects.bulk_create(
        [
            Link(conversation=place, kind="matrix", address=agent.mapping.room.room_id)
            for place, agent in zip(places, agents, strict=True)
        ],
        batch_size=2000,
    )
    people = Participant.objects.bulk_create(
        [Participant(conversation=place, kind="guest", external_id="@ann:sb.test", name="Ann") for place in places],
        batch_size=2000,
    )
    told = []
    for number in range(each):
        told += [
            Message(
                conversation=place, seq=2 * number + 1, sender=person, role="user", text="Good morning",
                transport="matrix", external_id=f"${place.pk}-{number}", received_at=now, stored_at=now,
            )
            for place, person in zip(places, people, strict=True)
        ]  # fmt: skip
    Message.objects.bulk_create(told, batch_size=2000)
    by_place = {place.pk: agent for place, agent in zip(places, agents, strict=True)}
    Turn.objects.bulk_create(
        [
            Turn(
                conversation_id=message.conversation_id, agent=by_place[message.conversation_id], message=message,
                seq=message.seq, lane=lane_of(by_place[message.conversation_id], message.conversation_id),
                state="done", not_before=now, created_at=now, started_at=now, finished_at=now,
            )
            for message in told
        ],
        batch_size=2000,
    )  # fmt: skip
    return {"messages": len(told)}


def examine(runs: int) -> dict[str, Any]:
    """``runs`` full runs; statements of each check by the name of the thread that it runs in."""
    from django.db.backends.signals import connection_created

    from ops.runner import run_checks

    statements: Counter[str] = Counter()

    def count(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        if not sql.lstrip().upper().startswith("PRAGMA"):
            statements[threading.current_thread().name] += 1
        return execute(sql, params, many, context)

    connection_created.connect(lambda connection, **_: connection.execute_wrappers.append(count), weak=False)
    rounds = []
    for _ in range(runs):
        statements.clear()
        began = time.monotonic()
        found = run_checks()
        seconds = time.monotonic() - began
        rounds.append(
            {
                "seconds": seconds,
                "peak_mb": peak_rss_mb(),
                "checks": len(found),
                "statements": {name: number for name, number in statements.items() if name.startswith("check ")},
                "slowest": {
                    f"{run.check.id} {run.target}".strip(): run.duration_ms
                    for run in sorted(found, key=lambda run: -run.duration_ms)[:10]
                },
                "red": {f"{run.check.id} {run.target}".strip(): run.sentence for run in found if run.status == "fail"},
            }
        )
    return rounds


if __name__ == "__main__":
    start(main)
