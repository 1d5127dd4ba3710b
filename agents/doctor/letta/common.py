"""What the checks of backends and model providers share: which services they look at, and how a key is shown."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from agents.backends.base import ServiceSpec
from agents.backends.errors import BackendError, BackendNoCredit
from agents.backends.http import HttpServer
from agents.models import Agent
from ops.doctor.repairs import RepairRefused
from ops.models import Service

PROVIDER_KINDS = ("openai", "anthropic")
KEY_NAMES = ("api_key", "token", "password")
QUICK_SECONDS = 8.0
ADDRESSES = {"openai": "https://api.openai.com/v1", "anthropic": "https://api.anthropic.com"}
# Shorter keys are shown not at all: what is left would be easy to guess.
SHORTEST_SHOWN = 20


def letta_targets() -> list[str]:
    """Names of the enabled Letta services."""
    return _names("letta")


def provider_targets() -> list[str]:
    """Names of the enabled services that are model providers themselves."""
    return _names(*PROVIDER_KINDS)


def _names(*kinds: str) -> list[str]:
    rows = Service.objects.filter(enabled=True, kind__in=kinds).order_by("name")
    return list(rows.values_list("name", flat=True))


def named(target: str) -> Service | None:
    """The enabled service that a check is asked about; None when it was removed or switched off meanwhile."""
    return Service.objects.filter(name=target, enabled=True).first()


def service_at(target: str) -> Service:
    """The service that a repair is aimed at: by name, as ``service:<name or key>``, or through ``agent:<key>``.

    Raises ``RepairRefused`` when there is none.
    """
    kind, _, key = target.rpartition(":")
    found: Service | None = None
    if kind == "agent" and key.isdigit():
        agent = Agent.objects.select_related("service").filter(pk=key).first()
        found = agent.service if agent is not None else None
    elif kind in ("", "service"):
        found = Service.objects.filter(name=key).first()
        if found is None and key.isdigit():
            found = Service.objects.filter(pk=key).first()
    if found is None:
        raise RepairRefused(f"Say which service is meant: there is none called {target!r}.")
    return found


def key_of(service: Service) -> str:
    """The provider's key as it is stored, "" when there is none. Never show it; see ``shown``."""
    credentials = service.credentials or {}
    return next((str(credentials[name]) for name in KEY_NAMES if credentials.get(name)), "")


def shown(key: str) -> str:
    """Enough of a key to tell it from another one, and no more: ``sk-a…cdef``."""
    return f"{key[:4]}…{key[-4:]}" if len(key) >= SHORTEST_SHOWN else "(short)"


@dataclass(frozen=True, slots=True)
class ProviderAnswer:
    """What a provider said to a request for its models. ``code``: ok, refused, forbidden, no_credit, limited, unreachable, odd."""

    code: str
    sentence: str
    models: tuple[str, ...] = ()


def ask_provider(kind: str, base_url: str, key: str, *, name: str = "provider") -> ProviderAnswer:
    """``GET /v1/models`` of a provider with this key ("" for none): it costs nothing and needs the key. One request."""
    address = base_url.strip().rstrip("/") or ADDRESSES[kind]
    headers: dict[str, str] = {}
    if kind == "anthropic":
        headers["anthropic-version"] = "2023-06-01"
        if key:
            headers["x-api-key"] = key
    elif key:
        headers["Authorization"] = f"Bearer {key}"
    # People give the address with or without "/v1".
    path = "/models" if urlsplit(address).path.rstrip("/").rpartition("/")[2].startswith("v") else "/v1/models"
    try:
        server = HttpServer(ServiceSpec(name, kind, address, {"api_key": key}), headers)
    except BackendError as error:
        return ProviderAnswer("odd", error.reason)
    try:
        answer = server.json("GET", path, read_seconds=QUICK_SECONDS)
    except BackendNoCredit as error:
        return ProviderAnswer("no_credit", error.reason)
    except BackendError as error:
        codes = {401: "refused", 403: "forbidden", 429: "limited"}
        return ProviderAnswer(codes.get(error.status or 0, "odd" if error.status else "unreachable"), error.reason)
    finally:
        server.close()
    rows = answer.get("data") if isinstance(answer, dict) else answer
    ids = [str(row.get("id") or row.get("handle") or "") for row in rows or [] if isinstance(row, dict)]
    return ProviderAnswer("ok", f"{server.address} accepts the key.", tuple(filter(None, ids)))
