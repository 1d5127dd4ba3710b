"""Which language model an agent uses, changed from here: the fallback when a provider is slow, limited or out of credit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from agents.backends.base import ModelChoice
from agents.backends.errors import BackendRejected
from agents.backends.registry import BACKENDS
from agents.models import Agent
from agents.services.backends import backend_for
from ops.models import Service
from ops.services.audit import record
from ops.services.services import service_save

# Kinds whose agents are asked with a model that we name in each request.
NAMED_BY_US = ("openai", "anthropic")
EVERYBODY = "*"


def can_change_models(service: Service) -> bool:
    """Whether agents of this service can be given another model from here."""
    if service.kind in NAMED_BY_US:
        return True
    from agents.backends.registry import backend_class

    return service.kind in BACKENDS and hasattr(backend_class(service.kind), "set_model")


def agent_set_model(*, agent: Agent, model: str, actor: str) -> str:
    """Let an agent use another model on its own server (Letta). Returns the one it used before.

    Raises ``BackendError``: nothing was changed then, here or there.
    """
    backend = backend_for(agent.service)
    if not isinstance(backend, ModelChoice):
        raise BackendRejected(f"The models of agents on {agent.service.name} cannot be changed from here.")
    before = backend.set_model(agent.external_id, model)
    with transaction.atomic():
        # The fingerprint stays: the next sync sees what the server says by then.
        Agent.objects.filter(pk=agent.pk).update(model=model[:255])
        record(actor=actor, action="agent.model_set", target=agent, before={"model": before}, after={"model": model})
    agent.model = model[:255]
    return before


def models_instead_set(*, service: Service, instead: Mapping[str, str], actor: str) -> Service:
    """Say which model is asked in place of which (``*``: of all) on a service whose requests name the model.

    Raises ``ValidationError`` when the service is of another kind.
    """
    if service.kind not in NAMED_BY_US:
        raise ValidationError({"instead": ["The models of this service's agents are not named in our requests."]})
    options: dict[str, Any] = {key: value for key, value in service.options.items() if key != "instead"}
    if instead:
        options["instead"] = dict(instead)
    return service_save(
        actor=actor,
        name=service.name,
        kind=service.kind,
        base_url=service.base_url,
        options=options,
        enabled=service.enabled,
        managed_by=service.managed_by,
    )
