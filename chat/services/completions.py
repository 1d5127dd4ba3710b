"""Questions of clients that keep the conversation themselves and send all of it each time (the OpenAI-compatible API).

Such a client is recognised by what it sends: the digest of its history finds the conversation of ours in which the same was said
(``ClientPrefix``), and the question goes on there, so that the person finds it in the portal's archive as one conversation.

An edited or regenerated message becomes a branch, and a history that was never said here is stored before the question. *Backends that
keep no history* are sent exactly the client's. *Backends that keep it in conversations of their own* (Letta) are sent only what is new
where a branch goes on at its end; any other gets a conversation of the server's own, at whose beginning what was said before is told once
(``chat.turns.places``). *Agents with one memory for everything* are told only what they have not heard anywhere.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from agents.backends.registry import kind_of
from agents.models import Agent
from chat.models import (
    OPEN_TURN_STATES,
    Attachment,
    ClientPrefix,
    Conversation,
    Link,
    LinkKind,
    Membership,
    Message,
    MessageState,
    ParticipantKind,
    Person,
    Role,
    Turn,
)
from chat.openai.asked import Asked, GivenFile, Said
from chat.services.attachments import attachment_store
from chat.services.branches import answer_again
from chat.services.chains import chain_store
from chat.services.conversations import participant
from chat.services.messages import Below, CannotSend, Sent, check_agent, message_send
from chat.services.tree import title_of
from chat.turns.client import TRANSPORT, FromClient, from_client
from chat.turns.places import remembers_branches
from ops.services.audit import record

# How far back in a history a known place is looked for; and how many that are alike are looked at.
_MOST_PLACES = 300
_MOST_ALIKE = 20
# A library repeats a request within moments.
_REPEATED_WITHIN = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a history stands: below ``parent``; ``said[:known]`` is what was said up to there."""

    conversation: Conversation
    parent: Message
    known: int


def completion_start(*, person: Person, agent: Agent, asked: Asked, repeated: bool = False, actor: str) -> Sent:
    """Store the question and start its answer. ``repeated``: the client's library says that it sends the same once more.

    Raises ``CannotSend`` and ``AttachmentRefused``.
    """
    check_agent(agent, person)
    said, digests = asked.said, asked.digests()
    if repeated and (again := _under_way(person, agent, digests[-1])) is not None:
        return again
    question = said[-1]
    if not question.text.strip() and not question.files:
        raise CannotSend("The message is empty.", code="message.empty")
    # Contents are written before the transaction; what is not used is pruned.
    files = [_stored(person, file, actor) for file in question.files]
    refused: CannotSend | None = None
    sent: Sent | None = None
    with transaction.atomic():
        place = _place_of(person, agent, said, digests)
        if _remembers_all(agent):
            conversation, parent_id, unheard = _in_memory(person, agent, said, digests, place, actor)
        else:
            if place is not None and (turn := _regenerated(place, asked, digests, person, agent, actor)) is not None:
                return Sent(turn.message, turn)
            conversation, parent_id = _in_tree(person, agent, said, digests, place, actor)
            unheard = ""
        client = FromClient(asked.instructions, unheard, asked.instructions != _last_instructions(parent_id))
        try:
            sent = message_send(
                agent=agent,
                text=question.text,
                person=person,
                conversation=conversation,
                transport=TRANSPORT,
                attachments=[file.pk for file in files],
                actor=actor,
                below=Below(parent_id),
            )
        except CannotSend as error:
            if error.message is None:
                raise
            # The message is kept, so what was written with it is kept as well.
            refused = error
        message = sent.message if sent is not None else refused.message if refused is not None else None
        assert message is not None
        message.parts = client.parts()
        message.save(update_fields=["parts"])
        ClientPrefix.objects.create(person=person, agent=agent, digest=digests[-1], message=message)
    if refused is not None or sent is None:
        raise refused or CannotSend("The message was not taken.", code="message.refused")
    return sent


def completion_read(*, turn: Turn) -> None:
    """The client has the answer: it is not unread in the portal."""
    seq = Message.objects.filter(answer_of=turn.pk).values_list("seq", flat=True).first()
    if seq is not None:
        Membership.objects.filter(conversation_id=turn.conversation_id, last_read_seq__lt=seq).update(last_read_seq=seq)


