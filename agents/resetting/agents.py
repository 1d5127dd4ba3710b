"""Beginning anew with agents: their rows and what hangs on them go, together with everything else; they come back from their servers."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from agents.models import Account, AccountWay, Agent, Invitation, Room
from ops.findings import Finding
from ops.resets import ResetLine, ResetScope, ResetWork, delete_rows, line_of, register_reset

# Gives the ids of agents and of rooms that something holds (a legal hold): they stay whatever is reset.
Held = Callable[[], tuple[set[int], set[int]]]
_held: list[Held] = []


def register_held(held: Held) -> None:
    """Let the app above say which agents and rooms must stay."""
    if held not in _held:
        _held.append(held)


def _lines() -> list[ResetLine]:
    return [
        line_of(Agent.objects.all(), "agents, with their settings here"),
        line_of(Room.objects.all(), "rooms, chats that people opened among them"),
        line_of(Account.objects.exclude(way=AccountWay.SESSION), "accounts of agents"),
    ]


def _outside() -> Iterable[Finding]:
    yield Finding(
        "info",
        "reset.agents_return",
        "The agents themselves are on their servers, with their memory, and come back from there; their settings here (pauses, limits, notes) do "
        "not. Archived agents do not come back.",
    )


def _remove(work: ResetWork) -> dict[str, int]:
    """Runs before the mappings': with everything gone there is no row that a room could go on with."""
    agents: set[int] = set()
    rooms: set[int] = set()
    for held in _held:
        some_agents, some_rooms = held()
        agents |= some_agents
        rooms |= some_rooms
    own = Room.objects.filter(mapping__agent__in=agents).values_list("pk", flat=True)
    rooms |= set(own)
    return delete_rows(
        Invitation.objects.exclude(room__in=rooms),
        Agent.objects.exclude(pk__in=agents),
        Room.objects.exclude(pk__in=rooms),
        Account.objects.exclude(way=AccountWay.SESSION).exclude(mapping__isnull=False),
    )


register_reset(
    ResetScope(
        name="agents",
        label="Agents",
        sentence="Agents with their rooms and accounts here; they come back from their servers.",
        kind="mappings",
        lines=_lines,
        outside=_outside,
        remove=_remove,
        alone=False,
        order=25,
    )
)
