"""The part of a sync that concerns drift: what is to be mended, mending it, and looking again whether it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from django.utils import timezone

from agents.models import Drift, DriftKind
from agents.services.backends import Homeserver
from agents.services.drift import Looked, Noted, look_now, note, note_failed, waits
from agents.sync.apply import Outcome
from agents.sync.drift import STEP, Difference
from agents.sync.drift_plan import drift_steps, plan_drift, relisted
from agents.sync.observe import Observed
from agents.sync.plan import topic_for
from agents.sync.steps import Step, SyncPlan
from ops.findings import Finding

# What comes to light only when something else was mended is mended in the same pass.
MOST_ROUNDS = 3


@dataclass(slots=True)
class DriftPass:
    """One look and what became of it. ``found`` counts what differed, ``mended`` what does not any more."""

    homeserver: Homeserver
    looked: Looked
    by_itself: bool
    findings: list[Finding] = field(default_factory=list)
    found: int = 0
    mended: int = 0
    open: int = 0

    def prepare(self, observed: Observed) -> None:
        """Before the plan is made: rooms that the space does not list any more are to be listed."""
        # Who was refused everywhere is not invited for now (``agents.sync.pauses``).
        resting = observed.paused | observed.probed
        self.looked.found = [
            one for one in self.looked.found if one.kind != DriftKind.ROOM_OPERATORS or one.key not in resting
        ]
        self._leave_to_the_plan(observed)
        space = self.looked.space
        if space is not None and space.gone:
            relisted(observed, space.relist)

    def _leave_to_the_plan(self, observed: Observed) -> None:
        """A name that we have not written yet differs on the homeserver as well; that is no drift, and has its own step."""
        accounts, rooms = set(), set()
        for agent in observed.agents:
            if agent.account is not None and agent.account.display_name != agent.name[:255]:
                accounts.add(agent.pk)
            if agent.room is not None and (agent.room.name, agent.room.topic) != (
                agent.name[:255],
                topic_for(agent.name, agent.description),
            ):
                rooms.add(agent.pk)
        own = {DriftKind.ACCOUNT_NAME: accounts, DriftKind.ROOM_NAME: rooms}
        self.looked.found = [one for one in self.looked.found if one.agent not in own.get(one.kind, ())]

    def plan(self, plan: SyncPlan, *, force: bool) -> None:
        """Put the steps that mend into the plan."""
        now = timezone.now()
        waiting = frozenset(
            identity for identity, row in self.looked.known.items() if self.by_itself and waits(row, now)
        )
        space = self.looked.space
        plan_drift(
            plan,
            self.looked.found,
            looked_at=len(self.looked.mappings),
            homeserver=self.homeserver.service.name,
            force=force,
            waiting=waiting,
            space_target=space.target if space is not None else "",
        )
        if any(step.kind == f"{STEP}{DriftKind.SPACE_GONE}" for step in plan.steps):
            plan.steps = [_naming(step) if step.kind == "space.add" else step for step in plan.steps]

    def write(self) -> None:
        """Write down what was found, before anything is mended."""
        noted = note(self.homeserver, self.looked)
        self.found = len(noted.open)
        self._count(noted)
        # A pass that nobody asked for tells what is new; whoever asks is told everything.
        told = noted.fresh if self.by_itself else noted.open
        self.findings += [decision_of(row) for row in told if not row.mends]
        if self.looked.error is not None and not self.by_itself:
            text = f"Not everything could be compared with the homeserver. {self.looked.error.sentence}"
            self.findings.append(Finding("warning", "drift.not_looked", text, self.homeserver.service.name))

    def _count(self, noted: Noted) -> None:
        self.mended += len(noted.mended)
        self.open = len(noted.open)

    def follow_up(self, steps: Sequence[Step], outcome: Outcome, apply: Callable[[list[Step]], Outcome]) -> list[Step]:
        """Look again at what was mended, and mend what came to light by it. Returns the further steps."""
        further: list[Step] = []
        attempted = {_identity(step) for step in steps if step.kind.startswith(STEP)}
        unmended = dict(outcome.unmended)
        round_steps = [step for step in steps if step.kind.startswith(STEP)]
        elsewhere = self.open
        for _ in range(MOST_ROUNDS):
            if not round_steps or outcome.aborted:
                break
            again = self._look_again(round_steps)
            noted = note(self.homeserver, again)
            self.mended += len(noted.mended)
            elsewhere += len(noted.fresh) - len(noted.mended)
            note_failed([(row, unmended[_of(row)]) for row in noted.open if _of(row) in unmended])
            fresh = [one for one in again.found if one.mends and one.identity not in attempted]
            round_steps = drift_steps(fresh, space_target=again.space.target if again.space is not None else "")
            self.found += len(noted.fresh)
            if not round_steps:
                break
            outcome = apply(round_steps)
            unmended |= outcome.unmended
            attempted |= {_identity(step) for step in round_steps}
            further += round_steps
        self.open = max(0, elsewhere)
        return further

    def _look_again(self, steps: Sequence[Step]) -> Looked:
        mappings = sorted({step.detail["mapping"] for step in steps if step.detail["mapping"]})
        return look_now(self.homeserver, pks=mappings)

    def to_dict(self) -> dict[str, Any]:
        """JSON shape of ``SyncRun.looked``; empty when nothing was looked at."""
        if not self.looked.mappings:
            return {}
        return {
            "mappings": len(self.looked.mappings),
            "found": self.found,
            "mended": self.mended,
            "open": self.open,
            "cursor": self.looked.cursor,
            "turned_at": self.looked.turned_at,
            "turned": self.looked.turned,
        }


def decision_of(row: Drift) -> Finding:
    """What an operator has to decide."""
    target = f"mapping:{row.mapping_id}" if row.mapping_id else f"service:{row.homeserver_id}"
    return Finding("warning", f"drift.{row.kind}", row.sentence, target, {"key": row.key, **row.detail})


def decision(one: Difference) -> Finding:
    """As ``decision_of``, for a difference that is not written down (a dry run)."""
    target = f"mapping:{one.mapping}" if one.mapping else ""
    return Finding("warning", f"drift.{one.kind}", one.sentence, target, {"key": one.key})


def _identity(step: Step) -> tuple[int, str, str]:
    return (step.detail["mapping"], step.kind.removeprefix(STEP), step.detail["drift"])


def _of(row: Drift) -> tuple[int, str, str]:
    return (row.mapping_id or 0, row.kind, row.key)


def _naming(step: Step) -> Step:
    return replace(step, detail={**step.detail, "parent": True})
