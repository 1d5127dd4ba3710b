"""Saying something to an agent from anywhere but Matrix, and taking it back."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import transaction
from django.utils import timezone

from agents.matrix.markdown import clean_text
from agents.models import Agent, AgentState, Room
from chat.intake.incoming import Incoming
from chat.intake.store import Place, store
from chat.models import (
    Conversation,
    Link,
    LinkKind,
    Message,
    MessageState,
    ParticipantKind,
    Person,
    Turn,
    TurnState,
)
from chat.services.conversations import conversation_of
from chat.services.turns import turn_cancel
from ops.services.audit import record


class CannotSend(Exception):
    """The message was refused; ``sentence`` says why, ``code`` is stable."""

    def __init__(self, sentence: str, *, code: str) -> None:
        super().__init__(sentence)
        self.sentence, self.code = sentence, code


@dataclass(frozen=True, slots=True)
class Sent:
    """A stored message and the turn that answers it (``None`` when a guard held it). ``repeated``: it was here already."""

    message: Message
    turn: Turn | None
    repeated: bool = False


def message_send(
    *,
    agent: Agent,
    text: str,
    person: Person | None = None,
    speaker_name: str = "",
    speaker_id: str = "",
    conversation: Conversation | None = None,
    transport: str = "api",
    external_id: str = "",
) -> Sent:
    """Say something to an agent. Without a conversation it is said in the agent's own room, where everybody there sees it.

    ``external_id`` makes a repetition recognisable: the same id of the same transport is one message. Raises ``CannotSend``.
    """
    if not clean_text(text).strip():
        raise CannotSend("The message is empty.", code="message.empty")
    if agent.state == AgentState.ARCHIVED:
        raise CannotSend(f"{agent.name} is archived; it no longer exists on its server.", code="agent.archived")
    place = _place(agent, conversation)
    incoming = Incoming(
        transport=transport,
        external_id=external_id,
        sender_id=(person.username if person else speaker_id) or "operator",
        sender_name=(str(person) if person else speaker_name) or "Operator",
        sender_kind=ParticipantKind.PERSON if person else ParticipantKind.GUEST,
        person_id=person.pk if person else None,
        text=clean_text(text),
        received_at=timezone.now(),
        mirror=place.room is not None,
        # Whoever says something to one agent by name is heard in a quiet room as well.
        mentions=_account_of(agent),
    )
    stored = store([(place, incoming)])
    if not stored.messages:
        message = Message.objects.get(transport=transport, external_id=external_id)
        _refuse_held(message.guard, "")
        return Sent(message, message.turns.filter(agent=agent).first(), repeated=True)
    message = stored.messages[0]
    _refuse_held(incoming.guard, incoming.notice)
    return Sent(message, stored.turns[0] if stored.turns else None)


def _refuse_held(guard: str, notice: str) -> None:
    if guard and guard != "quiet":
        raise CannotSend(notice or f"The message was held back ({guard}).", code=f"guard.{guard}")


def _account_of(agent: Agent) -> frozenset[str]:
    return frozenset({agent.account.user_id}) if agent.account is not None else frozenset()


def _place(agent: Agent, conversation: Conversation | None) -> Place:
    if conversation is not None:
        link = Link.objects.filter(conversation=conversation, room__isnull=False).select_related("room").first()
        return Place(conversation, agent, link.room if link else None)
    mapping = getattr(agent, "mapping", None)
    room: Room | None = mapping.room if mapping is not None else None
    if room is not None and room.room_id:
        return Place(conversation_of(room, agent), agent, room)
    link = (
        Link.objects.select_related("conversation")
        .filter(kind=LinkKind.API, address=f"agent:{agent.pk}")
        .order_by("pk")
        .first()
    )
    if link is None:
        with transaction.atomic():
            made = Conversation.objects.create(title=agent.name[:255])
            link = Link.objects.create(conversation=made, kind=LinkKind.API, address=f"agent:{agent.pk}")
    return Place(link.conversation, agent)


def conversation_open(*, agent: Agent, title: str = "", actor: str) -> Conversation:
    """A new conversation with an agent, apart from its room (for API callers)."""
    with transaction.atomic():
        conversation = Conversation.objects.create(title=(title or agent.name)[:255])
        Link.objects.create(conversation=conversation, kind=LinkKind.API, address=f"agent:{agent.pk}:{conversation.pk}")
        record(actor=actor, action="conversation.opened", target=conversation, message=agent.name)
    return conversation


def message_edit(*, transport: str, external_id: str, sender_id: str, text: str) -> None:
    """The sender changed a message. An agent that has not begun to answer is given the new text; the old one is kept."""
    with transaction.atomic():
        message = (
            Message.objects.select_for_update(of=("self",))
            .filter(transport=transport, external_id=external_id, sender__external_id=sender_id)
            .first()
        )
        if message is None or message.text == text or not text.strip():
            return
        message.parts = [*message.parts, {"type": "edit", "before": message.text, "at": timezone.now().isoformat()}]
        message.text = text
        message.save(update_fields=["text", "parts"])


def message_redact(*, transport: str, external_id: str) -> None:
    """A message was taken back. Its text is gone, and an answer that is not finished is stopped."""
    with transaction.atomic():
        message = (
            Message.objects.select_for_update(of=("self",)).filter(transport=transport, external_id=external_id).first()
        )
        if message is None:
            return
        message.state, message.text, message.parts = MessageState.REDACTED, "", []
        message.save(update_fields=["state", "text", "parts"])
        for turn in message.turns.filter(state__in=[TurnState.QUEUED, TurnState.RUNNING]):
            turn_cancel(turn=turn, actor="the sender")
