"""Ways to cause silence and wrong routing for real."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from agents.models import Agent, AgentState, Mapping
from agents.services.mappings import rows_kept, rows_put_back
from chat.doctor.stuck import SILENT_AFTER
from chat.models import Conversation, Delivery, Link, LinkKind, Message, ParticipantKind, Role, Turn
from chat.services.conversations import next_seq, participant
from chat.turns.lanes import lane_of
from ops.doctor.faults import FaultRefused, register_fault
from ops.models import Service

ACTOR = "fault"


def put_a_message_off() -> dict[str, Any]:
    """A message that came some minutes ago and whose turn is due tomorrow, as after a clock that jumped."""
    agent = (
        Agent.objects.select_related("service")
        .filter(state=AgentState.ACTIVE, paused=False, service__enabled=True)
        .exclude(turns__state="running")
        .order_by("pk")
        .first()
    )
    made: dict[str, Any] = {}
    with transaction.atomic():
        if agent is None:
            service = Service.objects.create(name="practice", kind="demo", enabled=False)
            agent = Agent.objects.create(service=service, external_id="practice", name="Practice")
            made = {"service": service.pk, "agent": agent.pk}
        now = timezone.now()
        said = now - 2 * SILENT_AFTER
        conversation = Conversation.objects.create(title="A message that waits")
        Link.objects.create(conversation=conversation, kind=LinkKind.API, address=f"agent:{agent.pk}:fault")
        message = Message.objects.create(
            conversation=conversation, seq=next_seq(conversation.pk), role=Role.USER, text="Is anybody there?",
            sender=participant(conversation.pk, kind=ParticipantKind.GUEST, external_id="fault", name="Somebody"),
            transport="api", received_at=said, stored_at=said,
        )  # fmt: skip
        Turn.objects.create(
            conversation=conversation, agent=agent, message=message, seq=message.seq,
            lane=lane_of(agent, conversation.pk), created_at=said, not_before=now + timedelta(days=1),
        )  # fmt: skip
    return {**made, "conversation": conversation.pk}


def forget_the_message(memory: dict[str, Any]) -> None:
    """The conversation that was made for it goes."""
    key = memory["conversation"]
    Delivery.objects.filter(turn__conversation=key).delete()
    Turn.objects.filter(conversation=key).delete()
    Conversation.objects.filter(pk=key).update(head=None)
    Message.objects.filter(conversation=key).delete()
    Conversation.objects.filter(pk=key).delete()
    if memory.get("service"):
        Agent.objects.filter(pk=memory["agent"]).delete()
        Service.objects.filter(pk=memory["service"]).delete()


register_fault(
    "agent.silent",
    title="Put a message off until tomorrow",
    cause=put_a_message_off,
    heal=forget_the_message,
    evidence=("messages", "hops", "oldest"),
)


def swap_two_rooms() -> dict[str, Any]:
    """Two agents get each other's rooms in our rows, as after a careless edit of a mapping file."""
    two = list(
        Mapping.objects.filter(room__room_id__isnull=False, agent__state=AgentState.ACTIVE)
        .exclude(room__alias="")
        .order_by("pk")[:2]
    )
    if len(two) < 2:
        raise FaultRefused("It takes two agents with rooms.")
    memory = {"rows": rows_kept(two)}
    one, other = two
    with transaction.atomic():
        Mapping.objects.filter(pk__in=[one.pk, other.pk]).update(room=None)
        Mapping.objects.filter(pk=one.pk).update(room=other.room_id)
        Mapping.objects.filter(pk=other.pk).update(room=one.room_id)
    return memory


def swap_back(memory: dict[str, Any]) -> None:
    """To each its own."""
    rows_put_back(kept=memory["rows"], actor=ACTOR, message="A fault was healed.")


register_fault(
    "routing.wrong_agent",
    title="Swap the rooms of two agents",
    cause=swap_two_rooms,
    heal=swap_back,
    needs=("homeserver",),
    evidence=("mappings",),
)
register_fault(
    "routing.selftest",
    title="Swap the rooms of two agents, and ask them",
    cause=swap_two_rooms,
    heal=swap_back,
    needs=("homeserver", "backend"),
    evidence=("agents", "passed"),
)
