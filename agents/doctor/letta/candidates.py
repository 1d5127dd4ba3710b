"""Who answers where: the places at which a Letta server may be reached, and what each of them speaks.

Three protocols go by the name of Letta: the V1 REST server (8283, or 8289 in newer deployments), a proxy that lists agents as if
they were OpenAI's models (1416), and the App Server's WebSocket. They are told apart by what they say, never by their port.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx

from agents.backends.base import ServiceSpec
from agents.backends.errors import BackendError
from agents.backends.http import proxy_for, tls_context
from agents.backends.letta import LettaBackend
from agents.backends.redact import plain_url
from agents.services.backends import spec_of
from ops.models import Service
from ops.words import counted

PORTS = (8283, 8289, 1416)
MOST_CANDIDATES = 12
_TIMEOUT = httpx.Timeout(4.0, connect=1.5)

Protocol = Literal["v1", "openai", "app_server", "other", "none"]

WORDS: dict[str, str] = {
    "v1": "Letta V1 REST",
    "openai": "an OpenAI-style list",
    "app_server": "a Letta App Server",
    "other": "something else",
    "none": "nothing",
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """What answers at one address. ``count`` is the number of agents it lists, None when it does not say."""

    address: str
    protocol: Protocol
    version: str = ""
    count: int | None = None
    detail: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON shape: ``{address, protocol, version, count, detail}``."""
        return {
            "address": self.address,
            "protocol": self.protocol,
            "version": self.version,
            "count": self.count,
            "detail": self.detail,
        }


def addresses_of(service: Service) -> list[str]:
    """The configured address first, then the usual ports of the same host, then those that an operator named.

    Addresses of other services are left out: they are right where they are.
    """
    own = service.base_url.rstrip("/").removesuffix("/v1")
    parts = urlsplit(own)
    found = [own]
    if parts.hostname:
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        found += [f"{parts.scheme}://{host}:{port}" for port in PORTS]
    named = service.options.get("other_addresses") or []
    if isinstance(named, str):
        named = named.split(",")
    found += [str(one).strip().rstrip("/").removesuffix("/v1") for one in named if str(one).strip()]
    taken = {url.rstrip("/") for url in Service.objects.exclude(pk=service.pk).values_list("base_url", flat=True)}
    usable = [one for one in dict.fromkeys(found) if one == own or one not in taken]
    return usable[:MOST_CANDIDATES]


def look_around(service: Service) -> list[Candidate]:
    """Ask all addresses side by side; at most a few small GET requests each. In the order of ``addresses_of``."""
    spec = spec_of(service)
    addresses = addresses_of(service)
    with ThreadPoolExecutor(max_workers=len(addresses), thread_name_prefix="candidates") as pool:
        return list(pool.map(lambda address: look_at(address, spec), addresses))


def look_at(address: str, spec: ServiceSpec) -> Candidate:
    """What answers at this address. The password goes only to what has shown itself to be a Letta V1 server."""
    shown = plain_url(address)
    try:
        with _client(address, spec) as client:
            health = _json(client, "/v1/health/")
            if isinstance(health, dict) and "version" in health and "status" in health:
                return _v1(address, spec, str(health["version"]))
            info = _json(client, "/app-server-info")
            if isinstance(info, dict) and ("app_server" in str(info.get("type", "")) or "protocol_version" in info):
                return Candidate(
                    shown, "app_server", detail="A Letta App Server (Letta Code), which speaks another protocol."
                )
            models = _json(client, "/v1/models")
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, UnicodeError) as error:
        return Candidate(shown, "none", detail=f"No answer ({type(error).__name__}).")
    rows = models.get("data") if isinstance(models, dict) else None
    if isinstance(rows, list):
        agents = [row for row in rows if isinstance(row, dict) and str(row.get("id", "")).startswith("agent-")]
        return Candidate(
            shown, "openai", count=len(agents), detail=f"Lists {counted(len(agents), 'agent')} in OpenAI's style."
        )
    return Candidate(shown, "other", detail="A web server answers, but not Letta.")


def _v1(address: str, spec: ServiceSpec, version: str) -> Candidate:
    shown = plain_url(address)
    backend = LettaBackend(ServiceSpec(spec.name, "letta", address, spec.credentials, spec.options))
    try:
        count = backend.server.json("GET", "/v1/agents/count", read_seconds=4.0)
    except BackendError as error:
        return Candidate(shown, "v1", version, None, error.reason)
    finally:
        backend.close()
    return Candidate(
        shown, "v1", version, count if isinstance(count, int) else None, "Answers and accepts our password."
    )


def _client(address: str, spec: ServiceSpec) -> httpx.Client:
    return httpx.Client(
        base_url=address,
        timeout=_TIMEOUT,
        verify=tls_context(),
        proxy=proxy_for(address, spec.options),
        trust_env=False,
    )


def _json(client: httpx.Client, path: str) -> Any:
    """The decoded answer, None for one that is no success or no JSON. Raises ``httpx.HTTPError`` without an answer."""
    answer = client.get(path)
    if answer.status_code != 200 or len(answer.content) > 4 << 20:
        return None
    try:
        return answer.json()
    except ValueError:
        return None
