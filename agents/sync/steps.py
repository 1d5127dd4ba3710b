"""What a plan is made of: single things to do, what was noticed, and whose steps were held back."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from agents.backends.base import AgentInfo
from agents.sync.drift import STEP, STEP_WORDS
from agents.sync.observe import Loss
from ops.findings import Finding


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do. ``kind`` is ``noun.verb``; ``key`` groups steps that must follow each other (one agent's).

    ``late``: it waits until everything else of the pass is done (names of thousands of accounts that are there already).
    """

    kind: str
    key: str
    label: str
    detail: dict[str, Any] = field(default_factory=dict)
    info: AgentInfo | None = None
    agent_pk: int | None = None
    late: bool = False

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "agent": self.label, **self.detail}

    @property
    def sentence(self) -> str:
        words = _WORDS.get(self.kind) or STEP_WORDS.get(self.kind.removeprefix(STEP), self.kind)  # type: ignore[call-overload]
        return words.format(label=self.label, **{"before": "", "after": "", "user_id": "", **self.detail})


_WORDS = {
    "agent.create": "Take up the agent {label}",
    "agent.update": "Update {label} ({before} → {after})",
    "agent.miss": "Note that {label} is not in the list",
    "agent.archive": "Archive {label}: it has left its server",
    "agent.return": "Take {label} back: it is in the list again",
    "mapping.create": "Reserve account and room for {label}",
    "account.register": "Make the account of {label}",
    "account.profile": "Set name and picture of {label}'s account",
    "room.create": "Make the room of {label}",
    "room.describe": "Set name and topic of {label}'s room",
    "space.create": "Make the space {label}",
    "space.add": "List {label}'s room in the space",
    "space.remove": "Take {label}'s room out of the space",
    "invite": "Invite {user_id} to {label}",
}


@dataclass(slots=True)
class SyncPlan:
    """The steps, what was noticed, and the services whose steps were held back because they look like a mistake.

    ``refill`` is what the homeserver has lost and the steps make again: rows have to forget it first.
    """

    steps: list[Step] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    refill: Loss | None = None

    @property
    def counts(self) -> dict[str, int]:
        return dict(Counter(step.kind for step in self.steps))
