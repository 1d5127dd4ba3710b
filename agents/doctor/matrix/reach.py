"""Whether the homeserver is there: nothing listens, something else answers, or no answer comes.

Three checks share one look (``look.py``), and each is red for its own causes only. ``homeserver.reachable`` waits for all of them.
"""

from __future__ import annotations

from django.conf import settings
from django.utils import timezone

from agents.doctor.matrix.common import GONE, homeservers, sender_of, server_name_of, service_named
from agents.doctor.matrix.look import Candidate, Look, best, candidates, look_at
from ops.models import Service
from ops.registry import CheckOutcome, Fix, TestResult, register_check
from ops.services.services import service_note

_BY_ANOTHER = "Another check says what is wrong with this address."


def _seen(target: str) -> tuple[Service | None, Look | None]:
    service = service_named(target)
    return service, look_at(service.base_url) if service is not None else None


def _note(service: Service, sentence: str) -> None:
    """``homeserver.reachable`` is not asked now, so the service's own lamp is set here."""
    service_note(service=service, result=TestResult("down", sentence))


@register_check(
    "matrix.hs_process_down",
    title="The homeserver's process runs",
    tags=("matrix", "network"),
    interval=30,
    severity="critical",
    timeout=45,
    scope="service",
    targets=homeservers,
    depends_on=("db.reachable", "net.container_network"),
    opens_after=2,
    repairs=("service.restart", "config.edit", "health.recheck"),
)
def process_down(target: str) -> CheckOutcome:
    """Red when the host answers and refuses the connection: nothing listens on the homeserver's port.

    A refusal comes from the host itself, so it is up; a host that is down, or a firewall, gives no answer at all, which is
    ``matrix.hs_unreachable``'s matter. When the homeserver answers elsewhere, the address is proposed instead of a restart.
    """
    service, seen = _seen(target)
    if service is None or seen is None:
        return GONE
    if seen.stage != "refused":
        return CheckOutcome("pass", "Something listens at the homeserver's address." if seen.ok else _BY_ANOTHER)
    since = service.last_ok_at
    found, proposed, fix = _elsewhere(service)
    evidence = {
        **seen.evidence(),
        "last_answer_at": since.isoformat() if since else None,
        "local": bool(service.options.get("local")),
        "candidate": proposed.url if proposed else None,
        "tried": [one.to_dict() for one in found],
    }
    ago = (
        f"it answered last on {timezone.localtime(since):%d %b at %H:%M}"
        if since
        else "it has never answered since it is known"
    )
    todo = f"Nothing has to be started. {_proposal(proposed)}" if proposed else "Start the homeserver."
    sentence = (
        f"The host is up, the homeserver is down: {seen.sentence} Agents cannot speak; what they say is kept and sent when it is "
        f"back ({ago}). {todo}"
    )
    _note(service, sentence)
    return CheckOutcome("fail", sentence, evidence, fix=fix or Fix("service.restart", f"service:{service.name}"))


@register_check(
    "matrix.hs_url_wrong",
    title="The homeserver's address is a homeserver's",
    tags=("matrix", "config"),
    interval=30,
    severity="error",
    timeout=45,
    scope="service",
    targets=homeservers,
    depends_on=("db.reachable", "net.container_network"),
    repairs=("config.edit", "health.recheck"),
)
def url_wrong(target: str) -> CheckOutcome:
    """Red when something answers at the address and it is no homeserver (a web server's page, another program, a redirect).

    Other addresses are then tried: see ``look.candidates``. Our token is sent to none of them. The one that has our account is
    proposed.
    """
    service, seen = _seen(target)
    if service is None or seen is None:
        return GONE
    if seen.stage != "not_matrix":
        return CheckOutcome("pass", "What answers there is a homeserver." if seen.ok else _BY_ANOTHER)
    found, proposed, fix = _elsewhere(service)
    evidence = {
        **seen.evidence(),
        "candidate": proposed.url if proposed else None,
        "tried": [one.to_dict() for one in found],
    }
    sentence = f"{service.base_url} is not the homeserver. {seen.sentence} {_proposal(proposed)}"
    _note(service, sentence)
    return CheckOutcome("fail", sentence, evidence, fix=fix)


@register_check(
    "matrix.hs_unreachable",
    title="The homeserver answers",
    tags=("matrix", "network"),
    interval=30,
    severity="critical",
    timeout=45,
    scope="service",
    targets=homeservers,
    depends_on=("db.reachable", "net.container_network"),
    opens_after=2,
    repairs=("health.recheck", "config.edit"),
)
def unreachable(target: str) -> CheckOutcome:
    """Red when no answer comes: the name does not resolve, no connection, no TLS, no answer in time, or a proxy's error.

    A refused connection and an answer that is not Matrix have checks of their own. For a name that does not resolve other
    addresses are tried as well, since that is mostly a mistake in the address.
    """
    service, seen = _seen(target)
    if service is None or seen is None:
        return GONE
    if seen.ok:
        return CheckOutcome("pass", f"The homeserver answers. {seen.sentence}", seen.evidence())
    if seen.stage in ("refused", "not_matrix"):
        return CheckOutcome("skip", _BY_ANOTHER, seen.evidence())
    evidence = seen.evidence()
    fix = Fix("health.recheck", f"service:{service.name}")
    words = _STAGES.get(seen.stage, "")
    if seen.stage in ("dns", "address"):
        found, proposed, other = _elsewhere(service)
        fix = other or fix
        words = f"{words} {_proposal(proposed)}" if proposed else words
        evidence |= {
            "candidate": proposed.url if proposed else None,
            "tried": [one.to_dict() for one in found],
        }
    sentence = f"The homeserver at {service.base_url} cannot be reached. {seen.sentence} {words}".strip()
    _note(service, sentence)
    return CheckOutcome("fail", sentence, evidence, fix=fix)


_STAGES = {
    "address": "Correct the address of its service.",
    "dns": "Correct the host in its address, or the name server's answer.",
    "tcp": "The host is down, or a firewall lets nothing through: start it, or open the port.",
    "proxy": "Correct the proxy, or add the host to NO_PROXY.",
    "tls": "Mend the certificate, or correct the address (http or https).",
    "http": "Look at the homeserver's log and at the proxy in front of it.",
}


def _elsewhere(service: Service) -> tuple[list[Candidate], Candidate | None, Fix | None]:
    """Other addresses that were tried, the one to propose, and the repair that takes it."""
    found = candidates(
        service.base_url,
        server_name=server_name_of(service),
        sender=sender_of(service),
        known=tuple(_known(service)),
    )
    proposed = best(found)
    if proposed is None:
        return found, None, None
    return found, proposed, Fix("config.edit", f"service:{service.name}", {"base_url": proposed.url})


def _known(service: Service) -> list[str]:
    """Addresses that the settings name, and the one at which the server's abilities were last found out."""
    flavour = service.capabilities.get("flavour")
    last = flavour.get("base_url") if isinstance(flavour, dict) else ""
    return [str(one) for one in (last, settings.MATRIX_HOMESERVER_URL) if one]


def _proposal(proposed: Candidate | None) -> str:
    if proposed is None:
        return "No other address that was tried is a homeserver. Correct the address of its service."
    known = ", and it has our account" if proposed.knows_us else ""
    return f"A candidate that works{known}: {proposed.url} ({proposed.found_by}). Adopt it."
