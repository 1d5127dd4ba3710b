"""Checks of the way to every server, from the name to the answer.

They stand in a row: container network, name, connection, proxy, model provider. Each asks only what those before it have found
to be well, and what talks to a server (``homeserver.reachable``, ``backend.reachable``) depends on them: one cause, one red.
"""

from __future__ import annotations

import difflib
from urllib.parse import urlsplit, urlunsplit

from ops.configuration.masks import mask_address
from ops.network import container, dns
from ops.network.places import MODEL_KINDS, Place, is_inside, no_proxy, place, place_names, places, service_names
from ops.network.probe import Probe, probe
from ops.registry import CheckOutcome, Fix, register_check

_TAGS = ("network",)
# Hosts that people mean when they mistype them.
_KNOWN = ("api.openai.com", "api.anthropic.com", "openrouter.ai", "localhost", "letta", "synapse", "postgres", "redis")


def _gone() -> CheckOutcome:
    return CheckOutcome("skip", "The service is switched off or was removed.")


def _evidence(one: Place, found: Probe) -> dict[str, object]:
    return {**found.to_dict(), "proxy": mask_address(one.proxy) if one.proxy else "", "from": container.here()}


@register_check(
    "net.container_network",
    title="This container is on the network of the servers it needs",
    tags=(*_TAGS, "container"),
    interval=60,
    severity="error",
    timeout=15,
    scope="service",
    targets=place_names,
    opens_after=2,
)
def container_network(name: str) -> CheckOutcome:
    """In a container only. With a Docker socket (read only): which networks we and the server's container share. Without one: a
    bare name (as containers have) that the container's resolver does not know."""
    one = place(name)
    if one is None:
        return _gone()
    if not container.inside():
        return CheckOutcome("skip", "Switchboard does not run in a container here.")
    host = (urlsplit(one.proxy).hostname or "") if one.proxy else one.host
    found = container.examine(host)
    if found.problem and found.evidence.get("docker") != "asked" and (near := nearest(host, exclude=name)):
        # Mistyped, most likely: the name's own check says so, and mends it.
        return CheckOutcome("pass", f"{host} is no name that is known here; {near} is one.", found.evidence)
    if found.problem:
        return CheckOutcome("fail", found.problem, found.evidence)
    return CheckOutcome("pass", found.sentence, found.evidence)


@register_check(
    "net.dns",
    title="The name resolves",
    tags=_TAGS,
    interval=30,
    severity="error",
    timeout=15,
    scope="service",
    targets=place_names,
    opens_after=2,
    # A homeserver that is not reached is told of by its own check, which looks for it elsewhere as well.
    depends_on=("net.container_network", "matrix.hs_unreachable"),
    repairs=("config.edit",),
)
def name_resolves(name: str) -> CheckOutcome:
    """The first hop's name (the proxy's when there is one), as this process's resolver knows it."""
    one = place(name)
    if one is None:
        return _gone()
    found = one.probe(until="dns")
    evidence = _evidence(one, found)
    if found.ok:
        return CheckOutcome("pass", found.sentence, evidence)
    if found.stage == "address":
        return CheckOutcome("skip", f"{name} has no address that could be looked up.", evidence)
    host = found.hop.rpartition(":")[0]
    near = nearest(host, exclude=name) if found.kind == "nxdomain" else ""
    hint = f" Did you mean {near}?" if near else ""
    fix = None
    if one.pk and near and not one.proxy:
        fix = Fix("config.edit", one.target, {"field": "base_url", "value": with_host(one.url, near)})
    kinds = {"nxdomain": "NXDOMAIN", "servfail": "SERVFAIL", "timeout": "timeout"}
    sentence = f"DNS: {kinds.get(found.kind, found.kind)} for {host} from {container.here()}. {found.sentence}{hint}"
    return CheckOutcome("fail", sentence, {**evidence, "nearest": near}, (), fix)


def nearest(host: str, *, exclude: str = "") -> str:
    """The known host name that ``host`` resembles most and that resolves, "" when there is none."""
    known = {one.host for name, one in places().items() if name != exclude and one.host}
    close = difflib.get_close_matches(host, sorted({*known, *_KNOWN} - {host}), n=3, cutoff=0.75)
    return next((name for name in close if dns.resolver().resolve(name, timeout=2.0).ok), "")


