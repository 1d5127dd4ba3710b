"""A portal conversation of a person with a scripted agent, and what stands in it."""

from __future__ import annotations

import itertools

from agents.models import Agent
from chat.models import Conversation, Link, LinkKind, Membership, Message, Person, Turn
from chat.services import branches
from chat.services.messages import Sent, message_send
from tests.support.stage import Stage

_numbers = itertools.count(1)


def person(name: str = "grace", **fields: object) -> Person:
    found = Person.objects.filter(username=name).first()
    return found or Person.objects.create_user(name, **{"display_name": name.title(), **fields})


def begin(stage: Stage, kind: str = "scripted", name: str = "Ada", who: str = "grace") -> Conversation:
    """An empty conversation in the portal with an agent that has no room."""
    agent = Agent.objects.filter(name=name).first() or stage.agent(name, kind=kind, homeserver=False)
    conversation = Conversation.objects.create(agent=agent, portal=True)
    Link.objects.create(conversation=conversation, kind=LinkKind.PORTAL)
    Membership.objects.create(conversation=conversation, person=person(who))
    return conversation


def say(conversation: Conversation, text: str, who: str = "grace", **named: object) -> Sent:
    one = person(who)
    fresh = Conversation.objects.get(pk=conversation.pk)
    values = {"external_id": f"{one.pk}:c{next(_numbers)}", "transport": "portal", **named}
    assert fresh.agent is not None
    return message_send(agent=fresh.agent, text=text, person=one, conversation=fresh, **values)  # type: ignore[arg-type]


def edit(message: Message, text: str, who: str = "grace", key: str = "") -> Sent:
    key = key or f"e{next(_numbers)}"
    one = person(who)
    return branches.message_edited(
        message=message, text=text, person=one, actor=f"person:{who}", external_id=f"{one.pk}:{key}"
    )


def again(message: Message, who: str = "grace") -> Turn:
    return branches.answer_again(message=message, person=person(who), actor=f"person:{who}")


def shown(conversation: Conversation) -> list[str]:
    """The texts of the branch that is shown."""
    rows = Message.objects.in_bulk(branches.path(conversation))
    return [rows[pk].text for pk in branches.path(conversation)]


def message(text: str) -> Message:
    return Message.objects.get(text=text)
