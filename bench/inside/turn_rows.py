"""Fills the table of turns, has the workers do some, and times claims: everything of ``turn.engine`` that needs Django."""

from __future__ import annotations

import time
from typing import Any

from bench.inside import noop_backend
from bench.inside.setup import start


def main(step: str, **arguments: Any) -> Any:
    """One step: ``fill``, ``work`` or ``claims``."""
    noop_backend.register()
    return {"fill": fill, "work": work, "claims": claims}[step](**arguments)


def fill(finished: int, conversations: int) -> dict[str, Any]:
    """``conversations`` with an agent each, and ``finished`` turns that are over, spread over them."""
    from django.db import connection

    from agents.models import Agent
    from chat.models import Conversation, Link, Participant
    from ops.models import Service

    service, _ = Service.objects.get_or_create(name="noop", kind=noop_backend.KIND)
    agents = Agent.objects.bulk_create(
        [Agent(service=service, external_id=f"a{number}", name=f"Agent {number}") for number in range(conversations)]
    )
    places = Conversation.objects.bulk_create([Conversation(title=agent.name) for agent in agents])
    Link.objects.bulk_create(
        [
            Link(conversation=place, kind="api", address=f"agent:{agent.pk}")
            for place, agent in zip(places, agents, strict=True)
        ]
    )
    Participant.objects.bulk_create(
        [Participant(conversation=place, kind="guest", external_id="person", name="A person") for place in places]
    )
    each = finished // conversations
    began = time.monotonic()
    if each:
        _queued(1, state="done", number=conversations)
        with connection.cursor() as cursor:
            for table, own in (("chat_message", {"seq": "1 + g"}), ("chat_turn", {"seq": "1 + g"})):
                cursor.execute("select column_name from information_schema.columns where table_name = %s", [table])
                names = [row[0] for row in cursor.fetchall() if row[0] != "id"]
                if table == "chat_turn":
                    # The g-th message of the conversation, by its number.
                    own["message_id"] = "m.id"
                    join = "join chat_message m on m.conversation_id = t.conversation_id and m.seq = 1 + g"
                else:
                    join = ""
                columns = ", ".join(names)
                values = ", ".join(own.get(name, f"t.{name}") for name in names)
                cursor.execute(
                    f"insert into {table} ({columns}) select {values} from {table} t cross join generate_series(1, %s) g {join} "
                    "where t.seq = 1",
                    [each - 1],
                )
            cursor.execute("update chat_conversation set next_seq = %s", [each + 1])
            cursor.execute("vacuum analyze")
    return {"rows": each * conversations, "seconds": time.monotonic() - began}


def _queued(each: int, state: str = "queued", number: int = 0) -> list[int]:
    """``each`` new messages in every conversation, with their turns; returns the turns in the order in which they came."""
    from django.db.models import F
    from django.utils import timezone

    from agents.models import Agent
    from chat.models import Conversation, Message, Participant, Turn
    from chat.turns.lanes import lane_of

    now = timezone.now()
    agents = list(Agent.objects.select_related("service").order_by("pk"))
    places = list(Conversation.objects.order_by("pk"))
    people = dict(Participant.objects.filter(external_id="person").values_list("conversation_id", "pk"))
    messages, turns = [], []
    for more in range(each):
        for place, agent in zip(places, agents, strict=True):
            seq = place.next_seq + more
            message = Message(
                conversation=place, seq=seq, sender_id=people[place.pk], role="user", text="Good morning",
                transport="bench", received_at=now, stored_at=now,
            )  # fmt: skip
            messages.append(message)
            lane = lane_of(agent, place.pk)
            turns.append(
                Turn(
                    conversation=place, agent=agent, message=message, seq=seq, lane=lane, state=state, not_before=now,
                    created_at=now, finished_at=now if state == "done" else None,
                )
            )  # fmt: skip
    Message.objects.bulk_create(messages, batch_size=2000)
    Turn.objects.bulk_create(turns, batch_size=2000)
    Conversation.objects.update(next_seq=F("next_seq") + each)
    return [turn.pk for turn in turns]


def work(each: int) -> dict[str, Any]:
    """Queue ``each`` turns in every conversation, wake the workers for all of them, and wait until they are over."""
    from chat.models import Turn, TurnState
    from chat.wakeup import wake_turns

    ids = _queued(each)
    began = time.monotonic()
    wake_turns(ids)
    woken = time.monotonic() - began
    limit = began + 300
    left = len(ids)
    while left and time.monotonic() < limit:
        time.sleep(0.05)
        left = Turn.objects.filter(state__in=[TurnState.QUEUED, TurnState.RUNNING]).count()
    seconds = time.monotonic() - began
    rows = Turn.objects.filter(pk__in=ids)
    done = rows.filter(state=TurnState.DONE, reply__isnull=False).count()
    again = rows.filter(attempts__gt=1).count()
    return {"turns": len(ids), "done": done, "left": left, "claimed_again": again, "seconds": seconds, "waking": woken}


def claims(number: int) -> dict[str, Any]:
    """Claim so many turns, one after the other with nothing else going on; milliseconds each."""
    from chat.models import Turn
    from chat.turns import claim

    ids = _queued(1)[:number]
    took = []
    for pk in ids:
        turn = claim.load(pk)
        assert turn is not None
        began = time.monotonic()
        got = claim.claim_turn(turn)
        took.append((time.monotonic() - began) * 1000)
        assert got
    Turn.objects.filter(pk__in=ids).update(state="cancelled")
    Turn.objects.filter(state="queued").update(state="cancelled")
    return {"ms": took}


if __name__ == "__main__":
    start(main)
