"""``routing.wrong_agent``: what is said in an agent's room is answered by that agent, and by no other."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db.models import F, Q
from django.utils import timezone

from agents.doctor.mappings.relink import wrong_addresses
from agents.models import RoomKind
from chat.models import OPEN_TURN_STATES, Turn
from ops.registry import Affected, CheckOutcome, register_check
from ops.words import counted

LOOKED_BACK = timedelta(hours=24)
MOST = 1000


@register_check(
    "routing.wrong_agent",
    title="Every room is answered by its own agent",
    tags=["routing", "agents", "messages"],
    interval=60,
    severity="critical",
    depends_on=["db.reachable"],
    repairs=["mapping.relink"],
)
def wrong_agent() -> CheckOutcome:
    """Two invariants over rows, in two queries.

    A room that bears an agent's address (both derive from the agent's id) is mapped to that agent and no other. And a message in
    an agent's room has no turn of another agent. There is no default agent that could step in: a room has at most one mapping,
    an agent at most one, both by constraints of the database, and what is said in a room without one is refused with a note.
    """
    rooms = list(wrong_addresses().values_list("pk", "agent__name", "account__user_id", "room__alias")[:MOST])
    turns = list(_wrong_turns().values_list("pk", "agent__name", "mapping_pk", "own_agent")[:MOST])
    if not rooms and not turns:
        return CheckOutcome("pass", "Every room is answered by its own agent.")
    affected = [
        Affected(
            f"mapping:{pk}",
            f"{name} answers in the room with the address {alias}, which belongs to another agent.",
            {"agent": name, "account": account, "address": alias},
        )
        for pk, name, account, alias in rooms
    ]
    known = {one.target for one in affected}
    for turn, name, mapping, own in turns:
        if f"mapping:{mapping}" not in known:
            known.add(f"mapping:{mapping}")
            affected.append(
                Affected(f"mapping:{mapping}", f"A message in the room of {own} was given to {name}.", {"turn": turn})
            )
    return CheckOutcome(
        "fail",
        f"{affected[0].sentence} {counted(len(affected), 'mapping is', 'mappings are')} concerned: people there get answers of the wrong agent. Relink them.",
        {"mappings": len(rooms), "turns": [turn for turn, *_ in turns[:20]], "wrong_turns": len(turns)},
        affected=tuple(affected),
    )


def _wrong_turns() -> Any:
    """Turns of the last day that another agent than the room's has, made after the mapping was last put right."""
    mapping = "conversation__links__room__mapping"
    return (
        Turn.objects.filter(
            Q(state__in=OPEN_TURN_STATES) | Q(finished_at__gt=timezone.now() - LOOKED_BACK),
            conversation__links__room__kind=RoomKind.AGENT,
            created_at__gt=F(f"{mapping}__updated_at"),
        )
        .exclude(agent=F(f"{mapping}__agent"))
        .annotate(mapping_pk=F(f"{mapping}__pk"), own_agent=F(f"{mapping}__agent__name"))
        .order_by("pk")
    )
