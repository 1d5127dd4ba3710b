"""Parts of the installation, and which adapter can start them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from django.conf import settings

from ops.models import Process, Service
from ops.models.process import ProcessRole

Verb = Literal["start", "restart"]
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9:_.@\\-]{0,200}\Z")


class AdapterError(Exception):
    """The start or restart did not happen. The text says what the manager answered, and what to do."""


@dataclass(frozen=True, slots=True)
class Part:
    """One thing that can be down: a role of our own processes, or an outside service.

    ``target`` is ``role:worker`` or ``service:3``; ``service`` is None for a role.
    """

    target: str
    label: str
    role: str = ""
    service: Service | None = None


class Adapter(Protocol):
    """How a kind of manager is spoken to.

    ``supervises``: when a process ends it starts the next by itself. ``why_not`` says in a sentence why it cannot start the part
    ("" when it can), ``command`` what a person would type. ``start`` and ``restart`` return once the order was taken, which
    does not mean that the part is ready; both raise ``AdapterError``.
    """

    name: str
    supervises: bool

    def why_not(self, part: Part) -> str: ...

    def command(self, part: Part, verb: Verb) -> str: ...

    def start(self, part: Part) -> None: ...

    def restart(self, part: Part) -> None: ...


_claims: list[tuple[Callable[[Part], bool], Adapter]] = []


def register_adapter(adapter: Adapter, claims: Callable[[Part], bool]) -> None:
    """Have ``adapter`` answer for every part for which ``claims`` is true, before any other."""
    if not any(known.name == adapter.name for _, known in _claims):
        _claims.append((claims, adapter))


def adapter_for(part: Part) -> Adapter:
    """The adapter that answers for the part; the one that only shows commands when there is no other."""
    from ops.adapters.docker import Docker
    from ops.adapters.local import Local
    from ops.adapters.none import Nobody
    from ops.adapters.systemd import Systemd

    for claims, adapter in _claims:
        if claims(part):
            return adapter
    manager = settings.PROCESS_MANAGER
    if part.service is not None:
        options = part.service.options or {}
        if options.get("unit") and manager == "systemd":
            return Systemd()
        if options.get("container") and manager == "docker":
            return Docker()
        return Nobody()
    found: dict[str, Callable[[], Adapter]] = {"systemd": Systemd, "docker": Docker, "local": Local}
    return found.get(manager, Nobody)()


def unit_of(part: Part, option: str, defaults: dict[str, str]) -> str:
    """The name that the manager knows the part by: from the service's ``option``, PROCESS_UNITS, or the files that we ship.

    Raises ``AdapterError`` for a name that cannot be one: it goes into a command.
    """
    if part.service is not None:
        name = str((part.service.options or {}).get(option) or "")
    else:
        given = dict(one.split("=", 1) for one in settings.PROCESS_UNITS if "=" in one)
        name = given.get(part.role, "").strip() or defaults.get(part.role, "")
    if name and not _NAME.match(name):
        raise AdapterError(
            f"{name!r} is not the name of a unit or container. Correct it in PROCESS_UNITS or the service."
        )
    return name


def role_part(role: str) -> Part:
    """Our own processes of a role."""
    from ops.processes.queries import ROLE_WORDS

    return Part(f"role:{role}", f"the {ROLE_WORDS.get(role, role)}", role=role)


def service_part(service: Service) -> Part:
    """An outside service."""
    return Part(f"service:{service.pk}", f"the service {service.name}", service=service)


def part_of(target: str) -> Part:
    """The part behind ``role:worker``, ``process:<name>``, ``service:<id>`` or a service's name. Raises ``ValueError``."""
    kind, _, key = target.partition(":")
    if kind == "role" and key in ProcessRole.values:
        return role_part(key)
    if kind == "process" and key:
        row = Process.objects.filter(pk=key).only("role").first()
        if row is not None:
            return role_part(row.role)
    service = None
    if kind == "service" and key.isdigit():
        service = Service.objects.filter(pk=int(key)).first()
    elif target:
        service = Service.objects.filter(name=key if kind == "service" and key else target).first()
    if service is None:
        raise ValueError(f"{target!r} is no part that can be restarted: name a role (role:worker) or a service.")
    return service_part(service)
