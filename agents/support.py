"""The agents' part of a support bundle: who is connected to whom, and what the last syncs did."""

from __future__ import annotations

from typing import Any

from agents.models import Agent, Mapping, Room, SyncRun
from ops.support.bundle import BundleWish, register_part

_MOST = 5000


@register_part("agents/mappings.json", what="Agents with their accounts, rooms and problems.")
def mappings(wish: BundleWish) -> dict[str, Any]:
    rows = Mapping.objects.order_by("pk").values(
        "pk", "agent__name", "agent__external_id", "agent__service__name", "agent__state", "agent__paused", "agent__model",
        "account__user_id", "account__registered_at", "room__room_id", "room__alias", "room__in_space", "room__encrypted",
        "problem", "problem_since",
    )  # fmt: skip
    states: dict[str, int] = {}
    for state in Agent.objects.values_list("state", flat=True).iterator():
        states[state] = states.get(state, 0) + 1
    return {
        "agents": states,
        "mappings": Mapping.objects.count(),
        "rooms": Room.objects.count(),
        "with_problem": Mapping.objects.exclude(problem="").count(),
        "rows": list(rows[:_MOST]),
    }


@register_part("agents/syncs.json", what="The last syncs: what they planned, did and found.")
def syncs(wish: BundleWish) -> list[dict[str, Any]]:
    rows = SyncRun.objects.order_by("-id").values(
        "id", "state", "trigger", "service_name", "counts", "findings", "error", "started_at", "finished_at"
    )
    return [dict(row) for row in rows[:20]]
