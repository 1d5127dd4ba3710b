"""Guides about the way to other servers, with the real hosts, ports and paths of this installation."""

from __future__ import annotations

import shutil
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

from ops.configuration import edit
from ops.configuration.masks import mask_address
from ops.configuration.schema import configuration
from ops.doctor.guides import Guide, GuideStep, register_guide
from ops.network import container, dns, ports
from ops.network.places import PUBLIC, Place, no_proxy, place, public_url
from ops.network.probe import PORTS


def _of(target: str) -> Place:
    name = target.partition(":")[2] or target
    return place(name) or Place(name or "the service", "")


def _host_port(one: Place) -> tuple[str, int]:
    parts = urlsplit(one.proxy or one.url)
    return parts.hostname or "HOST", parts.port or PORTS.get(parts.scheme, 443)


def _again(check: str, target: str) -> GuideStep:
    return GuideStep("Look again.", f"python manage.py doctor {check}" + (f" --target {target}" if target else ""))


def address_step(one: Place) -> GuideStep:
    """Where the address of a place is changed."""
    if one.name == PUBLIC:
        return GuideStep(
            "Correct the address.", f"PUBLIC_URL={settings.PUBLIC_URL}", "ini", str(configuration().env_file())
        )
    setting = configuration().service_settings.get(f"{one.name}.base_url")
    if setting and not edit.value_is_operators(one.name):
        return GuideStep(
            "Correct the address, then start again.", f"{setting}={one.url}", "ini", edit.place_of(setting)
        )
    command = f"python manage.py repair config.edit --target service:{one.name} --param value={one.url or 'http://…'}"
    return GuideStep("Correct the address; it is tried before it is saved.", command)


@register_guide("net.dns")
def name_does_not_resolve(target: str, evidence: dict[str, Any]) -> Guide:
    """Where to look the name up, what was probably meant, and the resolver's file."""
    one = _of(target)
    host, _ = _host_port(one)
    servers = ", ".join(address for address, _ in dns.nameservers()) or "none"
    near = evidence.get("nearest")
    steps = [GuideStep(f"Ask from where Switchboard runs ({container.here()}).", f"getent hosts {host}")]
    if near:
        steps.append(GuideStep(f"Probably {near} was meant."))
    steps.append(address_step(one))
    if evidence.get("kind") in ("timeout", "servfail", "refused"):
        steps.append(
            GuideStep(
                f"The name servers here are {servers}. Name one that answers.",
                "nameserver 1.1.1.1",
                "ini",
                "/etc/resolv.conf",
            )
        )
    if container.inside():
        steps.append(
            GuideStep(
                f"A name of your own network can be given to the container, with the address that {host} really has.",
                f'services:\n  worker:\n    extra_hosts:\n      - "{host}:192.0.2.10"\n  web:\n    extra_hosts:\n      - "{host}:192.0.2.10"',
                "yaml",
                "compose.yaml",
            )
        )
    else:
        steps.append(
            GuideStep(
                "Or write the name into the hosts file, with its real address.",
                f"192.0.2.10  {host}",
                "ini",
                "/etc/hosts",
            )
        )
    return Guide(
        f"Make the name {host} resolve",
        _why(evidence, f"{one.name} is reached by a name that nobody here knows."),
        (*steps, _again("net.dns", target)),
    )


@register_guide("net.firewall")
def dropped(target: str, evidence: dict[str, Any]) -> Guide:
    """The one line for each firewall tool that is installed here. It is never run for the operator."""
    one = _of(target)
    host, port = _host_port(one)
    lines = {
        "ufw": f"ufw allow {port}/tcp" if one.name == PUBLIC else f"ufw allow out to any port {port} proto tcp",
        "firewall-cmd": f"firewall-cmd --permanent --add-port={port}/tcp && firewall-cmd --reload",
        "nft": f"nft add rule inet filter {'input' if one.name == PUBLIC else 'output'} tcp dport {port} accept",
        "iptables": f"iptables -I {'INPUT' if one.name == PUBLIC else 'OUTPUT'} -p tcp --dport {port} -j ACCEPT",
    }
    found = [tool for tool in lines if shutil.which(tool) or shutil.which(tool, path="/usr/sbin:/sbin")]
    steps = [
        GuideStep(f"See from here whether {host}:{port} refuses or says nothing.", f"nc -vz -w 3 {host} {port}"),
        GuideStep(
            f"Is the machine on, and does its server listen on more than loopback? On {host}:",
            f"ss -ltn 'sport = :{port}'",
        ),
    ]
    if not found:
        steps.append(
            GuideStep(
                f"No firewall tool is installed here. Open port {port} where {host} is: with ufw",
                f"ufw allow {port}/tcp",
            )
        )
        steps.append(GuideStep("or with firewalld", lines["firewall-cmd"]))
    for tool in found[:2]:
        steps.append(GuideStep(f"This machine has {tool}. Let the port through:", lines[tool]))
    steps.append(
        GuideStep(f"A provider's own firewall (security group) may stand before {host}: open {port}/tcp there too.")
    )
    why = _why(evidence, f"Connections to {host}:{port} time out: something drops them without a word.")
    return Guide(f"Let connections to {host}:{port} through", why, (*steps, _again("net.firewall", target)))


