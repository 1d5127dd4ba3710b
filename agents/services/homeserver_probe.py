"""What a homeserver is and can do, kept with its service: probed once, and again when somebody asks or a check finds it changed.

Kept in ``Service.capabilities["flavour"]``; see ``agents.matrix.probe.probe`` for its shape.
"""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.utils.dateparse import parse_datetime

from agents.matrix.probe import Admin, probe
from agents.services.backends import Homeserver
from agents.services.homeserver_access import NoAdministrator, administrator_of, has_administrator
from ops.models import Service
from ops.services import audit


def admin_url_of(service: Service) -> str:
    """Where the homeserver's admin API is: its address, unless a proxy hides that part there."""
    return str(service.options.get("admin_url") or service.base_url).rstrip("/")


def homeserver_probe(homeserver: Homeserver) -> dict[str, Any]:
    """What stands there now. Keeps nothing, creates nothing. Raises ``MatrixError`` when it does not answer at all."""
    service = homeserver.service
    return probe(
        homeserver.client,
        credentials=dict(service.credentials or {}),
        admin_url=admin_url_of(service),
        client_mode=bool(getattr(homeserver, "client_mode", False)),
        administrator=(lambda: _administrator(service)) if service.pk and has_administrator(service) else None,
    )


def _administrator(service: Service) -> Admin:
    try:
        found = administrator_of(service)
    except NoAdministrator as error:
        return "", "", error.sentence
    return found.token, found.user_id, ""


def stored_flavour(service: Service) -> dict[str, Any]:
    """What was kept, {} when nothing was."""
    found = service.capabilities.get("flavour")
    return dict(found) if isinstance(found, dict) else {}


def flavour_keep(*, service: Service, flavour: dict[str, Any] | None, actor: str, message: str = "") -> None:
    """Keep what was probed with the service (None: forget it). Audited when a message says what for."""
    with transaction.atomic():
        row = Service.objects.select_for_update().get(pk=service.pk)
        before = stored_flavour(row)
        capabilities = {key: value for key, value in row.capabilities.items() if key != "flavour"}
        row.capabilities = {**capabilities, "flavour": flavour} if flavour else capabilities
        # Not a change of the configuration: ``updated_at`` stays.
        Service.objects.filter(pk=row.pk).update(capabilities=row.capabilities)
        if message:
            audit.record(
                actor=actor,
                action="homeserver.detected",
                target=row,
                message=message,
                before=before,
                after=flavour or {},
            )
    service.capabilities = row.capabilities


def homeserver_detect(*, homeserver: Homeserver, actor: str) -> dict[str, Any]:
    """Probe the homeserver and keep what was found. Audited when it is another one, or can do something else, than was known.

    Raises ``MatrixError`` when it does not answer.
    """
    fresh = homeserver_probe(homeserver)
    kept = stored_flavour(homeserver.service)
    changed = not kept or bool(differences(kept, fresh))
    flavour_keep(
        service=homeserver.service,
        flavour=fresh,
        actor=actor,
        message=f"The homeserver is {label(fresh)}." if changed else "",
    )
    return fresh


def known_flavour(homeserver: Homeserver) -> dict[str, Any]:
    """What is kept of the homeserver; probed and kept now when nothing is, or when its service was changed since.

    Raises ``MatrixError`` when it has to be probed and does not answer.
    """
    kept = stored_flavour(homeserver.service)
    return kept if is_current(homeserver.service, kept) else homeserver_detect(homeserver=homeserver, actor="system")


def is_current(service: Service, flavour: dict[str, Any]) -> bool:
    """Whether what is kept was found out with the address and the credentials that the service has now."""
    probed = parse_datetime(str(flavour.get("probed_at") or ""))
    return "auth" in flavour and probed is not None and probed >= service.updated_at


def flavour_after_test(service: Service, fresh: dict[str, Any]) -> dict[str, Any]:
    """What to keep after a test: what it found, unless that is another server or another ability, which its check has to say."""
    kept = stored_flavour(service)
    return kept if differences(kept, fresh) else fresh


def differences(kept: dict[str, Any], fresh: dict[str, Any]) -> list[str]:
    """What is another server, or another ability, in words; [] when nothing is kept."""
    if not kept:
        return []
    found = [] if kept.get("name") == fresh["name"] else [f"{kept.get('name')} → {fresh['name']}"]
    before = kept.get("can") if isinstance(kept.get("can"), dict) else {}
    assert isinstance(before, dict)
    for name, yes in fresh["can"].items():
        if before.get(name) is not None and bool(before[name]) != yes:
            found.append(f"{name}: {'no' if yes else 'yes'} → {'yes' if yes else 'no'}")
    return found


def label(flavour: dict[str, Any]) -> str:
    """``Synapse 1.163.2``."""
    return f"{str(flavour.get('name') or 'unknown').capitalize()} {flavour.get('version') or ''}".strip()
