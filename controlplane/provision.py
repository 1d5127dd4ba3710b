"""Turns the environment into ``Service`` rows. Idempotent: nothing is written when nothing changed.

Called by ``up``, by every worker when it starts, and by ``manage.py provision``. What other code needs to know about a server
stands in its row afterwards, so processes with another environment but the same database agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from django.conf import settings
from django.core.exceptions import ValidationError

from agents.backends.registry import BACKENDS
from agents.models import Agent
from agents.services.backends import HOMESERVER_KIND
from controlplane.homeserver import paths
from ops.models import ManagedBy, Service
from ops.secrets import SecretUnreadable
from ops.services.services import service_ensure_from_environment, service_save

ACTOR = "environment"
# In the options of a service that the environment, not an operator, switched off: only such a one is switched on again.
OFF_MARK = "switched_off_by_environment"
HomeserverChoice = Literal["auto", "off"]


@dataclass(slots=True)
class Provisioned:
    """What became of it. ``changed`` names the services that were written; ``notes`` are sentences for an operator;
    ``problems`` are values that could not be used."""

    services: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def provision(*, homeserver: HomeserverChoice = "auto") -> Provisioned:
    """Make the services that the environment describes exist.

    ``homeserver``: ``auto`` takes ``MATRIX_HOMESERVER_URL``, or else the local homeserver when this data directory has one;
    ``off`` switches the local one's row off (``up --no-homeserver``). A value that cannot be used is reported in ``problems``
    and leaves the row as it was.
    """
    result = Provisioned()
    before = dict(Service.objects.values_list("name", "updated_at"))
    _homeserver(result, homeserver)
    _backends(result)
    _demo(result)
    after = dict(Service.objects.values_list("name", "updated_at"))
    result.changed = sorted(name for name, at in after.items() if before.get(name) != at)
    return result


def _ensure(result: Provisioned, name: str, kind: str, **fields: Any) -> Service | None:
    """As ``service_ensure_from_environment``, but a service that the environment had switched off comes back."""
    known = Service.objects.filter(name=name).first()
    if known is not None and known.managed_by == ManagedBy.ENVIRONMENT:
        # What has no variable was set by an operator, or by a repair (another model in place of a failing one): it stays.
        fields["options"] = {**_kept(known.options), **fields.get("options", {})}
        fields["credentials"] = {**_kept(_credentials(known)), **fields.get("credentials", {})}
    try:
        if known is not None and known.managed_by == ManagedBy.ENVIRONMENT and OFF_MARK in (known.options or {}):
            service = service_save(
                actor=ACTOR, name=name, kind=kind, enabled=True, managed_by=ManagedBy.ENVIRONMENT, **_full(fields)
            )
        else:
            service = service_ensure_from_environment(name=name, kind=kind, **fields)
    except ValidationError as error:
        result.problems.append(f"Service {name}: {' '.join(error.messages)} It stays as it was.")
        return None
    if service.managed_by == ManagedBy.OPERATOR:
        result.notes.append(f"Service {name} is managed by an operator; the environment's values are not used for it.")
    result.services.append(name)
    return service


# What can be told about a server in the admin only.
_NO_VARIABLE = frozenset(
    {
        *("fallback_model", "instead", "provider_url", "other_addresses", "package_path"),
        *("provider_key", "database_url"),
        # Who administers a homeserver, and the session that was opened for it.
        *("admin_token", "admin_user", "admin_password", "admin_session", "admin_url", "registration_token"),
    }
)


def _kept(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name in _NO_VARIABLE}


def _credentials(service: Service) -> dict[str, Any]:
    try:
        return dict(service.credentials or {})
    except SecretUnreadable:
        return {}


def _full(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {"base_url": "", "credentials": {}, "options": {}, **fields}


def _switch_off(name: str) -> None:
    """Switch off a service that the environment manages; an operator's stays on."""
    known = Service.objects.filter(name=name, managed_by=ManagedBy.ENVIRONMENT, enabled=True).first()
    if known is not None:
        service_save(
            actor=ACTOR,
            name=known.name,
            kind=known.kind,
            base_url=known.base_url,
            options={**known.options, OFF_MARK: True},
            enabled=False,
            managed_by=ManagedBy.ENVIRONMENT,
        )


