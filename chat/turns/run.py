"""Runs a turn: claim, ask the backend, collect the answer, finish, go on with the next of the lane."""

from __future__ import annotations

from collections.abc import Sequence

from django.conf import settings

from agents.backends.base import Approval, Approving, Backend, ReplyRequest, Speaker
from agents.backends.chunks import Finished
from agents.backends.errors import AgentGone, BackendBroken, BackendError, BackendNeedsApproval
from agents.backends.registry import kind_of, open_backend
from agents.models import AgentState
from agents.services.backends import spec_of
from chat import live
from chat.deliveries.run import run_delivery
from chat.matrix import media
from chat.matrix.preview import Preview
from chat.models import Delivery, Participant, ParticipantKind, Turn
from chat.turns import batches, claim, finish, waiting
from chat.turns.client import from_client
from chat.turns.files import files_of
from chat.turns.history import history_of
from chat.turns.places import Place, known_place, place_of
from chat.turns.slots import SLOTS
from chat.turns.stream import Collector, LeaseLost
from chat.wakeup import wake_turns
from ops import quiet
from ops.logs import bind, get_logger

log = get_logger(__name__)

IN_ONE_GO = 50
# Taken up and lost with its worker so often beyond its attempts, a turn may be what kills workers.
LOST_CLAIMS = 8


def run_turns(pks: Sequence[int]) -> None:
    """Run some turns one after the other. One that waits longer than a moment holds nobody up: the rest is woken elsewhere."""
    batches.run_batch(pks, run_turn)


def run_turn(pk: int) -> None:
    """Run one turn if it is to be had, then those that waited behind it. Safe to call twice, and for a turn that is over."""
    if not SLOTS.take():
        return
    try:
        waiting = [pk]
        for _ in range(IN_ONE_GO):
            if not waiting:
                return
            waiting = _run_one(waiting.pop(0)) or waiting
        wake_turns(waiting[:1])
    finally:
        SLOTS.give_back()


def _run_one(pk: int) -> list[int]:
    """Returns the turns that may be next."""
    if quiet.is_quiet():
        # The sweep finds it again.
        return []
    turn = claim.load(pk)
    if turn is None or not claim.may_run(turn) or not claim.claim_turn(turn):
        return []
    live.turn_changed(turn)
    with bind(turn_id=turn.pk, message_id=turn.message_id, agent=turn.agent.name):
        try:
            deliveries = _answer(turn)
        except LeaseLost:
            # Somebody else has taken the turn over. Nothing more may be written from here.
            log.warning("turn.lease_lost")
            return []
        for delivery in deliveries:
            with batches.waiting():
                run_delivery(delivery)
    following = claim.next_in_lane(turn.lane)
    if not following and SLOTS.turned_away.is_set():
        SLOTS.turned_away.clear()
        following = [row.pk for row in claim.runnable(limit=1)]
    return following


def _answer(turn: Turn) -> Sequence[int | Delivery]:
    """Ask the backend and write down what came of it. Returns the deliveries to send."""
    preview = Preview(turn)
    collector = Collector(turn, preview.show)
    preview.begin()
    try:
        if turn.attempts > settings.TURN_ATTEMPTS + LOST_CLAIMS:
            raise finish.worker_lost(turn)
        if turn.agent.state == AgentState.ARCHIVED:
            raise AgentGone(f"{turn.agent.name} is archived: it is no longer in the list of {turn.agent.service.name}.")
        if not turn.agent.service.enabled:
            raise finish.switched_off(turn)
        backend = open_backend(spec_of(turn.agent.service))
        with batches.waiting():
            _ask(turn, backend, collector)
        if collector.finished is None:
            raise BackendBroken(f"{turn.agent.service.name} ended its answer without saying so.")
        if collector.finished.reason == "approval" and not collector.asked:
            raise BackendNeedsApproval(f"{turn.agent.service.name} waits for approval and does not say of what.")
        if not collector.text.strip() and collector.finished.reason not in {"cancelled", "approval"}:
            raise BackendBroken(
                f"{turn.agent.service.name} gave an empty answer (reason: {collector.finished.reason}).",
                public=f"{turn.agent.name} gave an empty answer.",
            )
    except BackendError as error:
        collector.flush()
        preview.end()
        return finish.failed(turn, collector, error)
    except LeaseLost:
        preview.end()
        raise
    except Exception as error:
        log.exception("turn.crashed")
        preview.end()
        return finish.failed(turn, collector, finish.internal(error))
    collector.flush()
    preview.end()
    if collector.finished.reason == "approval":
        return finish.waits(turn, collector, list(collector.asked.values()))
    return finish.done(turn, collector, previewed=preview.used or turn.fence > 1)


