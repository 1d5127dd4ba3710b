"""``llm.failover``: agents whose provider is slow, limited or out of credit go on with another model, or are paused."""

from __future__ import annotations

import re
from typing import Any

from django.core.exceptions import ValidationError

from agents.backends.base import ModelChoice
from agents.backends.errors import BackendError
from agents.doctor.letta.common import service_at
from agents.models import Agent, AgentState
from agents.services.agents import agent_pause, agent_resume
from agents.services.backends import backend_for
from agents.services.models import EVERYBODY, agent_set_model, can_change_models, models_instead_set
from agents.services.troubles import QUOTA_KINDS, relieved
from ops.doctor.repairs import Change, Plan, RepairFailed, RepairRefused, RepairWork, register_repair
from ops.models import Service, Sighting
from ops.registry import ServiceField
from ops.services.sightings import sightings_reopen, sightings_settle
from ops.words import counted, verb


def plan(work: RepairWork) -> Plan:
    """Which agents, and which model instead; or which are paused."""
    service = service_at(work.target or next(iter(work.affected), ""))
    agents = _agents(work, service)
    if not agents:
        return Plan(f"No agent of {service.name} is in need of it.")
    model = str(work.params.get("model") or service.options.get("fallback_model") or "").strip()
    action = str(work.params.get("action") or "") or ("fallback" if model and can_change_models(service) else "pause")
    keys = [agent.pk for agent in agents]
    data: dict[str, Any] = {"service": service.pk, "agents": keys, "action": action, "model": model}
    changes: tuple[Change, ...]
    if action == "pause":
        changes = tuple(Change(f"agent:{agent.pk}", "paused", False, True) for agent in agents if not agent.paused)
        sentence = (
            f"{counted(len(changes), 'agent')} of {service.name} {verb(len(changes), 'is', 'are')} paused: "
            f"{verb(len(changes), 'its messages wait until it is', 'their messages wait until they are')} resumed."
        )
        return Plan(sentence, changes, data, {"service": service.pk})
    if not model:
        raise RepairRefused(
            f"No fallback model is named. Name one here, or in the service {service.name} (Fallback model), or pause the agents."
        )
    if not can_change_models(service):
        raise RepairRefused(
            f"The models of agents on {service.name} cannot be changed from here. Pause the agents instead."
        )
    _must_be_known(service, model)
    if service.kind == "letta":
        changes = tuple(
            Change(f"agent:{agent.pk}", "model", agent.model, model) for agent in agents if agent.model != model
        )
        snapshot: dict[str, Any] = {"service": service.pk}
    else:
        before = dict(service.options.get("instead") or {})
        after = _instead(work, before, agents, model)
        snapshot = {"service": service.pk, "instead": before}
        data["instead"] = after
        changes = tuple(
            Change(f"service:{service.name}", f"model instead of {_word(key)}", before.get(key), after[key])
            for key in after
            if after[key] != before.get(key)
        )
    if not changes and _troubled(service):
        raise RepairRefused(
            f"The agents of {service.name} use {model} already, and are refused with it too. Name another model, or pause them."
        )
    return Plan(
        f"{counted(len(agents), 'agent')} of {service.name} {verb(len(agents), 'goes', 'go')} on with {model}.",
        changes,
        data,
        snapshot,
    )


def apply(work: RepairWork) -> dict[str, Any]:
    """Change agent by agent (each remembered at once), then let what has waited go on."""
    data = work.plan.data
    service = Service.objects.get(pk=data["service"])
    agents = list(Agent.objects.filter(pk__in=data["agents"]).select_related("service").order_by("pk"))
    if data["action"] == "pause":
        paused = [agent.pk for agent in agents if not agent.paused]
        work.remember(paused=paused)
        for agent in agents:
            agent_pause(agent=agent, actor=work.actor)
    elif service.kind == "letta":
        _change_on_server(work, agents, data["model"])
    else:
        try:
            models_instead_set(service=service, instead=data["instead"], actor=work.actor)
        except ValidationError as error:
            raise RepairFailed(" ".join(error.messages)) from error
    note = f"{data['action']}: {data['model']}" if data["action"] != "pause" else "paused"
    rows = sightings_settle(
        service=service.name,
        kinds=QUOTA_KINDS,
        agents=[f"agent:{agent.pk}" for agent in agents],
        actor=work.actor,
        note=note,
    )
    work.remember(settled=rows)
    if data["action"] != "pause":
        relieved([agent.pk for agent in agents])
    return {"agents": len(agents), "action": data["action"], "model": data["model"]}


