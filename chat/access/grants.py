"""Which agents and conversations are a person's."""

from __future__ import annotations

from django.db.models import Exists, OuterRef, QuerySet

from agents.models import Agent, AgentState
from chat.models import AgentGrant, Membership, Person


class NotYours(Exception):
    """The thing does not exist, or not for this person: nobody learns which of the two."""

    code = "resource.not_found"

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


def agents_for(person: Person) -> QuerySet[Agent]:
    """The agents that a person may talk to, those of switched-off services aside."""
    agents = Agent.objects.filter(service__enabled=True).exclude(state=AgentState.ARCHIVED)
    if person.is_staff or person.all_agents:
        return agents
    return agents.filter(Exists(AgentGrant.objects.filter(person=person, agent=OuterRef("pk"))))


def may_talk(person: Person, agent: Agent) -> bool:
    """Whether a person may talk to an agent."""
    if not person.is_active:
        return False
    if person.is_staff or person.all_agents:
        return True
    return AgentGrant.objects.filter(person=person, agent=agent).exists()


def memberships_of(person: Person) -> QuerySet[Membership]:
    """The conversations that a person has in the portal, as their own view of each; removed ones are left out."""
    return Membership.objects.filter(person=person, removed_at=None).select_related("conversation__agent__service")


def membership_at(person: Person, conversation_id: int) -> Membership:
    """A person's view of one conversation. Raises ``NotYours``."""
    found = memberships_of(person).filter(conversation_id=conversation_id).first()
    if found is None:
        raise NotYours(f"There is no conversation {conversation_id}.")
    return found