def _ask(turn: Turn, backend: Backend, collector: Collector) -> None:
    """What the backend says, into the collector. Raises ``BackendError`` and ``LeaseLost``."""
    if turn.stop_requested_by:
        # Asked to stop while another worker had it, or between two attempts.
        stop_upstream(turn, backend)
        collector.finished = Finished("cancelled")
        return
    if media.waits(turn.message):
        media.fetch(turn)
    request = _request(turn, backend)
    collector.characters_sent = len(request.text) + sum(len(item.text) for item in request.history)
    for entry in waiting.last_round(turn.approvals):
        if entry["approve"] is False:
            collector.refused(entry["id"], entry["name"], entry["reason"])
    for chunk in backend.stream_reply(request, should_stop=collector.should_stop):
        collector.take(chunk)


def stop_upstream(turn: Turn, backend: Backend) -> None:
    """Have the backend end its work on a turn, and refuse the calls that wait for a word. What it cannot end is logged."""
    try:
        if turn.approvals and isinstance(backend, Approving):
            # Nobody waits for the answer any more, so nothing of it may be run; others' calls are left to them.
            own = [one for one in waiting.last_round(turn.approvals) if not one["foreign"]]
            refusals = [Approval(one["id"], False, "The answer was stopped.") for one in own]
            if refusals:
                backend.refuse_calls(turn.agent.external_id, refusals, known_place(turn))
        if not turn.upstream_ref:
            return
        backend.cancel(turn.agent.external_id, turn.upstream_ref, known_place(turn))
    except BackendError as error:
        log.warning("turn.not_stopped_upstream", reason=error.reason[:300])


def _request(turn: Turn, backend: Backend) -> ReplyRequest:
    traits, agent, message = kind_of(turn.agent.service.kind).traits, turn.agent, turn.message
    place = place_of(turn, backend, _installation()) if traits.has_conversations else Place("")
    client = from_client(message)
    return ReplyRequest(
        agent_external_id=agent.external_id,
        text=(client.told(fresh=bool(place.history)) if traits.keeps_history else "") + media.text_for_agent(message),
        speaker=_speaker(message.sender),
        idempotency_id=idempotency_id(turn),
        # A turn that stepped back because the backend was busy has never been heard there.
        attempt=turn.attempts,
        conversation_ref=place.ref,
        resume_ref=turn.upstream_ref,
        history=place.history if traits.keeps_history else history_of(turn),
        instructions="" if traits.keeps_history else client.instructions,
        whole_history=client.whole,
        definition=agent.definition,
        timeout_seconds=settings.TURN_TIMEOUT,
        attachments=files_of(message),
        approvals=waiting.words(turn),
        unheard=waiting.is_unheard(turn),
    )


def idempotency_id(turn: Turn) -> str:
    """The same for every attempt at one input (a message, a word about tool calls); different on another installation's database."""
    import uuid

    again = f":{turn.variant}" if turn.variant else ""
    if turn.approvals and not waiting.is_unheard(turn):
        again += f":approval{waiting.last_round(turn.approvals)[0]['round']}"
    # The time keeps a database that was lost and begun anew from meeting the ids of its former life: it would get former answers.
    born = int(turn.message.stored_at.timestamp() * 1e6)
    key = f"switchboard:{_installation()}:{turn.message_id}.{born:x}:{turn.agent_id}{again}"
    return str(uuid.uuid5(uuid.NAMESPACE_URL, key))


def _installation() -> str:
    import hashlib

    return hashlib.sha256(f"installation:{settings.MATRIX_HS_TOKEN}".encode()).hexdigest()[:16]


def _speaker(sender: Participant) -> Speaker:
    kind = "agent" if sender.kind == ParticipantKind.AGENT else "person"
    return Speaker(name=sender.name or sender.external_id, kind=kind, id=sender.external_id)  # type: ignore[arg-type]
