"""``chat.no_response``: something was said in the portal, and nobody is on it. ``chat.retry`` has it answered, once.

What waits behind a server that is down, and what was given up after every attempt, have checks of their own (``agent.silent``,
``turns.moving``, ``deliveries.dead_letters``); this one looks at messages of the portal that have no turn at all, and at answers that
people do not see because they are in no branch.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone

from agents.models import Agent, AgentState
from chat.doctor.faults import forget_the_message
from chat.doctor.stuck import LOOKED_BACK, MOST, SILENT_AFTER
from chat.models import Conversation, Link, LinkKind, Message, MessageState, ParticipantKind, Role, Turn
from chat.services import silence
from chat.services.conversations import next_seq, participant
from chat.services.turns import FAILED_STATES
from ops.doctor.faults import register_fault
from ops.doctor.repairs import Change, Plan, RepairRefused, RepairWork, register_repair
from ops.models import Service
from ops.registry import Affected, CheckOutcome, register_check
from ops.words import counted, verb


def unanswered(*, message: int | None = None) -> QuerySet[Message]:
    """Messages of the portal for which no turn was made although somebody answers there: lost between two steps."""
    now = timezone.now()
    rows = Message.objects.filter(
        conversation__portal=True,
        conversation__agent__isnull=False,
        role=Role.USER,
        state=MessageState.STORED,
        guard="",
    ).exclude(conversation__agent__state=AgentState.ARCHIVED)
    # What was imported, or said beside agents in a room, was never for an agent of the portal.
    rows = rows.exclude(transport="import")
    if message is not None:
        rows = rows.filter(pk=message)
    else:
        rows = rows.filter(stored_at__gt=now - LOOKED_BACK, stored_at__lt=now - SILENT_AFTER)
    return rows.filter(~Exists(Turn.objects.filter(message=OuterRef("pk")))).order_by("pk")


@register_check(
    "chat.no_response",
    title="Whatever is said in the portal is answered",
    tags=("portal", "messages"),
    interval=60,
    severity="critical",
    depends_on=("db.reachable", "worker.alive"),
    repairs=("chat.retry",),
)
def no_response() -> CheckOutcome:
    """Messages of the portal, older than two minutes, that nobody is to answer."""
    rows = list(unanswered().values_list("pk", "conversation", "conversation__agent__name", "stored_at")[:MOST])
    if not rows:
        return CheckOutcome("pass", "Whatever was said in the portal is answered, or under way.")
    pk, conversation, agent, since = rows[0]
    return CheckOutcome(
        "fail",
        f"{counted(len(rows), 'message')} of the portal {verb(len(rows), 'is', 'are')} on nobody's list. The oldest, to {agent} in "
        f"conversation {conversation}, since {since:%Y-%m-%d %H:%M} UTC.",
        {"messages": len(rows), "oldest": {"message": pk, "conversation": conversation, "since": since.isoformat()}},
        affected=tuple(Affected(f"message:{one}", f"To {name}: no turn was made for it.") for one, _, name, _ in rows),
    )


def plan(work: RepairWork) -> Plan:
    """Turns to be made, and for one message or turn that was named: its failed turn, to be tried again with the same ids."""
    kind, _, key = work.target.partition(":")
    if work.target and (kind not in ("message", "turn") or not key.isdigit()):
        raise RepairRefused("Name a message or a turn: message:ID, turn:ID.")
    steps: list[dict[str, Any]] = []
    changes: list[Change] = []
    if work.target:
        where = {"pk": int(key)} if kind == "turn" else {"message": int(key)}
        for turn in Turn.objects.filter(state__in=FAILED_STATES, **where).order_by("pk")[:MOST]:
            steps.append({"retry": turn.pk})
            changes.append(Change(f"turn:{turn.pk}", "state", str(turn.state), "queued"))
    found = [] if kind == "turn" else unanswered(message=int(key) if kind == "message" else None)[:MOST]
    for pk, agent in [(one.pk, one.conversation.agent_id) for one in _with_agents(found)]:
        steps.append({"message": pk, "agent": agent})
        changes.append(Change(f"message:{pk}", "turn", None, "made and started"))
    return Plan(
        f"{counted(len(steps), 'message is', 'messages are')} answered, with the ids of the first time."
        if steps
        else "Nothing waits for an answer.",
        tuple(changes),
        {"steps": steps},
    )


def _with_agents(found: Any) -> list[Message]:
    return list(found.select_related("conversation")) if isinstance(found, QuerySet) else list(found)


def apply(work: RepairWork) -> dict[str, Any]:
    """One by one; what has moved on by itself meanwhile is left alone. A backend is given the same id as the first time."""
    made = retried = 0
    for step in work.plan.data["steps"]:
        if "retry" in step:
            retried += silence.dead_letter_retry(kind="turn", pk=int(step["retry"]), actor=work.actor)
        else:
            made += (
                silence.turn_make_up(message=int(step["message"]), agent=int(step["agent"]), actor=work.actor)
                is not None
            )
    return {"made": made, "retried": retried}


register_repair(
    "chat.retry",
    title="Answer it after all",
    repair_class="A",
    button="Answer it",
    explain="Makes the turn that a message lacks, or tries a failed one again. The backend gets the same id as the first time, so nothing is "
    "said to it twice, and one answer is stored.",
    plan=plan,
    apply=apply,
    atomic=True,
    target_kinds=("message", "turn"),
)


def _lose_the_turn() -> dict[str, Any]:
    """A message of the portal that was stored some minutes ago, and no turn: as after a crash between two steps."""
    made: dict[str, Any] = {}
    with transaction.atomic():
        agent = (
            Agent.objects.filter(state=AgentState.ACTIVE, paused=False, service__enabled=True, service__kind="demo")
            .order_by("pk")
            .first()
        )
        if agent is None:
            service = Service.objects.create(name="practice-portal", kind="demo")
            agent = Agent.objects.create(service=service, external_id="demo-echo", name="Practice")
            made = {"service": service.pk, "agent": agent.pk}
        said = timezone.now() - 2 * SILENT_AFTER - timedelta(seconds=1)
        conversation = Conversation.objects.create(title="Lost on the way", portal=True, agent=agent)
        Link.objects.create(conversation=conversation, kind=LinkKind.PORTAL, address=f"agent:{agent.pk}:fault")
        message = Message.objects.create(
            conversation=conversation, seq=next_seq(conversation.pk), role=Role.USER, text="Is anybody there?",
            sender=participant(conversation.pk, kind=ParticipantKind.GUEST, external_id="fault", name="Somebody"),
            transport="portal", external_id=f"fault:{conversation.pk}", received_at=said, stored_at=said,
        )  # fmt: skip
        Conversation.objects.filter(pk=conversation.pk).update(head=message)
    return {**made, "conversation": conversation.pk}


register_fault(
    "chat.no_response",
    title="A message of the portal loses its turn",
    cause=_lose_the_turn,
    heal=forget_the_message,
    evidence=("messages", "oldest"),
)
