"""``letta.endpoint_wrong``: the address of a Letta service is not (any more) where its agents are."""

from __future__ import annotations

import math

from agents.backends.base import ServiceSpec
from agents.backends.errors import BackendError
from agents.backends.letta import LettaBackend
from agents.doctor.letta.candidates import WORDS, Candidate, look_around
from agents.doctor.letta.common import letta_targets, named
from agents.models import Agent, AgentState
from agents.services.backends import spec_of
from agents.sync.stops import SUSPICIOUS_LEAST, SUSPICIOUS_SHARE
from ops.models import Service
from ops.registry import CheckOutcome, Fix, register_check
from ops.services.services import service_test
from ops.words import counted


@register_check(
    "letta.endpoint_wrong",
    title="The address of Letta is where the agents are",
    tags=["agents", "letta", "config"],
    interval=120,
    severity="critical",
    timeout=25,
    scope="service",
    targets=letta_targets,
    depends_on=["db.reachable", "net.dns", "net.firewall", "net.egress_proxy", "letta.db_unreachable"],
    opens_after=2,
    repairs=["letta.set_endpoint"],
)
def endpoint_wrong(target: str) -> CheckOutcome:
    """Red when the address does not serve our agents *and another one does*; everything else is ``backend.reachable``'s.

    So a dead server is reported as unreachable, and a server that has moved, or an address of one of the other protocols that
    go by Letta's name, as a wrong address. A server that lists far fewer agents than we know, while another one lists them,
    is wrong too, although it answers.
    """
    service = named(target)
    if service is None:
        return CheckOutcome("skip", "The service is switched off or was removed.")
    found = look_around(service)
    own, others = found[0], [one for one in found[1:] if one.protocol != "none"]
    known = _known(service)
    evidence = {
        "address": own.address,
        "answers": [one.to_dict() for one in (own, *others)],
        "known_agents": known,
    }
    if own.protocol == "v1":
        return _compare(service, own, others, known, evidence)
    better = _best(others)
    if own.protocol == "none" and better is None:
        return CheckOutcome("skip", f"{own.address} does not answer, and no other address of a Letta does.", evidence)
    # backend.reachable is not asked while this is red: the service's lamp is set here.
    service_test(service=service, actor="system")
    what = WORDS[own.protocol]
    if better is None:
        return CheckOutcome(
            "fail",
            f"{own.address} is {what}, not a Letta V1 server, and none was found at the usual ports. Give the service the address "
            "of the V1 server (package letta==0.16.8), or make a service of the kind that fits this one.",
            evidence,
        )
    count = "" if better.count is None else f" with {counted(better.count, 'agent')}"
    return CheckOutcome(
        "fail",
        f"At {own.address} there is {what}; a Letta {better.version}{count} answers at {better.address}. No agent can be reached "
        "until the address is changed.",
        evidence,
        fix=Fix("letta.set_endpoint", f"service:{service.name}", {"address": better.address}),
    )


def _compare(
    service: Service, own: Candidate, others: list[Candidate], known: int, evidence: dict[str, object]
) -> CheckOutcome:
    """Both answer: the one that lists the agents that we know is right."""
    fewer = own.count is not None and known - own.count > max(SUSPICIOUS_LEAST, math.floor(SUSPICIOUS_SHARE * known))
    better = _best([one for one in others if (one.count or 0) > (own.count or 0)])
    if not fewer or better is None:
        listed = "" if own.count is None else f" and lists {counted(own.count, 'agent')}"
        return CheckOutcome("pass", f"Letta {own.version} answers at {own.address}{listed}.", evidence)
    here = _ours_at(service, better)
    evidence["ours_there"] = here
    if not here:
        return CheckOutcome(
            "pass",
            f"{own.address} lists {own.count} of {counted(known, 'agent')}; the one at {better.address} has others.",
            evidence,
        )
    return CheckOutcome(
        "fail",
        f"{own.address} lists {counted(own.count or 0, 'agent')} and {better.address} lists {better.count}; {here} of the first 10 that we know are there.",
        evidence,
        fix=Fix("letta.set_endpoint", f"service:{service.name}", {"address": better.address}),
    )


def _best(candidates: list[Candidate]) -> Candidate | None:
    """The V1 server with the most agents; one that does not tell its number comes last."""
    usable = [one for one in candidates if one.protocol == "v1"]
    return max(usable, key=lambda one: -1 if one.count is None else one.count, default=None)


def _known(service: Service) -> int:
    return Agent.objects.filter(service=service).exclude(state=AgentState.ARCHIVED).count()


def _ours_at(service: Service, candidate: Candidate) -> int:
    """How many of a sample of our agents the other server knows."""
    spec = spec_of(service)
    backend = LettaBackend(ServiceSpec(spec.name, "letta", candidate.address, spec.credentials, spec.options))
    rows = Agent.objects.filter(service=service).exclude(state=AgentState.ARCHIVED).order_by("pk")
    try:
        return sum(backend.get_agent(id) is not None for id in rows.values_list("external_id", flat=True)[:10])
    except BackendError:
        return 0
    finally:
        backend.close()