def with_host(url: str, host: str) -> str:
    """The same address at another host."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return urlunsplit((parts.scheme, f"{host}{port}", parts.path, "", ""))


@register_check(
    "net.firewall",
    title="Nothing drops the connection",
    tags=_TAGS,
    interval=30,
    severity="error",
    timeout=20,
    scope="service",
    targets=place_names,
    opens_after=2,
    depends_on=("net.dns",),
)
def firewall(name: str) -> CheckOutcome:
    """A connection that times out was dropped on the way; one that is refused came through, and is no matter of a firewall."""
    one = place(name)
    if one is None:
        return _gone()
    found = one.probe(until="tcp")
    evidence = _evidence(one, found)
    if found.stage != "tcp" or found.kind not in ("timeout", "unreachable"):
        came = "refused, so it came through" if found.kind == "refused" else "came through"
        return CheckOutcome("pass", f"{found.hop or name}: the connection {came}.", evidence)
    if found.kind == "unreachable":
        return CheckOutcome("fail", f"{found.sentence} A firewall forbids it, or no route leads there.", evidence)
    return CheckOutcome("fail", f"{found.sentence} Most likely a firewall drops it, or the machine is off.", evidence)


@register_check(
    "net.egress_proxy",
    title="The proxy lets us through, and only where it should",
    tags=_TAGS,
    interval=60,
    severity="error",
    timeout=30,
    scope="service",
    targets=service_names,
    opens_after=2,
    depends_on=("net.dns", "net.firewall"),
    repairs=("config.edit",),
)
def egress_proxy(name: str) -> CheckOutcome:
    """Only where a proxy is set: the service must be reached through it, and servers of our own network must not go there."""
    one = place(name)
    if one is None:
        return _gone()
    if not one.proxy:
        return CheckOutcome("skip", f"{name} is asked directly, without a proxy.")
    direct = (
        Fix("config.edit", one.target, {"field": "options.proxy", "value": ""}) if one.proxy_from == "option" else None
    )
    evidence: dict[str, object] = {
        "proxy": mask_address(one.proxy), "proxy_from": one.proxy_from, "url": mask_address(one.url), "no_proxy": no_proxy(),
    }  # fmt: skip
    if is_inside(one.host) and one.proxy_from != "option":
        return CheckOutcome(
            "fail",
            f"{one.host} belongs to our own network and would be asked through the proxy of {one.proxy_from}. "
            f"Set NO_PROXY={no_proxy()}",
            evidence,
        )
    through = one.probe()
    evidence["through_proxy"] = through.to_dict()
    if through.ok or (through.stage not in ("tcp", "proxy") and through.hop):
        return CheckOutcome("pass", f"{name} is reached through the proxy.", evidence)
    straight = probe(one.url)
    evidence["directly"] = straight.to_dict()
    if straight.ok:
        sentence = f"{through.sentence} Directly {one.host} answers: leave the proxy out for it."
        return CheckOutcome("fail", sentence, evidence, (), direct)
    return CheckOutcome("fail", f"{through.sentence} Directly it is not reached either: {straight.sentence}", evidence)


@register_check(
    "llm.unreachable",
    title="The model provider is reached and answers",
    tags=("network", "models"),
    interval=60,
    severity="critical",
    timeout=25,
    scope="service",
    targets=lambda: service_names(*MODEL_KINDS),
    opens_after=2,
    depends_on=("net.dns", "net.firewall", "net.egress_proxy"),
    repairs=("health.recheck", "config.edit"),
)
def llm_unreachable(name: str) -> CheckOutcome:
    """All stages from this worker, without a key: any answer below 500 says that the provider is there."""
    one = place(name)
    if one is None:
        return _gone()
    found = one.probe()
    evidence = _evidence(one, found)
    if found.ok and found.status < 500:
        return CheckOutcome("pass", f"{one.host} answers {found.status} after {found.milliseconds} ms.", evidence)
    if found.ok:
        return CheckOutcome(
            "fail", f"{one.host} answers {found.status}: the provider itself has trouble. Agents wait.", evidence
        )
    words = {"dns": "name", "tcp": "connection", "proxy": "proxy", "tls": "encryption", "http": "answer"}
    stage = words.get(found.stage, found.stage)
    return CheckOutcome("fail", f"{name} is not reached, it ends at the {stage}: {found.sentence}", evidence)
