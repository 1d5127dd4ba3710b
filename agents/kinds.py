"""The kinds of services that agents and rooms live on, with the test behind "Test connection"."""

from __future__ import annotations

import time

from agents.backends.errors import BackendError
from agents.backends.registry import BACKENDS
from agents.matrix.errors import MatrixError
from agents.matrix.session_calls import SessionCalls
from agents.services.backends import HOMESERVER_KIND, backend_for, homeserver_of, mode_of
from agents.services.client_mode import CLIENT_MODE_CANNOT
from agents.services.homeserver_probe import flavour_after_test, homeserver_probe
from ops.models import Service
from ops.registry import ServiceField, TestResult, register_service_kind

_KEY = ServiceField("api_key", "Key or token", "Sent as a bearer token.", secret=True)

_FALLBACK = ServiceField(
    "fallback_model", "Fallback model", "What agents go on with when their provider is slow, limited or out of credit."
)

_FIELDS: dict[str, tuple[ServiceField, ...]] = {
    "letta": (
        ServiceField("token", "Password or token", "Empty when the server asks for none.", secret=True),
        _FALLBACK,
        ServiceField(
            "database_url",
            "Database address",
            "Letta's own LETTA_PG_URI, so that its database can be checked.",
            secret=True,
        ),
        ServiceField(
            "provider_key",
            "Provider key",
            "The key that Letta should have: tells a bad key from one that Letta has not got.",
            secret=True,
        ),
        ServiceField("provider_url", "Provider address", "OpenAI's own when empty."),
        ServiceField("other_addresses", "Other addresses", "Where this Letta may be reached as well.", kind="list"),
        ServiceField(
            "package_path", "Installed at", "Folder of Letta's Python environment; found by itself where it can be."
        ),
    ),
    "openai": (
        _KEY,
        ServiceField("models", "Models", "Names or globs; all when empty.", kind="list"),
        _FALLBACK,
        ServiceField("system_prompt", "System prompt", "Sent before every conversation."),
    ),
    "anthropic": (_KEY, ServiceField("model", "Model", "Of agents that name none."), _FALLBACK),
    "demo": (ServiceField("speed", "Words a second", "0: all at once.", kind="number"),),
}


def test_backend(service: Service) -> TestResult:
    """Address, credentials and version of a server on which agents live."""
    try:
        health = backend_for(service).health()
    except BackendError as error:
        return TestResult("down", error.reason)
    return TestResult(
        "ok" if health.ok else "down",
        health.detail,
        version=health.version,
        capabilities=health.capabilities or None,
        latency_ms=round(health.latency_ms),
    )


def test_homeserver(service: Service) -> TestResult:
    """Does it answer, does it accept our token, and does it reach us? In client mode: does our own session hold?"""
    from django.conf import settings

    if mode_of(service) == "client":
        return test_client_mode(service)
    started = time.monotonic()
    try:
        homeserver = homeserver_of(service)
        versions = homeserver.client.versions()
        latency = round((time.monotonic() - started) * 1000)
        who = homeserver.client.whoami()
        ping = homeserver.client.ping(service.options.get("appservice_id") or settings.MATRIX_APPSERVICE_ID)
        flavour = homeserver_probe(homeserver)
    except MatrixError as error:
        return TestResult("down", error.sentence)
    capabilities = {
        **(service.capabilities or {}),
        "flavour": flavour_after_test(service, flavour),
        "server_name": homeserver.server_name,
        "versions": versions.get("versions", []),
        "mode": "appservice",
        "appservice": True,
        "reaches_us": ping.ok,
    }
    version = str((versions.get("server") or {}).get("version", "")) if isinstance(versions.get("server"), dict) else ""
    if who != homeserver.sender_id:
        sentence = f"The token belongs to {who}, not to {homeserver.sender_id}: the registration on the homeserver is another one."
        return TestResult("down", sentence, version, capabilities, latency)
    if not ping.ok:
        return TestResult(
            "degraded", f"The homeserver answers, but does not reach us: {ping.detail}", version, capabilities, latency
        )
    return TestResult("ok", f"{homeserver.server_name} answers, and reaches us.", version, capabilities, latency)


