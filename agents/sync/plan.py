"""From what is wanted and what is known to a list of steps. Pure: no database, no server, no clock but the one given."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from agents.backends.base import AgentInfo
from agents.sync.drift import STEP, STEP_WORDS
from agents.sync.observe import KnownAgent, KnownRoom, Loss, Observed, ServiceView, fingerprint, usable_avatar
from ops.findings import Finding
from ops.words import counted, verb

# Absent from this many complete lists in a row, and for this long, before an agent is archived.
ARCHIVE_PASSES = 2
ARCHIVE_AFTER = timedelta(seconds=5)
SUSPICIOUS_LEAST, SUSPICIOUS_SHARE = 3, 0.20
STATE_LOST, HOMESERVER_EMPTY = "sync.state_lost", "sync.homeserver_empty"
SERVER_RENAMED = "sync.server_renamed"
# The fingerprint of a row that an agent left behind when it moved to another server: it is not taken up again.
MOVED = "moved"
# So many agents are named by their rows in a finding.
MOST_NAMED = 500
# A room costs the homeserver a third of a second: from so many new ones on they are better made when somebody comes.
LAZY_FROM = 2_000
_EAGER = ("mapping.create", "account.register", "account.profile", "room.create", "space.add")
_LAZY = ("mapping.create", "account.register", "account.profile")


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


def make_plan(observed: Observed, *, now: datetime, force: bool = False, space_name: str = "Letta Agents") -> SyncPlan:
    """The steps that bring our rows and the homeserver to what the backends say.

    ``force`` applies a plan that would otherwise stop and ask, and archives at once what it asked about; it never archives on an
    incomplete list.
    """
    plan = SyncPlan()
    if servers := other_servers(observed):
        plan.findings.append(_renamed(observed, servers))
        plan.stopped += [view.name for view in observed.services]
        return plan
    if observed.loss is not None and serious(observed.loss):
        if not force:
            plan.findings.append(_emptied(observed, observed.loss))
            plan.stopped += [view.name for view in observed.services]
            return plan
        plan.refill = observed.loss
    by_service: dict[int, list[KnownAgent]] = {}
    for agent in observed.agents:
        by_service.setdefault(agent.service_id, []).append(agent)
    if observed.homeserver_id is not None:
        _plan_space(plan, observed, space_name)
    for view in observed.services:
        _plan_service(plan, observed, view, by_service.get(view.service_id, []), now=now, force=force)
    if any(finding.code == STATE_LOST for finding in plan.findings):
        # The space is among what was forgotten.
        plan.steps = [step for step in plan.steps if step.kind != "space.create"]
    if observed.probed:
        plan.steps = _one_probe(plan.steps, observed.probed)
    _suggest_lazy(plan)
    return plan


def _one_probe(steps: Iterable[Step], probed: frozenset[str]) -> list[Step]:
    """One invitation shows whether a person who was refused everywhere is still; the others wait for it."""
    tried: set[str] = set()
    kept = []
    for step in steps:
        person = step.detail.get("user_id", "") if step.kind == "invite" else ""
        if person in probed and person in tried:
            continue
        tried.add(person)
        kept.append(step)
    return kept


def other_servers(observed: Observed) -> list[str]:
    """The server names that our accounts end in, when the homeserver bears another name than (nearly) all of them; else nothing."""
    if not observed.server_name:
        return []
    ends = [
        agent.account.user_id.partition(":")[2]
        for agent in observed.agents
        if agent.account is not None and agent.account.registered
    ]
    others = [end for end in ends if end != observed.server_name]
    if not others or not (len(others) == len(ends) or suspiciously_many(len(others), len(ends))):
        return []
    return sorted(set(others))


def _renamed(observed: Observed, servers: list[str]) -> Finding:
    known = " and ".join(servers)
    return Finding(
        "error",
        SERVER_RENAMED,
        f"The homeserver calls itself {observed.server_name}, and the accounts of our agents are of {known}. Nothing was changed. Check the "
        f"homeserver's address; if it really is another one: manage.py homeserver rename-server {observed.server_name}",
        "homeserver",
        {"server_name": observed.server_name, "accounts_of": servers},
    )


def serious(loss: Loss) -> bool:
    """A few accounts are mended one by one; all of them, or many at once, mean another homeserver."""
    return len(loss.missing) == loss.asked or suspiciously_many(len(loss.missing), loss.asked)


def _emptied(observed: Observed, loss: Loss) -> Finding:
    known = sum(one.account is not None and one.account.registered for one in observed.agents)
    return Finding(
        "error",
        HOMESERVER_EMPTY,
        f"The homeserver does not know {len(loss.missing)} of {counted(loss.asked, 'account')} that were looked up, of "
        f"{counted(known, 'account')} that it had, and Switchboard's own is in no space. It looks new and empty; nothing was "
        "changed. Restore its backup, or check its address; to make accounts, rooms and space there again, sync with force.",
        "homeserver",
        {"asked": loss.asked, "missing": len(loss.missing), "accounts": list(loss.missing[:20]), "registered": known},
    )


def _suggest_lazy(plan: SyncPlan) -> None:
    rooms = sum(step.kind == "room.create" for step in plan.steps)
    if rooms > LAZY_FROM:
        plan.findings.append(
            Finding(
                "info",
                "sync.lazy_suggested",
                f"{counted(rooms, 'room')} {verb(rooms, 'is', 'are')} to be made, which takes the homeserver long. With MATRIX_ROOMS=lazy "
                "agents are there at once, and a room is made when somebody first looks for it.",
                "homeserver",
                {"rooms": rooms, "from": LAZY_FROM},
            )
        )


def _plan_space(plan: SyncPlan, observed: Observed, name: str) -> None:
    space = observed.space
    if space is None or not space.room_id:
        plan.steps.append(Step("space.create", "space", name))
    elif space.name != name:
        plan.steps.append(Step("room.describe", "space", name, {"before": space.name, "after": name}))
    _plan_invitations(plan.steps, observed, space, "space", name)


def _plan_service(
    plan: SyncPlan, observed: Observed, view: ServiceView, known: Sequence[KnownAgent], *, now: datetime, force: bool
) -> None:
    by_id = {agent.external_id: agent for agent in known}
    if view.listing is None:
        plan.findings.append(
            Finding(
                "error",
                view.error_code or "backend.error",
                f"The agents of {view.name} could not be read: {view.error}",
                view.name,
            )
        )
        for agent in known:
            plan.steps.extend(_leave_space(observed, agent) if agent.state == "archived" else _finish(observed, agent))
        return
    listed: dict[str, AgentInfo] = {}
    for info in view.listing.agents:
        if info.external_id not in observed.skip:
            listed.setdefault(info.external_id, info)
    if not view.listing.complete:
        plan.findings.append(
            Finding(
                "warning",
                "sync.incomplete_list",
                f"The list of {view.name} is not complete: {view.listing.proof} Nothing is archived on it.",
                view.name,
            )
        )
    steps: list[Step] = []
    gone = [agent for agent in known if agent.external_id not in listed and agent.state != "archived"]
    # Agents that an operator switched off are gone on purpose; only the others can be a mistake.
    lost = _lost(gone, view.listing.agents, observed.skip)
    suspicious = view.listing.complete and _suspicious(lost, known)
    if suspicious and not force:
        plan.stopped.append(view.name)
        plan.findings.append(
            Finding(
                "error",
                "sync.suspicious",
                f"{len(lost)} of {counted(_population(known), 'agent')} {verb(len(lost), 'is', 'are')} no longer in the list of {view.name}. Nothing was changed. "
                "If they were really deleted, run the sync again with force; if not, check the service's address.",
                view.name,
                {
                    "gone": [agent.name for agent in lost[:20]],
                    "count": len(lost),
                    "agents": [agent.pk for agent in lost[:MOST_NAMED]],
                },
            )
        )
        return
    if not force and (forgotten := _forgotten(observed, view, listed, known)) is not None:
        plan.stopped.append(view.name)
        plan.findings.append(forgotten)
        return
    for external_id, info in listed.items():
        steps.extend(_present(observed, view, by_id.get(external_id), info))
    for agent in gone:
        if view.listing.complete:
            # Whoever forces a plan that asked has looked at the list: there is no second look to wait for.
            steps.extend(_archive(observed, agent) if suspicious else _absent(observed, agent, now))
        else:
            steps.extend(_finish(observed, agent))
    for agent in known:
        if agent.state == "archived" and agent.external_id not in listed:
            steps.extend(_leave_space(observed, agent))
    plan.steps.extend(steps)


def without_room(
    view: ServiceView, known: Iterable[KnownAgent], skip: frozenset[str], lazy: bool = False
) -> list[AgentInfo]:
    """The listed agents for which something would be made: new ones, and known ones that have no room (lazy: no account)."""
    roomed = {
        agent.external_id
        for agent in known
        if agent.fingerprint == MOVED
        or (agent.account is not None if lazy else agent.room is not None and agent.room.room_id)
    }
    listed = view.listing.agents if view.listing is not None else ()
    return [info for info in listed if info.external_id not in roomed and info.external_id not in skip]


def suspiciously_many(count: int, population: int) -> bool:
    """More than three, and more than a fifth: not what happens on an ordinary day."""
    return count > max(SUSPICIOUS_LEAST, math.floor(SUSPICIOUS_SHARE * population))


def _forgotten(
    observed: Observed, view: ServiceView, listed: dict[str, AgentInfo], known: Sequence[KnownAgent]
) -> Finding | None:
    """Accounts and rooms would be made that are there already: it is us who have forgotten.

    Where our rows know the account and its alias leads to the room nothing is wrong: a pass that was cut off left it so.
    """
    traces = observed.traces.get(view.service_id)
    if traces is None or not suspiciously_many(len(traces.orphans), traces.asked):
        return None
    count = len(without_room(view, known, observed.skip, observed.lazy))
    return Finding(
        "error",
        STATE_LOST,
        f"The sync would set up {counted(count, 'agent')} of {view.name}, but the homeserver has accounts of theirs that are in "
        f"rooms already ({len(traces.orphans)} of {traces.asked} that were looked up). Our rows look lost; nothing was changed. "
        "Rebuild the mappings from the homeserver (manage.py rebuild_mappings), or restore a backup; to go on all the same, sync with force.",
        view.name,
        {
            "rooms_to_make": count,
            "asked": traces.asked,
            "with_rooms": len(traces.orphans),
            "accounts": list(traces.orphans[:20]),
            "listed": len(listed),
            "known": len(known),
        },
    )


def _population(known: Iterable[KnownAgent]) -> int:
    return sum(agent.state != "archived" for agent in known)


def _lost(gone: Sequence[KnownAgent], listed: Sequence[AgentInfo], skip: frozenset[str]) -> list[KnownAgent]:
    switched_off = {info.external_id for info in listed} & skip
    return [agent for agent in gone if agent.external_id not in switched_off]


def _suspicious(gone: Sequence[KnownAgent], known: Sequence[KnownAgent]) -> bool:
    return suspiciously_many(len(gone), _population(known))


def _present(observed: Observed, view: ServiceView, known: KnownAgent | None, info: AgentInfo) -> list[Step]:
    key = f"{view.service_id}/{info.external_id}"
    if known is None:
        steps = [Step("agent.create", key, info.name, {"service": view.name}, info=info)]
        if observed.homeserver_id is not None:
            steps += [_first(observed, kind, key, info.name, info) for kind in _kinds(observed)]
        return steps
    steps = []
    if known.fingerprint == MOVED:
        return _leave_space(observed, known)
    if known.state != "active":
        steps.append(Step("agent.return", key, info.name, {"before": known.state}, info=info, agent_pk=known.pk))
    if known.fingerprint != fingerprint(info):
        steps.append(
            Step(
                "agent.update", key, info.name, {"before": known.name, "after": info.name}, info=info, agent_pk=known.pk
            )
        )
    steps.extend(_finish(observed, known, info))
    return steps


def _finish(observed: Observed, known: KnownAgent, info: AgentInfo | None = None) -> list[Step]:
    """What is still missing on the homeserver for an agent that is to have a room."""
    if observed.homeserver_id is None:
        return []
    key, pk = f"{known.service_id}/{known.external_id}", known.pk
    # As the row keeps it, so that a name that is too long does not look new in every pass.
    name = (info.name if info else known.name)[:255]
    avatar = usable_avatar(info.avatar_url) if info else known.avatar_url
    steps: list[Step] = []

    def step(kind: str, **detail: Any) -> None:
        steps.append(Step(kind, key, name, detail, info=info, agent_pk=pk))

    account, room = known.account, known.room
    if account is None or room is None:
        return [_first(observed, kind, key, name, info, pk) for kind in _kinds(observed)]
    if not account.registered:
        step("account.register")
    if account.display_name != name or account.avatar_source != avatar:
        step("account.profile", before=account.display_name, after=name)
    if not room.room_id:
        if observed.lazy:
            return steps
        step("room.create")
    elif room.name != name or room.topic != topic_for(name, info.description if info else known.description):
        step("room.describe", before=room.name, after=name)
    if not room.in_space:
        step("space.add")
    _plan_invitations(steps, observed, room, key, name, agent_pk=pk)
    return steps


def _kinds(observed: Observed) -> tuple[str, ...]:
    return _LAZY if observed.lazy else _EAGER


def _first(
    observed: Observed, kind: str, key: str, name: str, info: AgentInfo | None, agent_pk: int | None = None
) -> Step:
    """A step of an agent for which nothing is there yet. Lazily, being found comes before being called by name."""
    late = observed.lazy and kind == "account.profile"
    return Step(kind, key, name, info=info, agent_pk=agent_pk, late=late)


def _plan_invitations(
    steps: list[Step], observed: Observed, room: KnownRoom | None, key: str, name: str, agent_pk: int | None = None
) -> None:
    # A room that does not exist yet invites everybody in the request that makes it.
    if room is None or not room.room_id:
        return
    for user_id in observed.invitees:
        if (room.pk, user_id) not in observed.invited and user_id not in observed.paused:
            steps.append(Step("invite", key, name, {"user_id": user_id}, agent_pk=agent_pk))


def _absent(observed: Observed, agent: KnownAgent, now: datetime) -> list[Step]:
    key = f"{agent.service_id}/{agent.external_id}"
    since = agent.missing_since or now
    if agent.state == "active" or agent.missed_passes + 1 < ARCHIVE_PASSES or now - since < ARCHIVE_AFTER:
        # Written once, at the first sight; a pass that only repeats it writes nothing.
        if agent.state == "active":
            return [Step("agent.miss", key, agent.name, agent_pk=agent.pk)]
        return []
    return _archive(observed, agent)


def _archive(observed: Observed, agent: KnownAgent) -> list[Step]:
    key = f"{agent.service_id}/{agent.external_id}"
    return [Step("agent.archive", key, agent.name, agent_pk=agent.pk), *_leave_space(observed, agent)]


def _leave_space(observed: Observed, agent: KnownAgent) -> list[Step]:
    """An archived agent's room leaves the space; also later, when a crash or an outage came between."""
    if observed.homeserver_id is None or agent.room is None or not agent.room.room_id or not agent.room.in_space:
        return []
    return [Step("space.remove", f"{agent.service_id}/{agent.external_id}", agent.name, agent_pk=agent.pk)]


def topic_for(name: str, description: str) -> str:
    """The topic of an agent's room."""
    text = " ".join(description.split())
    return (f"Chat with {name}. {text}" if text else f"Chat with {name}.")[:500]
