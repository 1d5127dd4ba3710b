"""Rows of a person, found through their memberships and no other way. All raise ``NotYours`` (404), whatever the reason."""

from __future__ import annotations

from django.db.models import Exists, OuterRef, QuerySet

from agents.models import Agent
from chat.access.grants import NotYours, agents_for, memberships_of
from chat.models import Membership, Message, Person, Turn


def agent_at(person: Person, agent_id: int) -> Agent:
    """An agent that the person may talk to."""
    found = agents_for(person).select_related("service", "mapping__account").filter(pk=agent_id).first()
    if found is None:
        raise NotYours(f"There is no agent {agent_id}.")
    return found


def removed_at(person: Person, conversation_id: int) -> Membership:
    """A person's view of a conversation, deleted ones included."""
    found = Membership.objects.filter(person=person, conversation_id=conversation_id).select_related(
        "conversation__agent"
    )
    row = found.first()
    if row is None:
        raise NotYours(f"There is no conversation {conversation_id}.")
    return row


def _of(person: Person) -> Exists:
    return Exists(memberships_of(person).select_related(None).filter(conversation_id=OuterRef("conversation_id")))


def messages_of(person: Person) -> QuerySet[Message]:
    """All messages of the person's conversations."""
    return Message.objects.filter(_of(person))


def message_at(person: Person, message_id: int) -> Message:
    """A message with its conversation and its sender."""
    rows = messages_of(person).select_related("conversation__agent__service", "sender")
    found = rows.filter(pk=message_id).first()
    if found is None:
        raise NotYours(f"There is no message {message_id}.")
    return found


def turn_at(person: Person, turn_id: int) -> Turn:
    """A turn of one of the person's conversations."""
    found = Turn.objects.filter(_of(person), pk=turn_id).select_related("agent", "message", "conversation").first()
    if found is None:
        raise NotYours(f"There is no turn {turn_id}.")
    return found
