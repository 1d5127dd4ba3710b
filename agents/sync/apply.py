"""Applies a plan: idempotent steps, each persisted before the next, agents side by side.

A crash between two steps leaves nothing to clean up: names derive from ids, what the homeserver already has is adopted, and the
next pass plans exactly what is still missing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

from django.db import connections
from django.utils import timezone

from agents.backends.errors import BackendError
from agents.matrix.errors import HomeserverUnreachable, MatrixError, TokenRefused
from agents.matrix.patience import patiently
from agents.models import Agent, AgentState, Mapping, Room
from agents.services.backends import Homeserver
from agents.sync import rooms, rows
from agents.sync.again import tell_history
from agents.sync.bulk import Bulk
from agents.sync.drift import STEP
from agents.sync.drift_plan import blocks
from agents.sync.mend import Mender, NoWay
from agents.sync.steps import Step
from ops.findings import Finding
from ops.logs import get_logger
from ops.services.audit import record

log = get_logger(__name__)

# createRoom costs the homeserver most of the time; more at once only queue there. The other steps of further agents
# run beside it, so that the homeserver never waits for us.
PARALLEL = 12
ROOMS_AT_ONCE = 6
# Seconds that one agent's steps may wait for the homeserver in client mode.
PATIENCE = 45.0
GIVE_UP_AFTER = 3


@dataclass(slots=True)
class Outcome:
    """What came of the steps. ``done`` counts by kind; ``aborted`` says why the rest was left for the next pass.

    ``unmended`` are differences that could not be mended, by what they are about (mapping, kind, key), with the reason.
    """

    done: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    unmended: dict[tuple[int, str, str], str] = field(default_factory=dict)
    aborted: str = ""


class Applier:
    """One application of one plan."""

    def __init__(
        self,
        homeserver: Homeserver | None,
        *,
        actor: str,
        invitees: Sequence[str] = (),
        on_step: Callable[[int, int, str], None] | None = None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.homeserver = homeserver
        self.actor = actor
        self.invitees = tuple(invitees)
        self.on_step = on_step
        self.should_stop = should_stop
        self.outcome = Outcome()
        self.space_room_id = ""
        self._lock = threading.Lock()
        self._creating = threading.Semaphore(ROOMS_AT_ONCE)
        self._outages = 0
        self._total = self._count = 0

    def apply(self, steps: Sequence[Step]) -> Outcome:
        """Apply all steps; failures become findings and stay with their mapping, they never stop other agents."""
        groups: dict[str, list[Step]] = {}
        late: dict[str, list[Step]] = {}
        for step in steps:
            (late if step.late else groups).setdefault(step.key, []).append(step)
        self._total = len(steps)
        space = groups.pop("space", [])
        if self.homeserver is not None and (space or groups):
            try:
                with patiently(self._patience):
                    self._prepare_space(space)
            except MatrixError as error:
                self.fail(error.sentence, error.code, "space")
                self.abort(error.sentence)
        if self.homeserver is not None:
            Bulk(self.homeserver, self).take(groups)
        self._side_by_side(groups)
        self._side_by_side(late)
        return self.outcome

    def _side_by_side(self, groups: dict[str, list[Step]]) -> None:
        waiting: SimpleQueue[list[Step]] = SimpleQueue()
        for group in groups.values():
            waiting.put(group)
        threads = [
            threading.Thread(target=self._work, args=(waiting,), name=f"sync-{number}", daemon=True)
            for number in range(min(PARALLEL, len(groups)) - 1)
        ]
        for thread in threads:
            thread.start()
        self._work(waiting, own_thread=False)
        for thread in threads:
            thread.join()

    def _prepare_space(self, steps: list[Step]) -> None:
        assert self.homeserver is not None
        room = Room.objects.filter(homeserver=self.homeserver.service, kind="space").first()
        for step in steps:
            if step.kind.startswith(STEP):
                if room is not None:
                    room = self._mend_space(step, room)
                continue
            if step.kind == "space.create":
                room = rooms.ensure_space(self.homeserver, step.label, self.invitees)
            elif step.kind == "room.describe" and room is not None:
                rooms.describe(self.homeserver, room, step.label, room.topic, self.homeserver.sender_id)
            elif step.kind == "invite" and room is not None:
                rooms.invite(self.homeserver, room, step.detail["user_id"], self.homeserver.sender_id)
            self.did(step)
        self.space_room_id = (room.room_id or "") if room else ""

    def _work(self, waiting: SimpleQueue[list[Step]], own_thread: bool = True) -> None:
        try:
            while not self.outcome.aborted and not self.should_stop():
                try:
                    group = waiting.get_nowait()
                except Empty:
                    return
                self._apply_group(group)
        finally:
            if own_thread:
                connections.close_all()

    def _apply_group(self, group: list[Step]) -> None:
        with patiently(self._patience):
            self._apply_steps(group)

    @property
    def _patience(self) -> float:
        """Ordinary accounts have limits, and a sync has time."""
        return PATIENCE if self.homeserver is not None and self.homeserver.client_mode else 0.0

    def _apply_steps(self, group: list[Step]) -> None:
        agent = _agent_of(group[0])
        try:
            for step in group:
                if step.kind.startswith(STEP):
                    if not self._mend(step, agent) and blocks(step):
                        return
                    continue
                agent = self._apply_step(step, agent)
                self.did(step)
        except (MatrixError, BackendError) as error:
            sentence = error.sentence if isinstance(error, MatrixError) else error.reason
            self.note_problem(agent, sentence)
            self.fail(sentence, error.code, group[0].label)
            if isinstance(error, (HomeserverUnreachable, TokenRefused)):
                with self._lock:
                    self._outages += 1
                    if self._outages >= GIVE_UP_AFTER or isinstance(error, TokenRefused):
                        self.abort(sentence)
        except Exception as error:
            # One agent's trouble must not keep the others from their rooms.
            log.exception("sync.step_failed", agent=group[0].label)
            sentence = f"{type(error).__name__} while setting up {group[0].label}; the log has the details."
            self.note_problem(agent, sentence)
            self.fail(sentence, "sync.step_failed", group[0].label)
        else:
            if agent is not None:
                Mapping.objects.filter(agent=agent).exclude(problem="").update(problem="", problem_since=None)

    def _mender(self) -> Mender:
        assert self.homeserver is not None
        return Mender(self.homeserver, self.actor, self.invitees, self.space_room_id)

    def _mend(self, step: Step, agent: Agent | None) -> bool:
        """Mend one difference of an agent. What cannot be mended keeps neither it nor others from what can."""
        mapping = (
            Mapping.objects.select_related("account__homeserver", "room", "agent__service").filter(agent=agent).first()
        )
        if mapping is None:
            return False
        kind, key = step.kind.removeprefix(STEP), step.detail["drift"]
        try:
            self._mender().mend(kind, mapping, key, step.detail["found"])
        except (NoWay, MatrixError) as error:
            if isinstance(error, MatrixError) and error.general:
                raise
            self._unmended(step, error.sentence)
            if blocks(step):
                self.note_problem(agent, error.sentence)
            return False
        self.did(step)
        return True

    def _mend_space(self, step: Step, room: Room) -> Room:
        kind, key, target = step.kind.removeprefix(STEP), step.detail["drift"], step.detail.get("target", "")
        try:
            room = self._mender().mend_space(kind, room, key, step.detail["found"], target=target, name=step.label)
        except (NoWay, MatrixError) as error:
            if isinstance(error, MatrixError) and error.general:
                raise
            self._unmended(step, error.sentence)
            return room
        self.did(step)
        return room

    def _unmended(self, step: Step, sentence: str) -> None:
        kind = step.kind.removeprefix(STEP)
        with self._lock:
            self.outcome.unmended[step.detail["mapping"], kind, step.detail["drift"]] = sentence
        self.fail(f"{step.label}: {step.detail['what']} {sentence}", "drift.not_mended", step.label)

    def _apply_step(self, step: Step, agent: Agent | None) -> Agent | None:
        if step.kind == "agent.create":
            assert step.info is not None
            return rows.create_agent(step.detail["service"], step.info, actor=self.actor)
        if agent is None:
            raise LookupError(f"{step.label}: no such agent")
        if step.kind == "agent.update":
            assert step.info is not None
            rows.update_agent(agent, step.info, actor=self.actor)
        elif step.kind == "agent.miss":
            rows.set_state(agent, AgentState.MISSING, actor=self.actor, missed_passes=1, missing_since=timezone.now())
        elif step.kind == "agent.archive":
            rows.set_state(agent, AgentState.ARCHIVED, actor=self.actor)
        elif step.kind == "agent.return":
            rows.set_state(agent, AgentState.ACTIVE, actor=self.actor, missed_passes=0, missing_since=None)
        elif self.homeserver is not None:
            self._apply_matrix_step(self.homeserver, step, agent)
        return agent

    def _apply_matrix_step(self, homeserver: Homeserver, step: Step, agent: Agent) -> None:
        if step.kind == "mapping.create":
            rows.reserve_mapping(homeserver, agent)
            return
        mapping = Mapping.objects.select_related("account", "room", "agent").get(agent=agent)
        mapping.agent = agent
        room = mapping.room
        assert room is not None
        if step.kind == "account.register":
            rooms.register_account(homeserver, mapping.account)
        elif step.kind == "account.profile":
            rooms.set_profile(homeserver, mapping.account, agent)
        elif step.kind == "room.create":
            with self._creating:
                created = rooms.ensure_room(homeserver, mapping, self.invitees, self.space_room_id)
            record(
                actor=self.actor,
                action="room.created" if created else "room.adopted",
                target=room,
                message=f"{agent.name}: {room.room_id}",
            )
            if created:
                tell_history(homeserver, mapping)
        elif step.kind == "room.describe":
            rooms.describe_agent_room(homeserver, mapping)
        elif step.kind == "space.add" and self.space_room_id:
            rooms.add_to_space(homeserver, room, self.space_room_id, agent.name)
            if step.detail.get("parent"):
                rooms.name_space(homeserver, room, self.space_room_id, mapping.account.user_id)
        elif step.kind == "space.remove" and self.space_room_id:
            rooms.remove_from_space(homeserver, room, self.space_room_id)
        elif step.kind == "invite":
            rooms.invite(homeserver, room, step.detail["user_id"], mapping.account.user_id)

    def note_problem(self, agent: Agent | None, sentence: str) -> None:
        if agent is not None:
            Mapping.objects.filter(agent=agent).exclude(problem=sentence[:500]).update(
                problem=sentence[:500], problem_since=timezone.now()
            )

    def did(self, step: Step) -> None:
        with self._lock:
            self._count += 1
            self.outcome.done[step.kind] = self.outcome.done.get(step.kind, 0) + 1
            count = self._count
        if self.on_step is not None:
            self.on_step(count, self._total, step.sentence)

    def fail(self, sentence: str, code: str, target: str) -> None:
        with self._lock:
            self.outcome.findings.append(Finding("error", code, sentence, target))

    def abort(self, why: str) -> None:
        self.outcome.aborted = why


def _agent_of(step: Step) -> Agent | None:
    """The agent's row; that of a late step may have been made in this very pass."""
    if step.agent_pk:
        return Agent.objects.filter(pk=step.agent_pk).first()
    if step.late and step.info is not None:
        service = int(step.key.partition("/")[0])
        return Agent.objects.filter(service_id=service, external_id=step.info.external_id).first()
    return None
