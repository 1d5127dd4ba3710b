"""Saying something to an agent from anywhere but Matrix, and taking it back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from agents.matrix.markdown import clean_text
from agents.models import Agent, AgentState, Room
from chat import live
from chat.access.grants import may_talk
from chat.intake.incoming import Incoming
from chat.intake.store import AttachmentsGone, Place, store
from chat.models import (
    OPEN_TURN_STATES,
    Attachment,
    Conversation,
    Link,
    LinkKind,
    Message,
    MessageState,
    ParticipantKind,
    Person,
    Role,
    Turn,
)
from chat.services import tree
from chat.services.conversations import conversation_of
from chat.services.turns import turn_cancel
from ops.quiet import refuse_when_quiet
from ops.services.audit import record
from ops.words import counted

MOST_ATTACHMENTS = 10


class CannotSend(Exception):
    """The message was refused; ``sentence`` says why, ``code`` is stable. ``message`` is set when it was kept all the same."""

    def __init__(self, sentence: str, *, code: str, message: Message | None = None) -> None:
        super().__init__(sentence)
        self.sentence, self.code, self.message = sentence, code, message


@dataclass(frozen=True, slots=True)
class Sent:
    """A stored message and the turn that answers it (``None`` when a guard held it). ``repeated``: it was here already."""

    message: Message
    turn: Turn | None
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Below:
    """A place in a portal conversation's tree: below a message, or (``parent_id`` None) at its beginning."""

    parent_id: int | None


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
    parent: Message | None = None,
    attachments: Sequence[UUID | str] = (),
    actor: str = "",
    below: Below | None = None,
) -> Sent:
    """Say something to an agent. Without a conversation it is said in the agent's own room, where everybody there sees it.

    ``external_id`` makes a repetition recognisable: the same id of the same transport is one message. ``parent`` is the message of a
    portal conversation to say it after (default: the tip of the branch that is shown). ``attachments`` are ids of the
    person's unsent files. Raises ``CannotSend`` with a code: ``message.empty``, ``message.parent``, ``agent.archived``, ``agent.not_yours``,
    ``attachment.unknown``, ``attachment.too_many``, ``quota.messages``, ``quota.tokens``, ``guard.<name>``. ``actor`` is for the log.
    """
    refuse_when_quiet()
    text = clean_text(text)
    if not text.strip() and not attachments:
        raise CannotSend("The message is empty.", code="message.empty")
    check_agent(agent, person)
    if external_id and attachments and (sent := _sent_before(transport, external_id, agent)):
        return sent
    if parent is not None:
        below = _below(parent, conversation)
    place = _place(agent, conversation)
    incoming = Incoming(
        transport=transport,
        external_id=external_id,
        sender_id=(person.username if person else speaker_id) or "operator",
        sender_name=(str(person) if person else speaker_name) or "Operator",
        sender_kind=ParticipantKind.PERSON if person else ParticipantKind.GUEST,
        person_id=person.pk if person else None,
        text=text,
        received_at=timezone.now(),
        mirror=place.room is not None,
        # Whoever says something to one agent by name is heard in a quiet room as well.
        mentions=_account_of(agent),
        branched=below is not None,
        parent_id=below.parent_id if below is not None else None,
        attachments=_unsent(attachments, person),
    )
    try:
        stored = store([(place, incoming)])
    except AttachmentsGone:
        raise _unknown_attachment() from None
    if not stored.messages:
        sent = _sent_before(transport, external_id, agent)
        if sent is None:
            raise Message.DoesNotExist(f"The message {external_id} was deleted at this moment.")
        return sent
    message = stored.messages[0]
    _refuse_held(message, incoming.guard, incoming.notice)
    return Sent(message, stored.turns[0] if stored.turns else None)


def check_agent(agent: Agent, person: Person | None) -> None:
    """Whether the agent exists and the person may talk to it. Raises ``CannotSend``."""
    if agent.state == AgentState.ARCHIVED:
        raise CannotSend(f"{agent.name} is archived; it no longer exists on its server.", code="agent.archived")
    if person is not None and not may_talk(person, agent):
        raise CannotSend("You may not talk to this agent. Ask an operator to let you.", code="agent.not_yours")


