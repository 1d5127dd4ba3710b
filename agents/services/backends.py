"""From ``Service`` rows to backends and the homeserver's client."""

from __future__ import annotations

from dataclasses import dataclass

from agents.backends.base import Backend, ServiceSpec
from agents.backends.registry import BACKENDS, open_backend
from agents.matrix.client import AppserviceClient
from agents.matrix.clients import get_client
from agents.models import Agent
from ops.models import Service

HOMESERVER_KIND = "homeserver"


class NoHomeserver(Exception):
    """No homeserver is set up, or it is switched off."""

    sentence = "No homeserver is set up. Set MATRIX_HOMESERVER_URL, or add a service of the kind homeserver."


def backend_services() -> list[Service]:
    """The enabled services on which agents live, in a stable order."""
    return list(Service.objects.filter(enabled=True, kind__in=list(BACKENDS)).order_by("pk"))


def spec_of(service: Service) -> ServiceSpec:
    """The plain values that a backend is opened with; agents that are defined here travel in the options."""
    options = dict(service.options)
    if BACKENDS[service.kind].traits.defined_here:
        options["agents"] = [
            {"id": row[0], "name": row[1], "description": row[2], **row[3]}
            for row in Agent.objects.filter(service=service)
            .exclude(definition={})
            .order_by("pk")
            .values_list("external_id", "name", "description", "definition")
        ]
    return ServiceSpec(
        name=service.name,
        kind=service.kind,
        base_url=service.base_url,
        credentials={key: str(value) for key, value in (service.credentials or {}).items()},
        options=options,
    )


def backend_for(service: Service) -> Backend:
    """The (shared) backend of a service."""
    return open_backend(spec_of(service))


@dataclass(frozen=True, slots=True)
class Homeserver:
    """The homeserver's row, its name and a client that speaks as the appservice."""

    service: Service
    server_name: str
    client: AppserviceClient

    @property
    def sender_id(self) -> str:
        """Switchboard's own account, which holds the space."""
        return self.client.sender

    @property
    def sender_localpart(self) -> str:
        return self.client.sender[1:].partition(":")[0]


def user_prefix(homeserver: Homeserver) -> str:
    """What the names of agents' accounts and rooms start with on this homeserver."""
    from django.conf import settings

    return str(homeserver.service.options.get("user_prefix") or settings.MATRIX_USER_PREFIX)


def homeserver_service() -> Service | None:
    """The enabled homeserver, or ``None``."""
    return Service.objects.filter(enabled=True, kind=HOMESERVER_KIND).order_by("pk").first()


def open_homeserver() -> Homeserver:
    """The homeserver, ready to be asked. Its name is asked for once and kept with its capabilities.

    Raises ``NoHomeserver``, or ``MatrixError`` when the name has to be asked for and the homeserver does not answer.
    """
    service = homeserver_service()
    if service is None:
        raise NoHomeserver(NoHomeserver.sentence)
    return homeserver_of(service)


def homeserver_of(service: Service) -> Homeserver:
    """As ``open_homeserver``, for a row at hand."""
    from django.conf import settings

    sender = service.options.get("sender_localpart") or settings.MATRIX_SENDER_LOCALPART
    token = (service.credentials or {}).get("as_token") or settings.MATRIX_AS_TOKEN
    name = service.options.get("server_name") or service.capabilities.get("server_name") or ""
    if not name:
        name = get_client(service.base_url, token, "", sender).whoami().partition(":")[2]
        service.capabilities = {**service.capabilities, "server_name": name}
        Service.objects.filter(pk=service.pk).update(capabilities=service.capabilities)
    return Homeserver(service, name, get_client(service.base_url, token, name, sender))
