"""An agent moves to another server: the same row, so the same account, room and conversations; only who answers is another.

What is left behind at the former place is an archived row that says so, or sync would take up the former agent anew and give it a
room. It can be released (``agent_release``), and an agent can move back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from django.db import transaction

from agents.backends.base import AgentInfo
from agents.backends.errors import BackendError
from agents.backends.registry import BACKENDS
from agents.matrix.errors import MatrixError
from agents.models import Agent, AgentState, Mapping
from agents.services.backends import backend_for, homeserver_of
from agents.sync.observe import tidy
from agents.sync.rows import described
from agents.sync.stops import MOVED
from agents.sync.takeover import mark_room
from ops.locks import LockHeld, named_lock
from ops.logs import get_logger
from ops.models import Service
from ops.services.audit import record

log = get_logger(__name__)

# Which of two rooms goes on when the other server's agent has one already.
Keep = Literal["", "own", "theirs"]
Mover = Callable[[Agent], None]
_guards: list[Mover] = []
_movers: list[Mover] = []
_SAID = ("name", "description", "avatar_url", "model", "metadata", "fingerprint")


class CannotMove(Exception):
    """``sentence`` says why and what to do; ``code`` is stable."""

    def __init__(self, sentence: str, *, code: str) -> None:
        super().__init__(sentence)
        self.sentence, self.code = sentence, code


def register_mover(mover: Mover, *, guard: Mover | None = None) -> None:
    """Let the app above forget what the former server knew of the agent. ``guard`` may raise ``CannotMove`` before anything changes."""
    if mover not in _movers:
        _movers.append(mover)
    if guard is not None and guard not in _guards:
        _guards.append(guard)


def agent_move(
    *, agent: Agent, service: Service, external_id: str, actor: str, keep: Keep = "", info: AgentInfo | None = None
) -> Agent:
    """Let the agent be answered by another server's agent from now on. Account, room, conversations and settings stay.

    The other server must list ``external_id``. Where it has a row with a room already, ``keep`` says which room goes on: the
    agent's ``own``, or ``theirs``; the other room is archived with everything in it. ``info``: what the server said of it a moment
    ago, where that is known already. Raises ``CannotMove``.
    """
    info = tidy(info) if info is not None else _listed(service, external_id)
    try:
        with named_lock("agents.move", wait=10.0), transaction.atomic():
            agent = Agent.objects.select_for_update().get(pk=agent.pk)
            if (agent.service_id, agent.external_id) == (service.pk, external_id):
                raise CannotMove(f"{agent.name} is on {service.name} already.", code="agent.there_already")
            for guard in _guards:
                guard(agent)
            before = {"service": agent.service.name, "external_id": agent.external_id}
            other = _other(agent, service, external_id, keep)
            _exchange(agent, other, service, info)
            if keep == "theirs":
                _exchange_rooms(agent, other, actor)
            for mover in _movers:
                mover(agent)
            record(
                actor=actor,
                action="agent.moved",
                target=agent,
                message=f"{agent.name} is answered by {service.name} now.",
                before=before,
                after={"service": service.name, "external_id": external_id},
            )
            if keep == "theirs":
                for mapping in Mapping.objects.filter(agent__in=(agent, other)):
                    record(actor=actor, action="mapping.exchanged", target=mapping, message=f"{agent.name} was moved.")
    except LockHeld as error:
        raise CannotMove("Another agent is being moved. Try again in a moment.", code="agent.move_busy") from error
    _mark(agent)
    _mark(other)
    return agent


def agent_release(*, agent: Agent, actor: str) -> Agent:
    """Let sync take up again what an agent left behind when it moved: the former server's agent, with an account and room of its own."""
    with transaction.atomic():
        if not Agent.objects.filter(pk=agent.pk, fingerprint=MOVED).update(fingerprint=""):
            raise CannotMove(f"{agent.name} was not left behind by a move.", code="agent.not_moved")
        record(actor=actor, action="agent.released", target=agent)
    agent.fingerprint = ""
    return agent


