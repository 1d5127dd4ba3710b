"""Makes an agent slow: answers that took long, as rows, and a fallback model to go on with."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from agents.backends.base import ModelChoice
from agents.backends.errors import BackendError
from agents.models import Agent, AgentState
from agents.services.backends import backend_for
from chat.models import Conversation, Message, Participant, ParticipantKind, Role, Turn, TurnState
from ops.doctor.faults import FaultRefused, register_fault
from ops.models import Service
from ops.services.services import service_save

ACTOR = "fault"
ANSWERS = 6


def slow_answers(agent: Agent, *, seconds: float = 40.0, count: int = ANSWERS) -> int:
    """``count`` answers of the last minutes whose first word took ``seconds``. Returns the conversation's key."""
    now = timezone.now()
    with transaction.atomic():
        conversation = Conversation.objects.create(title="Slow answers", next_seq=count + 1)
        people = Participant.objects.create(
            conversation=conversation, kind=ParticipantKind.GUEST, external_id="somebody", name="Somebody"
        )
        for number in range(count):
            said = now - timedelta(minutes=5, seconds=number)
            message = Message.objects.create(
                conversation=conversation, seq=number + 1, sender=people, role=Role.USER, text="How are you?",
                transport="fault", received_at=said, stored_at=said,
            )  # fmt: skip
            Turn.objects.create(
                conversation=conversation, agent=agent, message=message, seq=number + 1, lane=f"fault:{conversation.pk}",
                state=TurnState.DONE, not_before=said, created_at=said, started_at=said + timedelta(seconds=0.1),
                first_token_at=said + timedelta(seconds=seconds), finished_at=said + timedelta(seconds=seconds + 2),
                output_tokens=60, attempts=1,
            )  # fmt: skip
    return conversation.pk


def _cause() -> dict[str, Any]:
    agent = (
        Agent.objects.filter(service__kind="letta", service__enabled=True)
        .exclude(state=AgentState.ARCHIVED)
        .select_related("service")
        .order_by("pk")
        .first()
    )
    if agent is None:
        raise FaultRefused("There is no agent of a Letta server here.")
    backend = backend_for(agent.service)
    try:
        models = backend.list_models() if isinstance(backend, ModelChoice) else []
    except BackendError as error:
        raise FaultRefused(f"Letta's models cannot be listed: {error.reason}") from error
    others = [model for model in models if model != agent.model and not model.startswith("letta/")]
    if not others:
        raise FaultRefused("Letta has no second model to fall back to.")
    memory = {"service": agent.service.name, "options": dict(agent.service.options), "agent": agent.pk}
    _options(agent.service, {**agent.service.options, "fallback_model": others[0]})
    memory["conversation"] = slow_answers(agent)
    return memory


def _heal(memory: dict[str, Any]) -> None:
    with transaction.atomic():
        Message.objects.filter(conversation_id=memory["conversation"]).delete()
        Conversation.objects.filter(pk=memory["conversation"]).delete()
    service = Service.objects.filter(name=memory["service"]).first()
    if service is not None:
        _options(service, memory["options"])


def _options(service: Service, options: dict[str, Any]) -> None:
    service_save(
        actor=ACTOR,
        name=service.name,
        kind=service.kind,
        base_url=service.base_url,
        options=options,
        enabled=service.enabled,
        managed_by=service.managed_by,
    )


register_fault(
    "llm.slow",
    title="An agent's model takes 40 seconds to begin",
    cause=_cause,
    heal=_heal,
    needs=("letta",),
    repair_target=lambda memory: f"service:{memory['service']}",
    evidence=("dominant", "slowest", "target_seconds"),
)
