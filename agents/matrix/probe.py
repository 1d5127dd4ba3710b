"""Which homeserver stands at an address and what it can do: asked, never assumed, and nothing is created.

Homeservers differ in how accounts are looked after (Synapse's admin API, an admin room, an authentication service in front), so
nothing may be tried on the strength of a name in a document.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from agents.matrix.admin.admin_room import AdminRoom
from agents.matrix.admin.registration import registration_flows
from agents.matrix.admin.synapse import SynapseAdmin
from agents.matrix.admin.ways import ADMIN_ROOM_SERVERS
from agents.matrix.asking import is_served, json_at
from agents.matrix.client import AppserviceClient
from agents.matrix.errors import MatrixError

WHY_NOT = {
    "appservice": "We are not its appservice: every account speaks with a session of its own.",
    "admin_api": "It has no Synapse admin API. Accounts are looked after in its admin room instead (#admins).",
    "make_users": "It does not register users by a shared secret (/_synapse/admin/v1/register).",
    "sign_in": "It has no password login; people sign in through another service.",
    "sign_up": "It takes no registration tokens.",
    "spaces": "It is older than Matrix 1.2: clients may not show spaces.",
    "ping": "It is older than Matrix 1.7: it cannot be asked whether it reaches us.",
    "devices": "It does not take a device from an appservice: a message repeated after a crash of it may be shown twice.",
}
_NO_ADMIN_API = (
    "It serves no Synapse admin API (/_synapse/admin) at this address. On Synapse, a proxy hides it probably."
)
_DELEGATED = ("org.matrix.msc3824.delegated_oidc_compatibility", "oauth_aware_preferred")
# The token of an administrator, and whose it is; "" and a sentence when there is none to be had.
Admin = tuple[str, str, str]


def probe(
    client: AppserviceClient,
    *,
    credentials: Mapping[str, Any],
    admin_url: str = "",
    client_mode: bool = False,
    administrator: Callable[[], Admin] | None = None,
) -> dict[str, Any]:
    """What stands there, and whether it takes the credentials that we were given. Creates nothing.

    JSON shape::

        {name, version, base_url, room_version, probed_at, can: {ability: bool},
         auth: {kind: "own"|"mas"|"other", issuer, appservice_login: bool, sentence},
         registration: {kind, flows, sentence},
         admin: {given, works: bool|None, user_id, room_id, sentence},
         secret: {given, works: bool|None, sentence}}

    ``administrator`` opens the administrator's session (asked only where one was given). Raises ``MatrixError`` when the
    homeserver does not answer at all.
    """
    # Before anything is asked: what is changed meanwhile was not seen.
    started = datetime.now(UTC)
    url = client.base_url
    admin_url = admin_url or url
    versions = client.versions()
    name, version = _named(versions, url, admin_url)
    named = [str(one) for one in versions.get("versions") or []]
    login = json_at(url, "/_matrix/client/v3/login")
    flows = [one for one in (login.get("flows") or [] if isinstance(login, dict) else []) if isinstance(one, dict)]
    kinds = {str(flow.get("type")) for flow in flows}
    nonce = json_at(admin_url, "/_synapse/admin/v1/register")
    validity = json_at(url, "/_matrix/client/v1/register/m.login.registration_token/validity?token=none")
    can = {
        "appservice": not client_mode,
        "admin_api": is_served(admin_url, "/_synapse/admin/v2/users"),
        "make_users": isinstance(nonce, dict) and isinstance(nonce.get("nonce"), str),
        "sign_in": "m.login.password" in kinds,
        "sign_up": isinstance(validity, dict) and "valid" in validity,
        "spaces": _since(named, (1, 2)),
        "ping": _since(named, (1, 7)),
        "devices": "m.login.application_service" in kinds or _since(named, (1, 17)),
    }
    auth: dict[str, Any] = dict(_auth(url, flows))
    # Synapse offers it, and refuses it to an appservice whose devices are managed by MSC4190, as in our registration.
    offered = "m.login.application_service" in kinds and name != "synapse" and auth["kind"] != "mas"
    auth["appservice_login"] = offered and not client_mode
    try:
        registration = registration_flows(url).to_dict()
    except MatrixError as error:
        registration = {"kind": "closed", "flows": [], "sentence": error.sentence}
    return {
        "name": (name or "unknown")[:50],
        "version": version.partition(" ")[0][:50],
        "base_url": url,
        "room_version": _room_version(client),
        "can": can,
        "auth": auth,
        "registration": registration,
        "admin": _admin(client, name, can, admin_url, administrator),
        "secret": _secret(credentials, can, admin_url),
        "probed_at": started.isoformat(),
    }


def unsupported(flavour: Mapping[str, Any]) -> dict[str, str]:
    """What the homeserver cannot do, with the reason in a sentence."""
    can = flavour.get("can")
    why = WHY_NOT if flavour.get("name") in ADMIN_ROOM_SERVERS else {**WHY_NOT, "admin_api": _NO_ADMIN_API}
    return {
        name: why[name] for name, yes in (can.items() if isinstance(can, dict) else ()) if not yes and name in WHY_NOT
    }


def _named(versions: Mapping[str, Any], url: str, admin_url: str) -> tuple[str, str]:
    server = versions.get("server")
    server = server if isinstance(server, dict) else {}
    name, version = str(server.get("name") or "").lower(), str(server.get("version") or "")
    admin = json_at(admin_url, "/_synapse/admin/v1/server_version")
    if isinstance(admin, dict) and isinstance(admin.get("server_version"), str):
        # Tuwunel serves the same endpoint from 1.8.1 on, and names itself in /versions.
        name, version = name or "synapse", version or admin["server_version"]
    if name:
        return name, version
    # Servers that name themselves nowhere else may do so to other servers (server-server API, "version").
    data = json_at(url, "/_matrix/federation/v1/version")
    server = data.get("server") if isinstance(data, dict) else None
    if not isinstance(server, dict):
        return "", ""
    return str(server.get("name") or "").lower(), str(server.get("version") or "")


def _auth(url: str, flows: list[dict[str, Any]]) -> dict[str, str]:
    """Who keeps passwords and sessions: the homeserver itself, or an OAuth 2.0 service in front of it.

    ``GET /auth_metadata`` (client-server API 1.15, "Server metadata discovery"; before it MSC2965). Tuwunel is such a service itself
    (``/_tuwunel/oidc/…``) and keeps its own passwords.
    """
    for path in ("/_matrix/client/v1/auth_metadata", "/_matrix/client/unstable/org.matrix.msc2965/auth_metadata"):
        found = json_at(url, path)
        if isinstance(found, dict) and isinstance(found.get("issuer"), str):
            issuer = found["issuer"][:300]
            if "/_tuwunel/" in str(found.get("authorization_endpoint")):
                return {
                    "kind": "own",
                    "issuer": issuer,
                    "sentence": "It keeps passwords itself, and signs apps in too.",
                }
            return {"kind": "mas", "issuer": issuer, "sentence": _behind(issuer)}
    old = json_at(url, "/_matrix/client/unstable/org.matrix.msc2965/auth_issuer")
    if isinstance(old, dict) and isinstance(old.get("issuer"), str):
        return {"kind": "mas", "issuer": old["issuer"][:300], "sentence": _behind(old["issuer"])}
    sso = [flow for flow in flows if flow.get("type") == "m.login.sso"]
    if any(flow.get(key) is True for flow in sso for key in _DELEGATED):
        return {"kind": "mas", "issuer": "", "sentence": _behind("")}
    kinds = {str(flow.get("type")) for flow in flows}
    if sso and "m.login.password" not in kinds:
        return {"kind": "other", "issuer": "", "sentence": "People sign in through another service (SSO) only."}
    return {"kind": "own", "issuer": "", "sentence": "It keeps passwords itself."}


def _behind(issuer: str) -> str:
    place = f" ({urlsplit(issuer).netloc or issuer})" if issuer else ""
    return f"A Matrix Authentication Service{place} stands in front of it: accounts, passwords and sessions are looked after there."


def _admin(
    client: AppserviceClient,
    name: str,
    can: Mapping[str, bool],
    admin_url: str,
    administrator: Callable[[], Admin] | None,
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "given": administrator is not None,
        "works": None,
        "user_id": "",
        "room_id": "",
        "sentence": "",
    }
    if administrator is None:
        return found
    try:
        token, user_id, sentence = administrator()
        found["user_id"] = user_id
        if not token:
            return {**found, "works": False, "sentence": sentence}
        who = user_id or "The administrator's token"
        if can["admin_api"]:
            with SynapseAdmin(admin_url, admin_token=token) as api:
                works, why = api.is_admin()
            sentence = f"{who} is an administrator." if works else f"{who} is refused by the admin API: {why}"
            return {**found, "works": works, "sentence": sentence}
        if name in ADMIN_ROOM_SERVERS:
            with AdminRoom(client.base_url, token, client.server_name) as room:
                return {**found, "works": True, "room_id": room.find(), "sentence": f"{who} is in #admins."}
    except MatrixError as error:
        return {**found, "works": None if error.retryable else False, "sentence": error.sentence}
    return {**found, "sentence": "There is neither an admin API nor an admin room to use it for."}


def _secret(credentials: Mapping[str, Any], can: Mapping[str, bool], admin_url: str) -> dict[str, Any]:
    secret = credentials.get("registration_shared_secret")
    if not secret:
        return {"given": False, "works": None, "sentence": ""}
    if not can["make_users"]:
        return {"given": True, "works": False, "sentence": WHY_NOT["make_users"]}
    try:
        with SynapseAdmin(admin_url, str(secret)) as api:
            works, why = api.secret_works()
    except MatrixError as error:
        return {"given": True, "works": None, "sentence": error.sentence}
    # It stands alone on the page and in the command.
    said = "takes the registration shared secret." if works else f"refuses the registration shared secret: {why}"
    return {"given": True, "works": works, "sentence": f"It {said}"}


def _room_version(client: AppserviceClient) -> str:
    try:
        versions = client.capabilities().get("m.room_versions")
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