@register_guide("net.egress_proxy")
def through_the_proxy(target: str, evidence: dict[str, Any]) -> Guide:
    """Proxy variables with the NO_PROXY that this installation needs."""
    one = _of(target)
    proxy = mask_address(one.proxy) or str(evidence.get("proxy") or "http://PROXY:3128")
    variables = f"HTTPS_PROXY={proxy}\nHTTP_PROXY={proxy}\nNO_PROXY={no_proxy()}"
    steps = [
        GuideStep(
            "See whether the proxy lets you through.",
            f"curl -sS -o /dev/null -w '%{{http_code}}\\n' -x {proxy} {one.url or 'https://api.openai.com'}",
        ),
        GuideStep(
            "What belongs to your own network must not go there.", variables, "ini", str(configuration().env_file())
        ),
    ]
    if one.proxy_from == "option" or not one.proxy:
        command = f"python manage.py repair config.edit --target service:{one.name} --param field=options.proxy --param value="
        steps.append(GuideStep(f"Or let {one.name} go directly.", command))
    why = _why(evidence, "Model providers are asked through a proxy, and that has to let Switchboard through.")
    return Guide(
        "Set the proxy right", why, (*steps, GuideStep("Start Switchboard again."), _again("net.egress_proxy", target))
    )


@register_guide("llm.unreachable")
def provider(target: str, evidence: dict[str, Any]) -> Guide:
    """What to do at the stage at which it ends."""
    one = _of(target)
    host, port = _host_port(one)
    stage, kind = str(evidence.get("stage") or ""), str(evidence.get("kind") or "")
    steps = [
        GuideStep(
            "Ask from where the worker runs.",
            f"curl -sS -o /dev/null -w '%{{http_code}} %{{time_total}}s\\n' {one.url or 'https://api.openai.com/v1'}",
        )
    ]
    if kind == "refused":
        steps.append(GuideStep(f"Nothing listens on {host}:{port}. Start that server, or correct its address."))
        steps.append(address_step(one))
    elif stage == "tls":
        steps.append(
            GuideStep(
                f"Look at the certificate that {host} shows.",
                f"openssl s_client -connect {host}:{port} -servername {host} </dev/null | openssl x509 -noout -subject -issuer -dates",
            )
        )
        steps.append(
            GuideStep(
                "A proxy that opens encryption needs its certificate here.",
                "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt",
                "ini",
                str(configuration().env_file()),
            )
        )
    elif int(evidence.get("status") or 0) >= 500:
        steps.append(
            GuideStep("The provider itself has trouble; look at its status page. Turns wait and are tried again.")
        )
    else:
        steps.append(address_step(one))
        steps.append(
            GuideStep(
                "Behind a proxy? Then name it.",
                f"HTTPS_PROXY=http://PROXY:3128\nNO_PROXY={no_proxy()}",
                "ini",
                str(configuration().env_file()),
            )
        )
    why = _why(evidence, f"{one.name} is not reached from the worker, so its agents cannot answer.")
    return Guide(f"Reach {host}", why, (*steps, _again("llm.unreachable", target)))