def _homeserver(result: Provisioned, choice: HomeserverChoice) -> None:
    name = "homeserver"
    credentials = {"as_token": settings.MATRIX_AS_TOKEN, "hs_token": settings.MATRIX_HS_TOKEN}
    options: dict[str, Any] = {
        "mode": settings.MATRIX_MODE,
        "sender_localpart": settings.MATRIX_SENDER_LOCALPART,
        "user_prefix": settings.MATRIX_USER_PREFIX,
        "appservice_id": settings.MATRIX_APPSERVICE_ID,
        "space_name": settings.MATRIX_SPACE_NAME,
        "rooms": settings.MATRIX_ROOMS,
    }
    local = paths.known_local()
    url = settings.MATRIX_HOMESERVER_URL
    if url:
        if settings.MATRIX_REGISTRATION_SHARED_SECRET:
            credentials["registration_shared_secret"] = settings.MATRIX_REGISTRATION_SHARED_SECRET
        credentials |= _given(
            registration_token=settings.MATRIX_REGISTRATION_TOKEN,
            admin_user=settings.MATRIX_ADMIN_USERNAME,
            admin_password=settings.MATRIX_ADMIN_PASSWORD,
            admin_token=settings.MATRIX_ADMIN_TOKEN,
        )
        if settings.MATRIX_SERVER_NAME:
            options["server_name"] = settings.MATRIX_SERVER_NAME
        if settings.MATRIX_MODE == "client":
            _as_client(credentials, options)
        known = Service.objects.filter(name=name).first()
        if known is not None and known.options.get("local"):
            result.notes.append(
                f"Agents move from the local homeserver to {url}: they get new accounts and rooms there."
            )
    elif local is not None:
        if choice == "off":
            _switch_off(name)
            return
        url = local.url
        credentials["registration_shared_secret"] = paths.shared_secret(local)
        options |= {"mode": "appservice", "server_name": local.server_name, "local": True}
        if settings.MATRIX_MODE == "client":
            result.notes.append(
                "MATRIX_MODE=client is for a homeserver of somebody else (MATRIX_HOMESERVER_URL); the local one knows Switchboard as "
                "an appservice."
            )
    else:
        return
    _ensure(result, name, HOMESERVER_KIND, base_url=url, credentials=credentials, options=options)


def _as_client(credentials: dict[str, Any], options: dict[str, Any]) -> None:
    """Who Switchboard itself is where there is no appservice."""
    credentials |= _given(password=settings.MATRIX_PASSWORD, access_token=settings.MATRIX_ACCESS_TOKEN)
    localpart, _, server = settings.MATRIX_USERNAME.removeprefix("@").partition(":")
    if localpart:
        options["sender_localpart"] = localpart
    if server:
        options.setdefault("server_name", server)


def _backends(result: Provisioned) -> None:
    env = settings.ENVIRONMENT
    if env["LETTA_BASE_URL"]:
        _ensure(result, "letta", "letta", base_url=env["LETTA_BASE_URL"], credentials=_given(token=env["LETTA_TOKEN"]))
    address, models = env["OPENAI_BASE_URL"], env["OPENAI_MODELS"]
    if address or (env["OPENAI_API_KEY"] and models):
        _ensure(
            result,
            "openai",
            "openai",
            base_url=address or "https://api.openai.com/v1",
            credentials=_given(api_key=env["OPENAI_API_KEY"]),
            options=_given(models=models),
        )
    elif env["OPENAI_API_KEY"]:
        result.notes.append(
            "OPENAI_API_KEY is set, but every model of that server would become an agent. "
            "Name those you want in OPENAI_MODELS (for example gpt-5*), or an address in OPENAI_BASE_URL."
        )
    if env["ANTHROPIC_API_KEY"]:
        _ensure(
            result,
            "anthropic",
            "anthropic",
            base_url=env["ANTHROPIC_BASE_URL"],
            credentials={"api_key": env["ANTHROPIC_API_KEY"]},
            options=_given(model=env["ANTHROPIC_MODEL"]),
        )


def _demo(result: Provisioned) -> None:
    wanted = settings.ENVIRONMENT["DEMO_AGENTS"]
    if wanted == "true" or (wanted == "auto" and not _agents_elsewhere()):
        known = Service.objects.filter(name="demo").first()
        options = {"state_dir": str(settings.DATA_DIR / "demo")}
        if known is not None and known.managed_by == ManagedBy.ENVIRONMENT:
            # "speed" and "count" have no variable: what was set in the admin stays.
            options |= {key: known.options[key] for key in ("speed", "count") if key in known.options}
        _ensure(result, "demo", "demo", options=options)
    else:
        _switch_off("demo")


def _agents_elsewhere() -> bool:
    """Whether another backend has agents, or will list them. One whose agents are defined here and that has none, has none."""
    for service in Service.objects.filter(kind__in=[kind for kind in BACKENDS if kind != "demo"], enabled=True):
        if not BACKENDS[service.kind].traits.defined_here:
            return True
        if Agent.objects.filter(service=service).exclude(definition={}).exists():
            return True
    return False


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in ("", [], None)}