def test_client_mode(service: Service) -> TestResult:
    """Does it answer, and does it take the session of Switchboard's own account? Nobody calls us in this mode."""
    started = time.monotonic()
    calls = SessionCalls(service.base_url)
    try:
        versions = calls.call("GET", "/_matrix/client/versions", action="ask for the versions of Matrix")
        latency = round((time.monotonic() - started) * 1000)
        if not service.pk:
            # Not kept yet: nothing may be opened or stored for it.
            return TestResult(
                "ok", "It answers. Whether our account gets in shows when the service is saved.", latency_ms=latency
            )
        homeserver = homeserver_of(service)
        who = homeserver.client.whoami()
        flavour = homeserver_probe(homeserver)
    except MatrixError as error:
        return TestResult("down", error.sentence)
    finally:
        calls.close()
    capabilities = {
        **(service.capabilities or {}),
        "flavour": flavour_after_test(service, flavour),
        "server_name": homeserver.server_name,
        "versions": versions.get("versions", []),
        "mode": "client",
        "appservice": False,
        "cannot": dict(CLIENT_MODE_CANNOT),
    }
    capabilities.pop("reaches_us", None)
    version = str((versions.get("server") or {}).get("version", "")) if isinstance(versions.get("server"), dict) else ""
    sentence = f"{homeserver.server_name} answers, and knows us as {who}. Client mode: we ask it for events."
    return TestResult("ok", sentence, version, capabilities, latency)


for _kind in list(BACKENDS.values()):
    register_service_kind(
        _kind.kind,
        label=_kind.label,
        role="backend",
        fields=_FIELDS.get(_kind.kind, (_KEY,)),
        tester=test_backend,
        needs_address=_kind.needs_address,
    )

register_service_kind(
    HOMESERVER_KIND,
    label="Matrix homeserver",
    role="homeserver",
    fields=(
        ServiceField(
            "mode",
            "How we speak to it",
            "Client mode where no appservice can be registered: every account has a session of its own.",
            kind="choice",
            choices=(("", "As the settings say"), ("appservice", "As an appservice"), ("client", "As clients")),
        ),
        ServiceField(
            "sender_localpart",
            "Our own account",
            "Its name without @ and server; in client mode it listens in every room.",
        ),
        ServiceField("password", "Password of our own account", "Client mode only.", secret=True),
        ServiceField(
            "access_token",
            "Access token of our own account",
            "Client mode only, in place of the password.",
            secret=True,
        ),
        ServiceField(
            "as_token", "Appservice token", "Ours to the homeserver; the generated one when empty.", secret=True
        ),
        ServiceField(
            "hs_token", "Homeserver token", "The homeserver's to us; the generated one when empty.", secret=True
        ),
        ServiceField(
            "admin_token",
            "Administrator's token",
            "The access token of a server administrator: for passwords, accounts and rooms that are not ours.",
            secret=True,
        ),
        ServiceField(
            "admin_user",
            "Administrator's name",
            "Instead of a token: we log in once and keep the session.",
            secret=True,
        ),
        ServiceField("admin_password", "Administrator's password", "Goes with the name.", secret=True),
        ServiceField(
            "registration_shared_secret",
            "Registration shared secret",
            "From the homeserver's configuration: makes people's accounts in one step.",
            secret=True,
        ),
        ServiceField(
            "registration_token",
            "Registration token",
            "Makes accounts where the homeserver asks those who register for one.",
            secret=True,
        ),
        ServiceField(
            "admin_url", "Address of the admin API", "Only where a proxy hides /_synapse/admin at the address above."
        ),
        ServiceField("server_name", "Server name", "The part of Matrix ids behind the colon; asked for when empty."),
        ServiceField("space_name", "Name of the space"),
        ServiceField(
            "rooms",
            "Agents' rooms",
            "Lazy: account and address at once, the room when somebody first looks for it. For thousands of agents.",
            kind="choice",
            choices=(("eager", "Made at once"), ("lazy", "Made on first contact")),
            default="eager",
        ),
    ),
    tester=test_homeserver,
)
