"""Which homeserver this is and what it can do: probed, kept with the service, never assumed.

Synapse and Tuwunel differ in how accounts are looked after (Synapse's admin API, Tuwunel's admin room), so nothing may be tried on
the strength of a name in a document. Kept in ``Service.capabilities["flavour"]``; see ``probe_flavour`` for its shape.
"""

from __future__ import annotations

from typing import Any

import httpx
from django.db import transaction
from django.utils import timezone

from agents.doctor.matrix.common import GONE, homeservers, opened, sender_of, service_named
from agents.doctor.matrix.look import ask, json_of, knows_account
from agents.matrix.errors import MatrixError
from agents.services.backends import Homeserver, homeserver_of
from ops.doctor.repairs import Change, Plan, RepairWork, register_repair
from ops.models import Service
from ops.registry import CheckOutcome, register_check
from ops.services import audit

WHY_NOT = {
    "admin_api": "It has no Synapse admin API. Accounts are looked after in its admin room instead (#admins).",
    "make_users": "It does not register users by a shared secret (/_synapse/admin/v1/register).",
    "sign_in": "It has no password login; people sign in through another service.",
    "sign_up": "It takes no registration tokens.",
    "spaces": "It is older than Matrix 1.2: clients may not show spaces.",
    "ping": "It is older than Matrix 1.7: it cannot be asked whether it reaches us.",
    "devices": "It does not take a device from an appservice: a message repeated after a crash of it may be shown twice.",
}


def probe_flavour(homeserver: Homeserver) -> dict[str, Any]:
    """What stands there: ``{name, version, base_url, room_version, can: {ability: bool}, probed_at}``. Creates nothing.

    Raises ``MatrixError`` when the homeserver does not answer at all.
    """
    client, url = homeserver.client, homeserver.service.base_url
    versions = client.versions()
    server = versions.get("server") if isinstance(versions.get("server"), dict) else {}
    assert isinstance(server, dict)
    name, version = str(server.get("name") or "").lower(), str(server.get("version") or "")
    admin = _json(url, "/_synapse/admin/v1/server_version")
    if isinstance(admin, dict) and isinstance(admin.get("server_version"), str):
        # Tuwunel serves the same endpoint from 1.8.1 on, and names itself in /versions.
        name, version = name or "synapse", version or admin["server_version"]
    if not name:
        name, version = _by_federation(url)
    named = [str(one) for one in versions.get("versions") or []]
    flows = _json(url, "/_matrix/client/v3/login")
    kinds = {
        str(flow.get("type"))
        for flow in (flows.get("flows") or [] if isinstance(flows, dict) else [])
        if isinstance(flow, dict)
    }
    secret = _json(url, "/_synapse/admin/v1/register")
    validity = _json(url, "/_matrix/client/v1/register/m.login.registration_token/validity?token=none")
    return {
        "name": (name or "unknown")[:50],
        "version": version.partition(" ")[0][:50],
        "base_url": url,
        "room_version": _room_version(homeserver),
        "can": {
            "appservice": True,
            "admin_api": _is_served(url, "/_synapse/admin/v2/users"),
            "make_users": isinstance(secret, dict) and isinstance(secret.get("nonce"), str),
            "sign_in": "m.login.password" in kinds,
            "sign_up": isinstance(validity, dict) and "valid" in validity,
            "spaces": _since(named, (1, 2)),
            "ping": _since(named, (1, 7)),
            "devices": "m.login.application_service" in kinds or _since(named, (1, 17)),
        },
        "probed_at": timezone.now().isoformat(timespec="seconds"),
    }


def unsupported(flavour: dict[str, Any]) -> dict[str, str]:
    """What the homeserver cannot do, with the reason in a sentence."""
    can = flavour.get("can")
    return {name: WHY_NOT[name] for name, yes in (can.items() if isinstance(can, dict) else ()) if not yes}


def stored_flavour(service: Service) -> dict[str, Any]:
    """What was kept, {} when nothing was."""
    found = service.capabilities.get("flavour")
    return dict(found) if isinstance(found, dict) else {}


def flavour_keep(*, service: Service, flavour: dict[str, Any] | None, actor: str, message: str = "") -> None:
    """Keep what was probed with the service (None: forget it). Audited when it says something else than before."""
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


@register_check(
    "matrix.hs_flavour",
    title="What the homeserver can do is known",
    tags=("matrix", "config"),
    interval=600,
    severity="warning",
    timeout=30,
    scope="service",
    targets=homeservers,
    # After it, since it writes what else is kept of the homeserver's capabilities.
    depends_on=("db.reachable", "homeserver.reachable"),
    repairs=("matrix.detect",),
)
def hs_flavour(target: str) -> CheckOutcome:
    """Red when the homeserver is another one, or can do something else, than what is kept of it.

    The first sight is kept at once (as a service test keeps the version); a new version of the same server is no failure. Amber
    when something is set up here that this homeserver does not serve.
    """
    service = service_named(target)
    if service is None:
        return GONE
    try:
        fresh = probe_flavour(homeserver_of(service))
    except MatrixError as error:
        return CheckOutcome("fail", error.sentence, {"errcode": error.code})
    kept = stored_flavour(service)
    if not kept or (not _differences(kept, fresh) and _place(kept) != _place(fresh)):
        flavour_keep(service=service, flavour=fresh, actor="system")
        kept = fresh
    differences = _differences(kept, fresh)
    cannot = unsupported(fresh)
    evidence = {
        "flavour": fresh["name"],
        "version": fresh["version"],
        "can": sorted(name for name, yes in fresh["can"].items() if yes),
        "cannot": cannot,
        "differences": differences,
    }
    if differences:
        return CheckOutcome(
            "fail",
            f"The homeserver is {_name(fresh)} now, but {_name(kept)} is what is known of it: {'; '.join(differences)}. What is done "
            "for users and passwords follows the known one and may fail. Detect it again.",
            evidence,
        )
    if (service.credentials or {}).get("registration_shared_secret") and "make_users" in cannot:
        return CheckOutcome(
            "warn",
            f"A registration shared secret is set, but {_name(fresh)} does not take it: {cannot['make_users']} "
            "People's accounts have to be made there by other means.",
            evidence,
        )
    rest = f" It cannot: {', '.join(sorted(cannot))}." if cannot else ""
    return CheckOutcome("pass", f"{_name(fresh)}.{rest}", evidence)