@register_guide("net.host_unreachable")
def published(target: str, evidence: dict[str, Any]) -> Guide:
    """The port to publish, or the proxy's upstream."""
    inside = urlsplit(str((evidence.get("inside") or {}).get("url") or f"http://127.0.0.1:{settings.PORT}"))
    outside = urlsplit(public_url())
    out_port = outside.port or PORTS.get(outside.scheme, 80)
    port = inside.port or settings.PORT
    steps = [
        GuideStep(
            "Both legs, by hand.", f"curl -sS {inside.scheme}://{inside.netloc}/livez\ncurl -sS {public_url()}/livez"
        ),
        GuideStep(
            "With compose the web service publishes its port.",
            f'services:\n  web:\n    ports:\n      - "{out_port}:{port}"',
            "yaml",
            "compose.yaml",
        ),
    ]
    if settings.HOST not in ports.ANY:
        steps.append(
            GuideStep(
                f"The web server listens on {settings.HOST} only. To be reached from elsewhere without a proxy:",
                "HOST=0.0.0.0",
                "ini",
                edit.place_of("HOST"),
            )
        )
    steps.append(
        GuideStep("A reverse proxy has to lead here.", f"proxy_pass http://{inside.hostname}:{port};", "nginx")
    )
    steps.append(
        GuideStep(
            "Or the address is another one.", f"PUBLIC_URL={settings.PUBLIC_URL}", "ini", edit.place_of("PUBLIC_URL")
        )
    )
    steps.append(
        GuideStep(
            "When your router does not let its own network back in, let the doctor look elsewhere.",
            "python manage.py repair config.edit --target setting:PUBLIC_PROBE_URL --param value=http://…",
        )
    )
    why = _why(evidence, f"Switchboard answers inside, and {public_url()} does not lead to it.")
    return Guide("Let people in", why, (*steps, _again("net.host_unreachable", "")))


@register_guide("net.service_to_service", "net.container_network")
def same_network(target: str, evidence: dict[str, Any]) -> Guide:
    """The ``networks:`` block that puts both on one network."""
    one = _of(target)
    host, port = _host_port(one)
    theirs = evidence.get("their_networks") or []
    network = str(theirs[0]) if theirs else "agents"
    block = (
        f"services:\n  web:\n    networks: [default, {network}]\n  worker:\n    networks: [default, {network}]\n"
        f"networks:\n  {network}:\n    external: true"
    )
    steps = [
        GuideStep(
            "Which networks has that container?", "docker inspect -f '{{json .NetworkSettings.Networks}}' " + host
        ),
        GuideStep("Put web and worker on it as well.", block, "yaml", "compose.yaml"),
        GuideStep("Then make them anew.", "docker compose up -d web worker"),
        GuideStep(
            f"Ask from there; it has to say that port {port} is open.",
            f"docker compose exec worker python -c \"import socket; socket.create_connection(('{host}', {port}), 3); print('open')\"",
        ),
        address_step(one),
    ]
    if not container.inside():
        steps = [
            GuideStep(
                f"Ask from the machine of the process that does not reach it: {host}:{port}.",
                f"nc -vz -w 3 {host} {port}",
            ),
            GuideStep(
                f"Let {host} listen on more than loopback, and its firewall let that machine in.",
                f"ss -ltn 'sport = :{port}'",
            ),
            address_step(one),
        ]
    why = _why(evidence, f"Not every process reaches {one.name} from where it runs.")
    return Guide(f"One network for Switchboard and {host}", why, (*steps, _again("net.service_to_service", target)))


@register_guide("net.port_conflict")
def taken_port(target: str, evidence: dict[str, Any]) -> Guide:
    """Who has it, and the line for another one, for where it cannot be written."""
    name = target.partition(":")[2] or target or "web"
    use = ports.port_use(name)
    address = use.address() if use is not None else None
    host, port = address or (settings.HOST, settings.PORT)
    free = int(evidence.get("next_free") or ports.next_free(host, port))
    steps = [
        GuideStep("Who listens there?", f"ss -ltnp 'sport = :{port}'"),
        GuideStep("Take another port.", f"python manage.py repair config.port --target {name}"),
        GuideStep("Or by hand.", f"PORT={free}", "ini", edit.place_of("PORT")),
        GuideStep("With make:", f"make up PORT={free}"),
        GuideStep(
            "With compose only the published port changes.",
            f'services:\n  web:\n    ports:\n      - "{free}:{port}"',
            "yaml",
            "compose.yaml",
        ),
    ]
    why = _why(evidence, f"Another program listens on port {port}.")
    return Guide(f"Give {use.label if use else name} a port of its own", why, (*steps, _again("net.port_conflict", "")))


