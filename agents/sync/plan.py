"""From what is wanted and what is known to a list of steps. Pure: no database, no server, no clock but the one given."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from agents.backends.base import AgentInfo
from agents.sync.observe import KnownAgent, KnownRoom, Observed, ServiceView, fingerprint, usable_avatar
from agents.sync.steps import Step, SyncPlan
from agents.sync.stops import (
    MOVED,
    STATE_LOST,
    homeserver_emptied,
    is_suspicious,
    lost_of,
    other_servers,
    population,
    serious,
    server_renamed,
    state_forgotten,
)
from ops.findings import Finding
from ops.words import counted, verb

# Absent from this many complete lists in a row, and for this long, before an agent is archived.
ARCHIVE_PASSES = 2
ARCHIVE_AFTER = timedelta(seconds=5)
# So many agents are named by their rows in a finding.
MOST_NAMED = 500
# A room costs the homeserver a third of a second: from so many new ones on they are better made when somebody comes.
LAZY_FROM = 2_000
_EAGER = ("mapping.create", "account.register", "account.profile", "room.create", "space.add")
_LAZY = ("mapping.create", "account.register", "account.profile")


def make_plan(observed: Observed, *, now: datetime, force: bool = False, space_name: str = "Letta Agents") -> SyncPlan:
    """The steps that bring our rows and the homeserver to what the backends say.

    ``force`` applies a plan that would otherwise stop and ask, and archives at once what it asked about; it never archives on an
    incomplete list.
    """
    plan = SyncPlan()
    if servers := other_servers(observed):
        plan.findings.append(server_renamed(observed, servers))
        plan.stopped += [view.name for view in observed.services]
        return plan
    if observed.loss is not None and serious(observed.loss):
        if not force:
            plan.findings.append(homeserver_emptied(observed, observed.loss))
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
    lost = lost_of(gone, view.listing.agents, observed.skip)
    suspicious = view.listing.complete and is_suspicious(lost, known)
    if suspicious and not force:
        plan.stopped.append(view.name)
        plan.findings.append(
            Finding(
                "error",
                "sync.suspicious",
                f"{len(lost)} of {counted(population(known), 'agent')} {verb(len(lost), 'is', 'are')} no longer in the list of {view.name}. Nothing was changed. "
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
    if not force and (forgotten := state_forgotten(observed, view, listed, known)) is not None:
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
