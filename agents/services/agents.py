"""What an operator decides about an agent: pause it, whose words reach its memory, and define agents that live here."""

from __future__ import annotations

import re
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from agents.backends.registry import BACKENDS
from agents.models import Agent, MemoryPolicy
from ops.models import Service
from ops.services.audit import changes, record

LONGEST_PROMPT = 100_000
_NOT_IN_IDS = re.compile(r"[^a-z0-9]+")


def agent_pause(*, agent: Agent, actor: str) -> Agent:
    """Let messages to the agent wait. A turn that runs is finished. Does nothing when it is paused."""
    return _set_paused(agent, True, actor)


def agent_resume(*, agent: Agent, actor: str) -> Agent:
    """Let the agent answer again, beginning with what has waited: the sweep of turns finds it within seconds."""
    return _set_paused(agent, False, actor)


def _set_paused(agent: Agent, paused: bool, actor: str) -> Agent:
    with transaction.atomic():
        if Agent.objects.filter(pk=agent.pk, paused=not paused).update(paused=paused):
            record(
                actor=actor,
                action="agent.paused" if paused else "agent.resumed",
                target=agent,
                before={"paused": not paused},
                after={"paused": paused},
            )
    agent.paused = paused
    return agent


def agent_set_memory_policy(*, agent: Agent, policy: str, actor: str) -> Agent:
    """Say whether conversations share one history. Raises ``ValidationError`` for an unknown policy."""
    if policy not in MemoryPolicy.values:
        raise ValidationError({"policy": f"The memory policy is one of {', '.join(MemoryPolicy.values)}."})
    with transaction.atomic():
        before = str(agent.memory_policy)
        if Agent.objects.filter(pk=agent.pk).exclude(memory_policy=policy).update(memory_policy=policy):
            record(
                actor=actor,
                action="agent.memory_policy_set",
                target=agent,
                before={"memory_policy": before},
                after={"memory_policy": str(policy)},
            )
    agent.memory_policy = policy
    return agent


def agent_define(
    *,
    service: Service,
    name: str,
    system_prompt: str,
    model: str = "",
    description: str = "",
    max_tokens: int | None = None,
    agent: Agent | None = None,
    actor: str,
) -> Agent:
    """Define an agent on a service whose agents live here, or change one (``agent``). The next sync gives it its room.

    The id is made from the name once and stays when the name changes. Raises ``ValidationError`` with one entry a field.
    """
    definition: dict[str, Any] = {"system_prompt": system_prompt.strip()}
    if model.strip():
        definition["model"] = model.strip()
    if max_tokens:
        definition["max_tokens"] = max_tokens
    _check_definition(service, name, definition, max_tokens)
    fields = {"name": name.strip()[:255], "description": description.strip(), "definition": definition}
    with transaction.atomic():
        if agent is None:
            taken = set(Agent.objects.filter(service=service).values_list("external_id", flat=True))
            # An empty fingerprint: the next sync sees it for the first time and completes the row.
            agent = Agent.objects.create(
                service=service, external_id=_free_id(name, taken), model=model.strip()[:255], **fields
            )
            record(actor=actor, action="agent.defined", target=agent, after=fields)
            return agent
        before, after = changes({key: getattr(agent, key) for key in fields}, fields)
        if after:
            for key, value in fields.items():
                setattr(agent, key, value)
            agent.save(update_fields=[*fields, "updated_at"])
            record(actor=actor, action="agent.redefined", target=agent, before=before, after=after)
    return agent


def _check_definition(service: Service, name: str, definition: dict[str, Any], max_tokens: int | None) -> None:
    problems: dict[str, str] = {}
    kind = BACKENDS.get(service.kind)
    if kind is None or not kind.traits.defined_here:
        problems["service"] = f"The agents of {service.name} are defined on that server, not here."
    if not name.strip():
        problems["name"] = "An agent needs a name."
    if not definition["system_prompt"]:
        problems["system_prompt"] = "An agent that is defined here needs a system prompt: it says who the agent is."
    elif len(definition["system_prompt"]) > LONGEST_PROMPT:
        problems["system_prompt"] = f"A system prompt has at most {LONGEST_PROMPT} characters."
    if max_tokens is not None and max_tokens < 1:
        problems["max_tokens"] = "An answer has at least one token."
    if problems:
        raise ValidationError(problems)


def _free_id(name: str, taken: set[str]) -> str:
    stem = _NOT_IN_IDS.sub("-", name.lower()).strip("-")[:60] or "agent"
    number, candidate = 1, stem
    while candidate in taken:
        number += 1
        candidate = f"{stem}-{number}"
    return candidate