def _sent_before(transport: str, external_id: str, agent: Agent) -> Sent | None:
    """The message that was stored under this id earlier. Raises ``CannotSend`` as it did then."""
    message = Message.objects.filter(transport=transport, external_id=external_id).first()
    if message is None:
        return None
    if message.guard:
        notice = message.replies.filter(role=Role.NOTICE).order_by("seq").values_list("text", flat=True).first()
        _refuse_held(message, message.guard, notice or "")
    return Sent(message, message.turns.filter(agent=agent).order_by("variant").first(), repeated=True)


def _refuse_held(message: Message, guard: str, notice: str) -> None:
    if guard and guard not in {"quiet", "command"}:
        sentence = notice or f"The message was held back ({guard})."
        raise CannotSend(sentence, code=guard if guard.startswith("quota.") else f"guard.{guard}", message=message)


def _below(parent: Message, conversation: Conversation | None) -> Below:
    if conversation is None or parent.conversation_id != conversation.pk or parent.role == Role.NOTICE:
        raise CannotSend("The message to answer is not in this conversation.", code="message.parent")
    return Below(parent.pk)


def _unsent(attachments: Sequence[UUID | str], person: Person | None) -> tuple[UUID, ...]:
    """Ids of files that this person has uploaded and not sent yet, in the order given. Raises ``CannotSend``."""
    if not attachments:
        return ()
    if len(attachments) > MOST_ATTACHMENTS:
        raise CannotSend(
            f"A message takes at most {counted(MOST_ATTACHMENTS, 'file')}; this one has {len(attachments)}.",
            code="attachment.too_many",
        )
    try:
        ids = tuple(dict.fromkeys(one if isinstance(one, UUID) else UUID(one) for one in attachments))
    except ValueError:
        raise _unknown_attachment() from None
    if person is None or Attachment.objects.filter(pk__in=ids, owner=person, message=None).count() != len(ids):
        raise _unknown_attachment()
    return ids


def _unknown_attachment() -> CannotSend:
    sentence = "A file of this message is not there any more, or was sent already. Attach it again."
    return CannotSend(sentence, code="attachment.unknown")


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
        message = _changing(transport=transport, external_id=external_id, sender__external_id=sender_id)
        if message is not None and message.text != text and text.strip():
            text_change(message, text)


def text_change(message: Message, text: str, *, key: str = "") -> None:
    """Give a locked message another text, keeping the old one in its parts. ``key`` makes a repeated request recognisable."""
    edit = {"type": "edit", "before": message.text, "at": timezone.now().isoformat(), **({"key": key} if key else {})}
    message.parts = [*message.parts, edit]
    message.text = text
    message.save(update_fields=["text", "parts", "revision"])
    live.message_stored(message)


def message_redact(*, transport: str, external_id: str) -> None:
    """A message was taken back. Its text and files are gone, and an answer that is not finished is stopped."""
    with transaction.atomic():
        message = _changing(transport=transport, external_id=external_id)
        if message is None:
            return
        message.state, message.text, message.parts = MessageState.REDACTED, "", []
        message.save(update_fields=["state", "text", "parts", "revision"])
        live.message_stored(message)
        message.attachments.all().delete()
        for turn in message.turns.filter(state__in=OPEN_TURN_STATES):
            turn_cancel(turn=turn, actor="the sender")


def _changing(**which: object) -> Message | None:
    """A message that is about to be changed, with its new ``revision``: conversation and message are locked, in this order."""
    found = Message.objects.filter(**which).values_list("pk", "conversation_id").first()
    if found is None:
        return None
    revision = tree.revised(found[1])
    message = Message.objects.select_for_update(of=("self",)).filter(pk=found[0]).first()
    if message is not None:
        message.revision = revision
    return message