def _plan(work: RepairWork) -> Plan:
    homeserver = opened(work.target)
    kept, fresh = stored_flavour(homeserver.service), probe_flavour(homeserver)
    if kept and not _differences(kept, fresh):
        return Plan(f"What is known of it holds: {_name(fresh)}.")
    target = f"service:{homeserver.service.pk}"
    changes = [Change(target, "homeserver", _name(kept) if kept else None, _name(fresh))]
    before = kept.get("can") or {}
    changes += [
        Change(target, name, before.get(name), yes) for name, yes in fresh["can"].items() if before.get(name) != yes
    ]
    return Plan(f"Keep what the homeserver is: {_name(fresh)}.", tuple(changes), {"flavour": fresh}, {"flavour": kept})


def _apply(work: RepairWork) -> dict[str, Any]:
    homeserver = opened(work.target)
    flavour = work.plan.data["flavour"]
    flavour_keep(
        service=homeserver.service, flavour=flavour, actor=work.actor, message=f"The homeserver is {_name(flavour)}."
    )
    found = knows_account(homeserver.service.base_url, sender_of(homeserver.service))
    lookup = {True: "found", False: "not there", None: "it does not say"}[found]
    return {"flavour": _name(flavour), "cannot": unsupported(flavour), "lookup_of_our_account": lookup}


def _undo(work: RepairWork) -> None:
    homeserver = opened(work.target)
    flavour_keep(
        service=homeserver.service,
        flavour=work.snapshot.get("flavour") or None,
        actor=work.actor,
        message="What was known before is kept again.",
    )


register_repair(
    "matrix.detect",
    title="Detect the homeserver",
    repair_class="A",
    button="Detect again",
    explain="Asks the homeserver what it is and what it can do, and keeps that. Nothing on the homeserver changes.",
    plan=_plan,
    apply=_apply,
    undo=_undo,
    target_kinds=("service",),
)


def _differences(kept: dict[str, Any], fresh: dict[str, Any]) -> list[str]:
    if not kept:
        return []
    found = [] if kept.get("name") == fresh["name"] else [f"{kept.get('name')} → {fresh['name']}"]
    before = kept.get("can") if isinstance(kept.get("can"), dict) else {}
    assert isinstance(before, dict)
    for name, yes in fresh["can"].items():
        if before.get(name) is not None and bool(before[name]) != yes:
            found.append(f"{name}: {'no' if yes else 'yes'} → {'yes' if yes else 'no'}")
    return found


def _place(flavour: dict[str, Any]) -> tuple[Any, ...]:
    return flavour.get("version"), flavour.get("base_url"), flavour.get("room_version"), tuple(flavour.get("can") or ())


def _name(flavour: dict[str, Any]) -> str:
    return f"{str(flavour.get('name') or 'unknown').capitalize()} {flavour.get('version') or ''}".strip()


def _json(url: str, path: str) -> Any:
    try:
        return json_of(ask(url, path))
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError):
        return None


def _is_served(url: str, path: str) -> bool:
    """An endpoint that exists refuses those who are no administrator; one that does not is 404 (``M_UNRECOGNIZED``)."""
    try:
        answer = ask(url, path)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError):
        return False
    data = json_of(answer)
    return answer.status_code in (200, 401, 403) and isinstance(data, dict)


def _by_federation(url: str) -> tuple[str, str]:
    """Servers that name themselves nowhere else may do so to other servers (server-server API, "version")."""
    data = _json(url, "/_matrix/federation/v1/version")
    server = data.get("server") if isinstance(data, dict) else None
    if not isinstance(server, dict):
        return "", ""
    return str(server.get("name") or "").lower(), str(server.get("version") or "")


def _room_version(homeserver: Homeserver) -> str:
    try:
        versions = homeserver.client.capabilities().get("m.room_versions")
    except MatrixError:
        return ""
    default = versions.get("default") if isinstance(versions, dict) else None
    return default if isinstance(default, str) else ""


def _since(named: list[str], least: tuple[int, int]) -> bool:
    """Whether one of the versions that the server names (``v1.11``) is at least this one."""
    for one in named:
        major, _, minor = one.removeprefix("v").partition(".")
        if one.startswith("v") and major.isdigit() and minor.isdigit() and (int(major), int(minor)) >= least:
            return True
    return False
