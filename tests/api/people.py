"""What the tests of the people's API share: somebody who is signed in, and a conversation of theirs with a few messages."""

from __future__ import annotations

from typing import Any

from django.test import Client
from django.utils import timezone

from agents.models import Agent
from chat.models import Conversation, Membership, Message, ParticipantKind, Person, Role
from chat.services.conversations import next_seq, participant
from chat.services.portal import conversation_start
from tests.api.conftest import Api

PASSWORD = "xk-29-dune-walker"


def person_named(name: str, **fields: Any) -> Person:
    return Person.objects.create_user(name, password=PASSWORD, display_name=name.title(), **fields)


class ChatApi(Api):
    """Calls ``/api/v1/chat`` as a signed-in person. Without one: as nobody."""

    def __init__(self, person: Person | None = None, token: str = "") -> None:
        client = Client()
        if person is not None:
            client.force_login(person)
        super().__init__(token, client)

    def __call__(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        return super().__call__(method, path if path.startswith("/") else f"/api/v1/chat/{path}", body, **more)


def conversation_with(person: Person, agent: Agent, title: str = "") -> Membership:
    return conversation_start(person=person, agent=agent, title=title, actor="test")


def said(
    membership: Membership,
    text: str,
    *,
    role: str = Role.USER,
    parent: Message | str | None = "head",
    head: bool = True,
    **fields: Any,
) -> Message:
    """A message in the tree of a conversation, without anybody who answers it. ``parent``: the head unless said otherwise."""
    conversation: Conversation = membership.conversation
    conversation.refresh_from_db()
    now = timezone.now()
    agent = conversation.agent
    assert agent is not None
    by_person = role == Role.USER
    sender = participant(
        conversation.pk,
        kind=ParticipantKind.PERSON if by_person else ParticipantKind.AGENT,
        external_id=membership.person.username if by_person else str(agent.pk),
        name=str(membership.person) if by_person else agent.name,
        person_id=membership.person_id if by_person else None,
        agent_id=None if by_person else agent.pk,
    )
    defaults = {"transport": "portal", "received_at": now, "stored_at": now}
    message = Message.objects.create(
        conversation=conversation,
        seq=next_seq(conversation.pk),
        sender=sender,
        role=role,
        text=text,
        parent=conversation.head if parent == "head" else parent,
        **{**defaults, **fields},
    )
    if head:
        Conversation.objects.filter(pk=conversation.pk).update(head=message)
    conversation.refresh_from_db()
    return message
