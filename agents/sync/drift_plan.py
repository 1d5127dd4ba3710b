"""From what differs on the homeserver to steps of a plan, and to a stop when it looks like a loss. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from agents.models import DriftKind
from agents.sync.drift import BLOCKING, ORDER, STEP, Difference
from agents.sync.observe import Observed
from agents.sync.steps import Step, SyncPlan
from agents.sync.stops import suspiciously_many
from ops.findings import Finding
from ops.words import counted, verb

LOST = "homeserver.lost"
# What is mended by an ordinary step, or by nobody but time.
_WITHOUT_STEP = frozenset(
    {DriftKind.ROOM_INVITES, DriftKind.ROOM_DOUBLE, DriftKind.ROOM_SHARED, DriftKind.SPACE_DOUBLE}
)
_GONE = frozenset({DriftKind.ACCOUNT_GONE, DriftKind.ROOM_GONE})


def plan_drift(
    plan: SyncPlan,
    found: Sequence[Difference],
    *,
    looked_at: int,
    homeserver: str,
    force: bool,
    waiting: frozenset[tuple[int, str, str]] = frozenset(),
    space_target: str = "",
) -> None:
    """Put the steps that mend in front of each agent's other steps.

    ``waiting`` are differences of which an attempt failed lately. More than a fifth gone at once is a loss on the homeserver: then
    nothing of it is made again before somebody has looked (``force``).
    """
    gone = {one.mapping for one in found if one.kind in _GONE and one.mapping and one.mends}
    if suspiciously_many(len(gone), looked_at) and not force:
        plan.stopped.append(homeserver)
        plan.findings.append(_lost(gone, looked_at, homeserver, found))
        found = [one for one in found if one.kind not in _GONE and one.kind != DriftKind.SPACE_GONE]
    leaving = {step.key for step in plan.steps if step.kind == "agent.archive"}
    steps = drift_steps(
        [one for one in found if one.identity not in waiting and one.group not in leaving], space_target=space_target
    )
    plan.steps[:0] = steps


def drift_steps(found: Iterable[Difference], *, space_target: str = "") -> list[Step]:
    """The steps that mend these, in the order in which one makes way for the next."""
    steps = []
    for one in sorted(found, key=lambda one: (one.group, ORDER.index(one.kind), one.key)):
        if not one.mends or one.kind in _WITHOUT_STEP:
            continue
        detail = {"drift": one.key, "found": one.found, "what": one.sentence, "mapping": one.mapping}
        if one.kind == DriftKind.SPACE_GONE:
            detail["target"] = space_target
        steps.append(Step(f"{STEP}{one.kind}", one.group, one.label, detail, agent_pk=one.agent or None))
    return steps


def blocks(step: Step) -> bool:
    """Whether nothing further can be done for the agent when this step fails."""
    return step.kind.removeprefix(STEP) in BLOCKING


def relisted(observed: Observed, children: frozenset[str]) -> None:
    """The space is another one from now on: what it does not list has to be listed."""
    observed.agents = [
        replace(agent, room=replace(agent.room, in_space=agent.room.room_id in children))
        if agent.room is not None and agent.room.room_id
        else agent
        for agent in observed.agents
    ]


def _lost(gone: set[int], looked_at: int, homeserver: str, found: Sequence[Difference]) -> Finding:
    first = next(one for one in found if one.mapping in gone and one.kind in _GONE)
    return Finding(
        "error",
        LOST,
        f"{counted(len(gone), 'agent has', 'agents have')} lost {verb(len(gone), 'its', 'their')} account or room on the homeserver, of "
        f"{looked_at} that were looked at. First: {first.label}: {first.sentence} It looks as if the homeserver was emptied, or restored "
        "from an old backup; nothing was made again. If that is so for good: sync with force (manage.py sync_agents --force).",
        homeserver,
        {"gone": len(gone), "looked_at": looked_at, "mappings": sorted(gone)[:500]},
    )
