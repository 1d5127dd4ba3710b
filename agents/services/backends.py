"""From ``Service`` rows to backends and the homeserver's client."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from agents.backends.base import Backend, ServiceSpec
from agents.backends.registry import BACKENDS, open_backend
from agents.matrix.client import AppserviceClient
from agents.matrix.clients import get_client
from agents.models import Agent
from agents.services.session_keeper import keeper_of
from agents.services.session_opening import ask_server_name
from ops.models import Service

HOMESERVER_KIND = "homeserver"
Mode = Literal["appservice", "client"]


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
    """The homeserver's row, its name and a client that speaks as our accounts: as the appservice, or with their own sessions."""

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

    @property
    def mode(self) -> Mode:
        """``appservice``: the homeserver knows us as one and sends us events; ``client``: accounts have sessions, and we sync."""
        return mode_of(self.service)

    @property
    def client_mode(self) -> bool:
        return self.mode == "client"


def mode_of(service: Service) -> Mode:
    """How we speak to a homeserver, as its row says, or else the settings."""
    from django.conf import settings

    return "client" if (service.options.get("mode") or settings.MATRIX_MODE) == "client" else "appservice"


def user_prefix(homeserver: Homeserver) -> str:
    """What the names of agents' accounts and rooms start with on this homeserver."""
    return prefix_of(homeserver.service)


def prefix_of(service: Service) -> str:
    """As ``user_prefix``, for a row at hand."""
    from django.conf import settings

    return str(service.options.get("user_prefix") or settings.MATRIX_USER_PREFIX)


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

    client_mode = mode_of(service) == "client"
    sender = sender_localpart_of(service)
    # In client mode no request may fall back on an appservice's token that the homeserver does not know.
    token = "" if client_mode else (service.credentials or {}).get("as_token") or settings.MATRIX_AS_TOKEN
    name = service.options.get("server_name") or service.capabilities.get("server_name") or ""
    if not name:
        if client_mode:
            name = ask_server_name(service)
        else:
            name = get_client(service.base_url, token, "", sender).whoami().partition(":")[2]
        service.capabilities = {**service.capabilities, "server_name": name}
        Service.objects.filter(pk=service.pk).update(capabilities=service.capabilities)
    sender_id = f"@{sender}:{name}"
    keeper = keeper_of(service, client_mode=client_mode, sender_id=sender_id, prefix=prefix_of(service))
    homeserver = Homeserver(service, name, get_client(service.base_url, token, name, sender, keeper))
    if client_mode and homeserver.client.before_send is None:
        from agents.services.encryption import encrypting

        homeserver.client.before_send = encrypting(homeserver)
    return homeserver


def sender_localpart_of(service: Service) -> str:
    """The name of Switchboard's own account on this homeserver."""
    from django.conf import settings

    return str(service.options.get("sender_localpart") or settings.MATRIX_SENDER_LOCALPART)
