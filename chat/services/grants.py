"""Which agents a person may talk to, as an operator says."""

from __future__ import annotations

from collections.abc import Iterable

from django.core.exceptions import ValidationError
from django.db import transaction

from agents.models import Agent
from chat.models import AgentGrant, Person
from ops.services.audit import record

_SHOWN = 100


def person_agents_set(*, person: Person, all_agents: bool, agents: Iterable[Agent] = (), actor: str) -> Person:
    """Let a person talk to all agents, or to these alone. What was said with others stays readable; nothing more can be said there.

    Raises ``ValidationError`` for an operator, who may talk to every agent.
    """
    if person.is_staff:
        raise ValidationError(f"{person} is an operator and may talk to every agent.")
    wanted = {} if all_agents else {agent.pk: agent for agent in agents}
    with transaction.atomic():
        row = Person.objects.select_for_update().get(pk=person.pk)
        had = set(AgentGrant.objects.filter(person=row).values_list("agent_id", flat=True))
        if row.all_agents == all_agents and had == set(wanted):
            return person
        AgentGrant.objects.filter(person=row).exclude(agent_id__in=wanted).delete()
        AgentGrant.objects.bulk_create(
            [AgentGrant(person=row, agent=agent) for pk, agent in wanted.items() if pk not in had],
            ignore_conflicts=True,
        )
        before = {"all_agents": row.all_agents, "agents": sorted(had)[:_SHOWN]}
        row.all_agents = all_agents
        row.save(update_fields=["all_agents"])
        record(
            actor=actor,
            action="person.agents_set",
            target=row,
            before=before,
            after={"all_agents": all_agents, "agents": sorted(wanted)[:_SHOWN]},
        )
    person.all_agents = all_agents
    return person