def _under_way(person: Person, agent: Agent, digest: str) -> Sent | None:
    """The same question, asked a moment ago."""
    rows = ClientPrefix.objects.filter(person=person, agent=agent, digest=digest)
    mark = (
        rows.filter(created_at__gt=timezone.now() - _REPEATED_WITHIN).select_related("message").order_by("-pk").first()
    )
    turn = mark.message.turns.order_by("-variant").first() if mark is not None else None
    return Sent(mark.message, turn, repeated=True) if mark is not None and turn is not None else None


# Finding the place


def _place_of(person: Person, agent: Agent, said: Sequence[Said], digests: Sequence[str]) -> _Place | None:
    """The deepest place of the history that was said here, the one at its conversation's end before others."""
    asked_at = [number for number, one in enumerate(said[:-1]) if one.role == "user"][-_MOST_PLACES:]
    marks: dict[str, list[ClientPrefix]] = {}
    wanted = [digests[number] for number in asked_at]
    rows = ClientPrefix.objects.filter(person=person, agent=agent, digest__in=wanted)
    for mark in rows.select_related("message__conversation").order_by("-pk")[: _MOST_PLACES + len(wanted)]:
        marks.setdefault(mark.digest, []).append(mark)
    own = _own_conversations(person, [mark for found in marks.values() for mark in found])
    for number in reversed(asked_at):
        places = [
            place
            for mark in marks.get(digests[number], [])[:_MOST_ALIKE]
            if mark.message.conversation_id in own and (place := _after(mark.message, said, number)) is not None
        ]
        if places:
            return next((one for one in places if one.conversation.head_id == one.parent.pk), places[0])
    return None


def _own_conversations(person: Person, marks: Sequence[ClientPrefix]) -> set[int]:
    """Those that the person has not deleted."""
    ids = {mark.message.conversation_id for mark in marks}
    rows = Membership.objects.filter(person=person, removed_at=None, conversation_id__in=ids)
    return set(rows.values_list("conversation_id", flat=True))


def _after(question: Message, said: Sequence[Said], number: int) -> _Place | None:
    """Behind the question, or behind that answer to it which the client has."""
    if question.state == MessageState.REDACTED:
        return None
    if said[number + 1].role == "user":
        return _Place(question.conversation, question, number + 1)
    for answer in question.children.filter(role=Role.ASSISTANT).order_by("-seq"):
        if (
            answer.state != MessageState.REDACTED
            and Said("assistant", answer.text).compared == said[number + 1].compared
        ):
            return _Place(question.conversation, answer, number + 2)
    return None


# In the tree of a conversation


def _in_tree(
    person: Person, agent: Agent, said: Sequence[Said], digests: Sequence[str], place: _Place | None, actor: str
) -> tuple[Conversation, int | None]:
    if place is not None:
        conversation = Conversation.objects.select_for_update().get(pk=place.conversation.pk)
        if not _is_answering(conversation):
            tip = _insert(conversation, person, agent, said, digests, place.known, place.parent.pk, actor)
            return conversation, tip
    # Nothing to go on from; or somebody is being answered there, and questions of one conversation wait for each other.
    conversation = _begin(person, agent, said, actor)
    return conversation, _insert(conversation, person, agent, said, digests, 0, None, actor)


def _regenerated(
    place: _Place, asked: Asked, digests: Sequence[str], person: Person, agent: Agent, actor: str
) -> Turn | None:
    """The same question with the same instructions at the same place: its answer is given again."""
    if place.known != len(asked.said) - 1 or _is_answering(place.conversation):
        return None
    rows = ClientPrefix.objects.filter(
        person=person, agent=agent, digest=digests[-1], message__parent=place.parent, message__guard=""
    )
    mark = rows.select_related("message__conversation").order_by("-pk").first()
    if mark is None or from_client(mark.message).instructions != asked.instructions:
        return None
    return answer_again(message=mark.message, person=person, actor=actor)