def _listed(service: Service, external_id: str) -> AgentInfo:
    if service.kind not in BACKENDS or not service.enabled:
        raise CannotMove(f"{service.name} is no enabled server on which agents live.", code="agent.no_server")
    try:
        listing = backend_for(service).list_agents()
    except BackendError as error:
        raise CannotMove(f"The agents of {service.name} could not be read: {error.reason}", code=error.code) from error
    info = next((one for one in listing.agents if one.external_id == external_id), None)
    if info is None:
        raise CannotMove(
            f"{service.name} lists no agent {external_id!r}. Make it there first, or correct the id.",
            code="agent.not_listed",
        )
    return tidy(info)


def _other(agent: Agent, service: Service, external_id: str, keep: Keep) -> Agent:
    """The row that stands at the agent's new place (made when there is none). It will stand at the former one."""
    other = Agent.objects.select_for_update().filter(service=service, external_id=external_id).first()
    if other is None:
        return Agent(service=service, external_id=external_id, name=agent.name)
    mapping = Mapping.objects.filter(agent=other).select_related("room").first()
    roomed = mapping is not None and mapping.room is not None and bool(mapping.room.room_id)
    if roomed and not keep:
        raise CannotMove(
            f"{other.name} on {service.name} has a room already. Say which room goes on: that of {agent.name} (own) or "
            f"that of {other.name} (theirs); the other one is archived.",
            code="agent.has_room",
        )
    if keep == "theirs" and not roomed:
        raise CannotMove(f"{other.name} on {service.name} has no room that could be kept.", code="agent.has_no_room")
    return other


def _exchange(agent: Agent, other: Agent, service: Service, info: AgentInfo) -> None:
    """The two rows change places. The one that is left behind is archived, and its fingerprint keeps sync from taking it up."""
    former, former_id, definition = agent.service, agent.external_id, agent.definition
    said = {field: getattr(agent, field) for field in _SAID}
    theirs = other.definition
    if other.pk:
        # One place for two rows is refused by the database, also for a moment.
        Agent.objects.filter(pk=other.pk).update(external_id=f"\x7f{other.pk}")
    agent.service, agent.external_id, agent.definition = service, info.external_id, theirs
    for field, value in described(info).items():
        setattr(agent, field, value)
    agent.state, agent.missed_passes, agent.missing_since = AgentState.ACTIVE, 0, None
    agent.save()
    other.service, other.external_id, other.definition = former, former_id, definition
    for field, value in said.items():
        setattr(other, field, value)
    other.name = f"{str(said['name'])[:240]} (moved)"
    other.state, other.fingerprint = AgentState.ARCHIVED, MOVED
    other.save()


def _exchange_rooms(agent: Agent, other: Agent, actor: str) -> None:
    own, theirs = Mapping.objects.filter(agent=agent).first(), Mapping.objects.get(agent=other)
    if own is not None:
        # The column holds one mapping an agent, so the accounts and rooms change places, not the agents.
        account, room = own.account_id, own.room_id
        kept = theirs.account_id, theirs.room_id
        record(
            actor=actor, action="mapping.removed", target=theirs, message="Its account and room went to another agent."
        )
        theirs.delete()
        own.account_id, own.room_id = kept
        own.save()
        Mapping.objects.create(agent=other, account_id=account, room_id=room)
    else:
        theirs.agent = agent
        theirs.save()


def _mark(agent: Agent) -> None:
    """Names do not say any more whose the room is; the room itself does."""
    mapping = (
        Mapping.objects.select_related("agent__service", "account__homeserver", "room").filter(agent=agent).first()
    )
    if mapping is None or mapping.room is None or not mapping.room.room_id:
        return
    try:
        mark_room(homeserver_of(mapping.account.homeserver), mapping.room, mapping)
    except MatrixError as error:
        log.warning("agent.room_not_marked", agent=agent.name, error=error.sentence[:300])
