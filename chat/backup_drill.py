"""What a drill tries of conversations: are the attachments there, and does a message still find its way?

These run in the drill's own process only. The backend that answers and the place in which the answer is shown are stand-ins.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from django.db import connection
from django.utils import timezone

from agents.backends import registry
from agents.backends.base import (
    AgentInfo,
    AgentListing,
    Health,
    MemoryBlock,
    ReplyRequest,
    ServiceSpec,
    ShouldStop,
    Traits,
)
from agents.backends.chunks import Chunk, Finished, RunStarted, TextDelta
from agents.models import Agent, AgentState
from chat.backup_files import SEEN
from chat.deliveries import run as deliveries
from chat.models import Attachment, Delivery, DeliveryState, Turn, TurnState
from chat.services.messages import CannotSend, message_send
from chat.turns.run import run_turn
from ops.backup.probes import ProbeFailed, Probing, register_probe
from ops.findings import Finding
from ops.models import Service
from ops.words import counted

QUESTION, ANSWER = "Is anybody there? (a drill)", "A stand-in answers: the way is whole."
_KIND = "drill"
# A guard or a quota of one agent is no fault of the backup's: the next one is asked.
_MOST_AGENTS = 10
_heard: list[ReplyRequest] = []
_shown: list[int] = []


class StandIn:
    """Answers every message with the same words, at once."""

    kind = _KIND
    traits = Traits()

    def __init__(self, spec: ServiceSpec) -> None:
        self.spec = spec

    def list_agents(self) -> AgentListing:
        return AgentListing([], False, "A stand-in has no list.")

    def get_agent(self, external_id: str) -> AgentInfo | None:
        return AgentInfo(external_id, external_id)

    def open_conversation(self, agent_external_id: str, *, title: str, key: str) -> str:
        return ""

    def stream_reply(self, request: ReplyRequest, *, should_stop: ShouldStop) -> Iterator[Chunk]:
        _heard.append(request)
        yield RunStarted("drill")
        yield TextDelta(ANSWER)
        yield Finished("stop")

    def cancel(self, agent_external_id: str, run_ref: str, conversation_ref: str = "") -> None:
        """Nothing of it goes on."""

    def health(self) -> Health:
        return Health(True, "A stand-in answers.")

    def read_memory(self, agent_external_id: str) -> Sequence[MemoryBlock]:
        return ()

    def write_memory(self, agent_external_id: str, label: str, value: str) -> MemoryBlock:
        return MemoryBlock(label, value)

    def close(self) -> None:
        """It holds nothing."""


def _show(delivery: Delivery) -> dict[str, Any]:
    _shown.append(delivery.pk)
    return {"shown": [{"txn": f"drill-{delivery.pk}", "event_id": f"$drill-{delivery.pk}"}]}


def _put_stand_ins() -> None:
    path = f"{__name__}.{StandIn.__name__}"
    for kind, known in list(registry.BACKENDS.items()):
        registry.BACKENDS[kind] = replace(known, path=path)
    registry.BACKENDS[_KIND] = registry.BackendKind(_KIND, path, "Stand-in of a drill", needs_address=False)
    registry.close_all()
    for target in list(deliveries._handlers):
        deliveries.register_target(target, _show)


def probe_attachments(probing: Probing) -> str:
    """Every attachment's row has its content in the backup; contents that are missing were missing when it was made."""
    number = Attachment.objects.count()
    if not number:
        return "There are no attachments."
    seen = probing.data_dir / SEEN
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE seen_content (sha256 text PRIMARY KEY)")
        if seen.is_file():
            with seen.open(encoding="ascii") as lines:
                while batch := [[line.strip()] for line in islice(lines, 5000)]:
                    cursor.executemany("INSERT OR IGNORE INTO seen_content VALUES (%s)", batch)
        cursor.execute("SELECT COUNT(*) FROM chat_attachment WHERE sha256 NOT IN (SELECT sha256 FROM seen_content)")
        lost = int(cursor.fetchone()[0])
        cursor.execute("DROP TABLE seen_content")
    damaged = probing.counts.get("attachments", {}).get("damaged", 0)
    if lost:
        sentence = (
            f"{counted(lost, 'attachment has', 'attachments have')} no content in the backup"
            f"{f', {damaged:,} because it was damaged' if damaged else ''}: that was so when it was made."
        )
        probing.say(Finding("warning", "drill.attachments", sentence, "", {"lost": lost, "damaged": damaged}))
        return f"{counted(number - lost, 'attachment')} of {number:,} with content. {sentence}"
    return (
        f"{counted(number, 'attachment has', 'attachments have')} their content."
        if number > 1
        else "Its content is there."
    )


def probe_message(probing: Probing) -> str:
    """A message to one of the restored agents is stored, answered and delivered, in its own conversation."""
    _put_stand_ins()
    refused = ""
    for agent in _candidates():
        try:
            return _ask(agent)
        except CannotSend as error:
            refused = f"{agent.name}: {error.sentence}"
    if refused:
        raise ProbeFailed(f"No restored agent takes a message. {refused}")
    service = Service.objects.create(name=f"drill-{timezone.now():%H%M%S%f}", kind=_KIND)
    return _ask(Agent.objects.create(service=service, external_id="drill", name="Drill"))


def _candidates() -> list[Agent]:
    """Agents that would answer, those with a room first."""
    rows = Agent.objects.filter(state=AgentState.ACTIVE, paused=False, service__enabled=True)
    rows = rows.filter(service__kind__in=list(registry.BACKENDS)).select_related("service", "mapping__room")
    with_room = rows.filter(mapping__room__room_id__isnull=False).order_by("pk")
    return [*with_room[:_MOST_AGENTS], *rows.filter(mapping__room__room_id__isnull=True).order_by("pk")[:_MOST_AGENTS]]


def _ask(agent: Agent) -> str:
    began = time.monotonic()
    sent = message_send(agent=agent, text=QUESTION, speaker_id="drill", speaker_name="Drill", transport="drill")
    if sent.turn is None:
        raise ProbeFailed(
            f"A message to {agent.name} was stored and is not answered ({sent.message.guard or 'no turn'})."
        )
    run_turn(sent.turn.pk)
    turn = Turn.objects.select_related("reply").get(pk=sent.turn.pk)
    if turn.state != TurnState.DONE or turn.reply is None:
        raise ProbeFailed(
            f"A message to {agent.name} was not answered: {turn.get_state_display()}. {turn.error_reason}".strip()
        )
    if ANSWER not in turn.reply.text or not any(QUESTION in request.text for request in _heard):
        raise ProbeFailed(f"{agent.name} answered something else than its stand-in said.")
    late = Delivery.objects.filter(message__in=[sent.message.pk, turn.reply.pk])
    for pk in late.filter(state=DeliveryState.QUEUED).order_by("pk").values_list("pk", flat=True):
        deliveries.run_delivery(pk)
    waiting = late.exclude(state=DeliveryState.SENT).first()
    if waiting is not None:
        raise ProbeFailed(
            f"The answer of {agent.name} was not delivered: {waiting.get_state_display()}. {waiting.error_reason}".strip()
        )
    mapping = getattr(agent, "mapping", None)
    where = (
        "in its room" if mapping is not None and mapping.room is not None and mapping.room.room_id else "without a room"
    )
    return (
        f"A message to {agent.name} ({where}) was stored, answered by a stand-in and delivered "
        f"{counted(len(_shown), 'time')}, in {(time.monotonic() - began) * 1000:,.0f} ms."
    )


register_probe("attachments", probe_attachments)
register_probe("message", probe_message)
