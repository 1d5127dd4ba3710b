"""``letta.set_endpoint``: give a Letta service another address, after a dry run of sync has shown that no agent is lost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.utils import timezone

from agents.backends.base import AgentListing, ServiceSpec
from agents.backends.errors import BackendError
from agents.backends.letta import LettaBackend
from agents.doctor.letta.candidates import look_around
from agents.doctor.letta.common import service_at
from agents.services.backends import spec_of
from agents.sync.observe import Observed, ServiceView, known_agents, tidy
from agents.sync.plan import make_plan
from ops.doctor.repairs import Change, Plan, RepairFailed, RepairRefused, RepairWork, register_repair
from ops.models import ManagedBy, Service
from ops.registry import ServiceField
from ops.services.services import service_save, service_test
from ops.words import verb


def plan(work: RepairWork) -> Plan:
    """Ask the new address for all its agents and plan a sync with them, without applying anything."""
    service = service_at(work.target)
    if service.kind != "letta":
        raise RepairRefused(f"{service.name} is no Letta service (its kind is {service.kind}).")
    address = str(work.params.get("address") or "").strip().rstrip("/").removesuffix("/v1") or _found(service)
    if address == service.base_url.rstrip("/").removesuffix("/v1"):
        return Plan(f"{service.name} has the address {address} already.")
    listing, version = _listing(service, address)
    counts, told = _dry_run(service, listing, force=bool(work.params.get("force")))
    changes = [Change(f"service:{service.name}", "address", service.base_url, address)]
    if service.managed_by == ManagedBy.ENVIRONMENT:
        told += (
            " From then on the address is an operator's: also change LETTA_BASE_URL in the environment, "
            "or it stays unused."
        )
        changes.append(Change(f"service:{service.name}", "managed by", "the environment", "an operator"))
    words = {
        "agent.create": "new agents",
        "agent.return": "agents that come back",
        "agent.miss": "agents not in the list",
    }
    for kind, word in words.items():
        if counts.get(kind):
            changes.append(Change(f"service:{service.name}", f"{word}, at the next sync", None, counts[kind]))
    return Plan(
        f"{service.name} moves to {address} (Letta {version}, {listing.proof}).{told}",
        tuple(changes),
        data={"service": service.pk, "address": address},
        snapshot={"service": service.pk, "address": service.base_url, "managed_by": str(service.managed_by)},
    )


def apply(work: RepairWork) -> dict[str, Any]:
    """Write the address and test it."""
    service = _move(work, work.plan.data["address"], ManagedBy.OPERATOR)
    result = service_test(service=service, actor=work.actor)
    if not result.ok:
        raise RepairFailed(f"The new address was written, but the test failed: {result.sentence}")
    return {"address": service.base_url, "test": result.sentence, "version": result.version}


def undo(work: RepairWork) -> None:
    """The former address, managed as before."""
    before = work.snapshot
    _move(work, before["address"], before["managed_by"])


def _move(work: RepairWork, address: str, managed_by: str) -> Service:
    service = Service.objects.filter(pk=work.snapshot["service"]).first()
    if service is None:
        raise RepairFailed("The service was removed meanwhile.")
    try:
        return service_save(
            actor=work.actor,
            name=service.name,
            kind=service.kind,
            base_url=address,
            enabled=service.enabled,
            managed_by=managed_by,
        )
    except ValidationError as error:
        raise RepairFailed(" ".join(error.messages)) from error


def _found(service: Service) -> str:
    """The one other address at which a Letta V1 server answers."""
    found = [one for one in look_around(service)[1:] if one.protocol == "v1" and one.count is not None]
    if not found:
        raise RepairRefused(
            f"No other Letta server was found near {service.base_url}. Give the address of the one that you mean."
        )
    return max(found, key=lambda one: one.count or 0).address


def _listing(service: Service, address: str) -> tuple[AgentListing, str]:
    spec = spec_of(service)
    try:
        backend = LettaBackend(ServiceSpec(spec.name, "letta", address, spec.credentials, spec.options))
    except BackendError as error:
        raise RepairRefused(error.reason) from error
    try:
        health = backend.health()
        if not health.ok:
            raise RepairRefused(f"{address} cannot be used: {health.detail}")
        listing = backend.list_agents()
    except BackendError as error:
        raise RepairRefused(f"The agents at {address} could not be read: {error.reason}") from error
    finally:
        backend.close()
    if not listing.complete:
        raise RepairRefused(f"The list of agents at {address} is not complete: {listing.proof}. Try again.")
    return listing, health.version or "of unknown version"


def _dry_run(service: Service, listing: AgentListing, *, force: bool) -> tuple[dict[str, int], str]:
    """The steps of a sync with this list by their kind. Raises ``RepairRefused`` when it would archive suspiciously much."""
    view = ServiceView(
        service.pk, service.name, service.kind, replace(listing, agents=[tidy(info) for info in listing.agents])
    )
    skip = frozenset(settings.DISABLED_AGENT_IDS)
    observed = Observed(services=[view], agents=list(known_agents([service.pk])), skip=skip)
    planned = make_plan(observed, now=timezone.now())
    if planned.stopped and not force:
        finding = next(one for one in planned.findings if one.code == "sync.suspicious")
        raise RepairRefused(
            f"This is another server: {finding.evidence['count']} of our agents {verb(finding.evidence['count'], 'is', 'are')} not there "
            f"({', '.join(finding.evidence['gone'][:5])}). Nothing was changed. Tick 'lose agents' if that is meant."
        )
    counts = planned.counts
    return counts, "" if counts.get("agent.miss") else " Every agent that is known here is there."


register_repair(
    "letta.set_endpoint",
    title="Give Letta another address",
    repair_class="C",
    button="Use this address",
    explain=(
        "Tests the address, reads all agents there and plans a sync with them; refuses when agents would be lost. Then the service "
        "gets the address. Rooms, accounts and mappings stay."
    ),
    plan=plan,
    apply=apply,
    undo=undo,
    fields=(
        ServiceField("address", "Address", "Of a Letta V1 server, without a path. The one that was found when empty."),
        ServiceField(
            "force", "Lose agents", "Go on although known agents are not there; the next sync asks again.", kind="bool"
        ),
    ),
    target_kinds=("service",),
)