@register_guide("docker.image_pull")
def other_registry(target: str, evidence: dict[str, Any]) -> Guide:
    """The line with the mirror that has the very same image."""
    image = str(settings.ENVIRONMENT["SWITCHBOARD_IMAGE"] or "REGISTRY/switchboard:TAG")
    works, digest = str(evidence.get("works") or ""), str(evidence.get("digest") or "")
    pinned = f"{works.rpartition(':')[0] or works}@{digest}" if works and digest else works or image
    steps = [GuideStep("See what the registry says.", f"docker manifest inspect {image}")]
    if works:
        steps.append(GuideStep("A mirror has it. Pull exactly this image from there.", f"docker pull {pinned}"))
        steps.append(
            GuideStep("And start from it.", f"SWITCHBOARD_IMAGE={pinned}", "ini", "deploy/.env, beside compose.yaml")
        )
    else:
        steps.append(
            GuideStep(
                "Name registries that have the same image.",
                "SWITCHBOARD_IMAGE_MIRRORS=mirror.gcr.io,registry.example/team",
                "ini",
                edit.place_of("SWITCHBOARD_IMAGE_MIRRORS"),
            )
        )
        steps.append(
            GuideStep(
                "Or carry the image over.",
                f"docker save {image} | gzip > switchboard.tar.gz\ndocker load < switchboard.tar.gz",
            )
        )
    why = _why(evidence, "A release that cannot be pulled cannot be installed.")
    return Guide("Pull from a registry that answers", why, (*steps, _again("docker.image_pull", "")))


@register_guide("mcp.http_stream")
def unbuffered(target: str, evidence: dict[str, Any]) -> Guide:
    """What each common proxy needs to pass on what it gets at once, for this host and path."""
    outside = urlsplit(public_url())
    host = outside.hostname or "localhost"
    path = outside.path.rstrip("/") + "/api/v1/"
    upstream = f"http://127.0.0.1:{settings.PORT}"
    nginx = (
        f"location {path} {{\n    proxy_pass {upstream};\n    proxy_http_version 1.1;\n    proxy_set_header Host $host;\n"
        '    proxy_set_header X-Forwarded-Proto $scheme;\n    proxy_set_header Connection "";\n    proxy_buffering off;\n'
        "    proxy_cache off;\n    gzip off;\n    proxy_read_timeout 1h;\n}"
    )
    caddy = f"{host} {{\n    reverse_proxy 127.0.0.1:{settings.PORT} {{\n        flush_interval -1\n    }}\n}}"
    traefik = (
        f'http:\n  routers:\n    switchboard:\n      rule: "Host(`{host}`)"\n      service: switchboard\n  services:\n'
        f'    switchboard:\n      loadBalancer:\n        servers:\n          - url: "{upstream}"\n'
        "        responseForwarding:\n          flushInterval: 1ms"
    )
    apache = (
        f'<Location "{path}">\n    ProxyPass "{upstream}{path}" flushpackets=on\n    ProxyPassReverse "{upstream}{path}"\n'
        "    SetEnv no-gzip 1\n</Location>"
    )
    steps = (
        GuideStep("See it: five lines have to come one after the other, not together.", f"curl -N -H 'Authorization: Bearer YOUR_TOKEN' {public_url()}/api/v1/stream-test"),
        GuideStep("nginx: switch buffering off for the API.", nginx, "nginx", f"the server block of {host}"),
        GuideStep("Caddy: pass everything on at once.", caddy, "caddy", "Caddyfile"),
        GuideStep("Traefik: no buffering middleware on this router, and flush at once.", traefik, "yaml", "the dynamic configuration"),
        GuideStep("Apache: flush packets, and do not compress.", apache, "apache", f"the virtual host of {host}"),
        _again("mcp.http_stream", ""),
    )  # fmt: skip
    why = _why(
        evidence, f"What lies in front of {public_url()} collects an answer and hands it over when it is complete."
    )
    return Guide("Let streams pass", why, steps)


def _why(evidence: dict[str, Any], general: str) -> str:
    """The general sentence, and what was measured when there is something."""
    measured = str(evidence.get("sentence") or "")
    return f"{general} {measured}".strip()