def undo(work: RepairWork) -> None:
    """The former models, or the agents awake again; what was counted counts again."""
    before = work.snapshot
    service = Service.objects.filter(pk=int(before.get("service") or 0)).first()
    if service is None:
        raise RepairRefused("The service was removed meanwhile.")
    for key, model in dict(before.get("models") or {}).items():
        agent = Agent.objects.select_related("service").filter(pk=int(key)).first()
        if agent is not None:
            try:
                agent_set_model(agent=agent, model=model, actor=work.actor)
            except BackendError as error:
                raise RepairRefused(f"{agent.name} could not be given {model} back: {error.reason}") from error
    if "instead" in before:
        models_instead_set(service=service, instead=before["instead"], actor=work.actor)
    for agent in Agent.objects.filter(pk__in=list(before.get("paused") or [])):
        agent_resume(agent=agent, actor=work.actor)
    sightings_reopen(rows=before.get("settled") or [], actor=work.actor)


def _change_on_server(work: RepairWork, agents: list[Agent], model: str) -> None:
    done: dict[str, str] = {}
    for number, agent in enumerate(agents, 1):
        if agent.model == model:
            continue
        try:
            done[str(agent.pk)] = agent_set_model(agent=agent, model=model, actor=work.actor)
        except BackendError as error:
            raise RepairFailed(f"{agent.name} could not be given {model}: {error.reason}") from error
        finally:
            work.remember(models=done)
        work.progress(number, len(agents), agent.name)


def _agents(work: RepairWork, service: Service) -> list[Agent]:
    """One agent, those that the counters name, or all of a service about which nothing was counted."""
    active = Agent.objects.filter(service=service).exclude(state=AgentState.ARCHIVED).select_related("service")
    if work.target.startswith("agent:"):
        return list(active.filter(pk=work.target.rpartition(":")[2]))
    troubled = _troubled(service)
    named = {int(one.rpartition(":")[2]) for one in (*troubled, *_affected(work)) if one.startswith("agent:")}
    if named:
        return list(active.filter(pk__in=named).order_by("pk"))
    # Asked for by hand, with nothing wrong: whoever names a model or an action means all.
    if work.params.get("model") or work.params.get("action"):
        return list(active.order_by("pk"))
    return []


def _troubled(service: Service) -> list[str]:
    rows = Sighting.objects.filter(service=service.name, kind__in=QUOTA_KINDS, settled_at=None).exclude(agent="")
    return list(rows.values_list("agent", flat=True).distinct())


def _affected(work: RepairWork) -> list[str]:
    """Agents that the check named which proposed this (``llm.slow``)."""
    given = work.params.get("agents") or []
    named = given.split(",") if isinstance(given, str) else given
    return [str(one).strip() for one in named if re.fullmatch(r"agent:\d+", str(one).strip())]


def _instead(work: RepairWork, before: dict[str, str], agents: list[Agent], model: str) -> dict[str, str]:
    """For one agent its own entry; for a service one that covers everybody."""
    if work.target.startswith("agent:"):
        return {**before, agents[0].external_id: model}
    return {EVERYBODY: model}


def _word(key: str) -> str:
    return "every other" if key == EVERYBODY else key


def _must_be_known(service: Service, model: str) -> None:
    """Raises ``RepairRefused`` when the server is sure not to have the model."""
    backend = backend_for(service)
    try:
        if isinstance(backend, ModelChoice):
            known = list(backend.list_models())
        elif service.kind == "openai":
            known = [info.external_id for info in backend.list_agents().agents]
            if service.options.get("models"):
                return  # its list is narrowed: it says nothing about other models
        else:
            return
    except BackendError as error:
        raise RepairRefused(f"Whether {service.name} has {model} cannot be found out: {error.reason}") from error
    if known and model not in known:
        raise RepairRefused(f"{service.name} has no model {model!r}. It has: {', '.join(known[:10])}.")


register_repair(
    "llm.failover",
    title="Go on with another model, or pause",
    repair_class="C",
    button="Switch model",
    explain=(
        "Gives the agents that are held back the fallback model, on their own server or in the requests to it; or pauses them, so "
        "that messages wait instead of failing. What has waited is tried at once. Undoing brings the former models back."
    ),
    plan=plan,
    apply=apply,
    undo=undo,
    fields=(
        ServiceField(
            "action",
            "What to do",
            "The fallback model when one is named, else pausing.",
            kind="choice",
            choices=(("", "Fallback model, else pause"), ("fallback", "Fallback model"), ("pause", "Pause the agents")),
        ),
        ServiceField("model", "Model", "The service's fallback model when empty."),
        ServiceField("agents", "Agents", "agent:1, agent:2, …; those that are held back when empty.", kind="list"),
    ),
    target_kinds=("agent", "service"),
)
