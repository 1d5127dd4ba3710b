"""Where Switchboard goes: each service with its address and the proxy in between, and its own address for people."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

from ops.live import live, register_live
from ops.models import Service
from ops.network.probe import PORTS, Probe, Stage, probe
from ops.registry import service_kind

PUBLIC = "PUBLIC_URL"
PUBLIC_PROBE = "PUBLIC_PROBE_URL"
# Kinds of services behind which language models are.
MODEL_KINDS = ("openai", "anthropic")
_NEAR_SUFFIXES = (".local", ".internal", ".lan", ".localhost", ".home.arpa")


def _address(value: Any) -> str:
    text = str(value or "").strip().rstrip("/")
    if text and (urlsplit(text).scheme not in ("http", "https") or not urlsplit(text).hostname):
        raise ValueError("an address starts with http:// or https:// and names a host")
    return text


register_live(
    PUBLIC_PROBE,
    label="Address to look for Switchboard from outside",
    help="Where the doctor looks for Switchboard when PUBLIC_URL cannot be reached from inside (a router that does not let "
    "its own network back in). PUBLIC_URL when not set.",
    parse=_address,
    default=lambda: "",
)


@dataclass(frozen=True, slots=True)
class Place:
    """One address that is asked. ``name`` is a service's name or the setting's; ``proxy`` "" when it is asked directly."""

    name: str
    url: str
    proxy: str = ""
    proxy_from: str = ""
    kind: str = ""
    role: str = ""
    pk: int = 0
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def target(self) -> str:
        """``service:<name>`` for the rows, the setting otherwise."""
        return f"service:{self.name}" if self.pk else f"setting:{self.name}"

    @property
    def asked(self) -> str:
        """A digest of what the row says to ask, "" when there is no row: the same in every process, whatever its own environment adds."""
        proxy = self.proxy if self.proxy_from == "option" else ""
        return hashlib.sha256(f"{self.url}\n{proxy}".encode()).hexdigest()[:16] if self.pk else ""

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    def probe(self, until: Stage = "http") -> Probe:
        """Ask it the way that the real work goes."""
        return probe(self.url, proxy=self.proxy, until=until)


def public_url() -> str:
    """Where the doctor looks for Switchboard from outside."""
    return str(live(PUBLIC_PROBE) or settings.PUBLIC_URL)


def places() -> dict[str, Place]:
    """All enabled services that have an address, by name, and ``PUBLIC_URL``. One query."""
    return {**_service_places(), PUBLIC: _public_place()}


def place(name: str) -> Place | None:
    """One place, None when the service was removed or switched off. Asks for that one only: checks do so for each of their targets."""
    return _public_place() if name == PUBLIC else _service_places(name=name).get(name)


def place_names() -> list[str]:
    """Targets of the checks that go everywhere."""
    return list(places())


def service_names(*kinds: str) -> list[str]:
    """Names of the enabled services with an address: of these kinds, or all."""
    return [name for name, one in places().items() if one.pk and (not kinds or one.kind in kinds)]


def stores() -> dict[str, str]:
    """Addresses of database, channel layer and broker, by the setting that holds each."""
    reading = settings.ENVIRONMENT
    names = ("DATABASE_URL", "REDIS_URL", "CELERY_BROKER_URL")
    return {name: reading[name] for name in names if reading[name] and urlsplit(reading[name]).scheme in PORTS}


def _service_places(**which: Any) -> dict[str, Place]:
    rows = Service.objects.filter(enabled=True, **which).exclude(base_url="").order_by("name")
    found = rows.values_list("pk", "name", "kind", "base_url", "options")
    return {name: _service_place(pk, name, kind, url, options or {}) for pk, name, kind, url, options in found}


def _public_place() -> Place:
    return Place(PUBLIC, public_url(), role="self")


def _service_place(pk: int, name: str, kind: str, url: str, options: Mapping[str, Any]) -> Place:
    known = service_kind(kind)
    role = known.role if known is not None else ""
    if role == "backend" and "proxy" in options:
        return Place(name, url, str(options["proxy"] or ""), "option", kind, role, pk, options)
    proxy, variable = environment_proxy(url)
    return Place(name, url, proxy, variable, kind, role, pk, options)


def environment_proxy(url: str) -> tuple[str, str]:
    """(proxy, variable) that the environment names for an address; ("", "") when none or NO_PROXY covers it, or for loopback."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if not host or host == "localhost" or is_loopback(host) or urllib.request.proxy_bypass(host):
        return "", ""
    for scheme in (parts.scheme, "all"):
        for variable in (f"{scheme}_proxy", f"{scheme}_proxy".upper()):
            if os.environ.get(variable):
                value = os.environ[variable]
                return (value if "://" in value else f"http://{value}"), variable
    return "", ""


def is_loopback(host: str) -> bool:
    """127.0.0.0/8 and ::1."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_inside(host: str) -> bool:
    """Whether a host belongs to our own network by its looks: a private address, a bare name, a name that no one owns outside."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith(_NEAR_SUFFIXES)


def no_proxy() -> str:
    """The NO_PROXY that this installation needs: what is set now, loopback, and every host of our own network."""
    now = [one.strip() for one in (os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or "").split(",")]
    hosts = [one.host for one in places().values() if one.host and is_inside(one.host)]
    hosts += [urlsplit(url).hostname or "" for url in stores().values()]
    return ",".join(dict.fromkeys(one for one in [*now, "localhost", "127.0.0.1", *sorted(hosts)] if one))