def _is_answering(conversation: Conversation) -> bool:
    return Turn.objects.filter(conversation=conversation, state__in=OPEN_TURN_STATES).exists()


# Backends that keep all of it in one memory


def _remembers_all(agent: Agent) -> bool:
    return kind_of(agent.service.kind).traits.keeps_history and remembers_branches(agent)


def _in_memory(
    person: Person, agent: Agent, said: Sequence[Said], digests: Sequence[str], place: _Place | None, actor: str
) -> tuple[Conversation, int | None, str]:
    """(conversation, parent, what the agent has not heard)."""
    rest = said[place.known : -1] if place is not None else said[:-1]
    if place is not None and not rest:
        conversation = Conversation.objects.select_for_update().get(pk=place.conversation.pk)
        if conversation.head_id == place.parent.pk:
            return conversation, place.parent.pk, ""
    conversation = _begin(person, agent, said, actor)
    parent_id = _insert(conversation, person, agent, said, digests, 0, None, actor)
    return conversation, parent_id, _told(rest)


def _told(said: Sequence[Said]) -> str:
    """What was said elsewhere, in words that a model takes for what they are."""
    return "\n\n".join(f"{'You' if one.role == 'assistant' else 'I'} said: {one.text}" for one in said if one.text)


def _last_instructions(parent_id: int | None) -> str:
    """Those of the question before this one: of the one that ``parent_id`` is, or answers."""
    parent = Message.objects.filter(pk=parent_id).select_related("in_reply_to").first() if parent_id else None
    asked = parent.in_reply_to if parent is not None and parent.role == Role.ASSISTANT else parent
    return from_client(asked).instructions if asked is not None else ""


# Storing


def _begin(person: Person, agent: Agent, said: Sequence[Said], actor: str) -> Conversation:
    """A new conversation, put away in the person's archive: its client shows it, the portal only keeps it."""
    now = timezone.now()
    title = title_of(next((one.text for one in said if one.role == "user" and one.text.strip()), ""))
    conversation = Conversation.objects.create(title=title, agent=agent, portal=True, last_message_at=now)
    Link.objects.create(conversation=conversation, kind=LinkKind.API, address=f"openai:{person.pk}:{agent.pk}")
    Membership.objects.create(conversation=conversation, person=person, archived_at=now)
    record(actor=actor, action="conversation.started", target=conversation, message=f"{agent.name}, by a client.")
    return Conversation.objects.select_for_update().get(pk=conversation.pk)


def _insert(
    conversation: Conversation,
    person: Person,
    agent: Agent,
    said: Sequence[Said],
    digests: Sequence[str],
    begin: int,
    parent_id: int | None,
    actor: str,
) -> int | None:
    """Store ``said[begin:-1]`` below ``parent_id``: it was said elsewhere, and is not answered. Returns the tip."""
    rest = range(begin, len(said) - 1)
    if not rest:
        return parent_id
    now = timezone.now()
    asker = participant(
        conversation.pk,
        kind=ParticipantKind.PERSON,
        external_id=person.username,
        name=str(person),
        person_id=person.pk,
    )
    answerer = participant(
        conversation.pk, kind=ParticipantKind.AGENT, external_id=str(agent.pk), name=agent.name, agent_id=agent.pk
    )
    messages = [
        Message(
            sender=asker if said[number].role == "user" else answerer,
            role=Role(said[number].role),
            text=said[number].text,
            transport=TRANSPORT,
            received_at=now,
            stored_at=now,
        )
        for number in rest
    ]
    tip = chain_store(conversation, messages, parent_id=parent_id)
    marks = []
    for number, message in zip(rest, messages, strict=True):
        if message.role == Role.USER:
            marks.append(ClientPrefix(person=person, agent=agent, digest=digests[number], message=message))
        for file in said[number].files:
            kept = _stored(person, file, actor)
            Attachment.objects.filter(pk=kept.pk).update(message=message, conversation_id=conversation.pk)
    ClientPrefix.objects.bulk_create(marks)
    return tip


def _stored(person: Person, file: GivenFile, actor: str) -> Attachment:
    return attachment_store(person=person, file=io.BytesIO(file.content), name=file.name, actor=actor)
