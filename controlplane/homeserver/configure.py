"""Writes Synapse's configuration, its keys and our registration. Files that already say the same are not touched."""

from __future__ import annotations

import base64
import dataclasses
import secrets
import socket
from pathlib import Path
from typing import Any

import yaml
from django.conf import settings

from agents.matrix.registration import Registration
from controlplane.homeserver import paths
from controlplane.homeserver.errors import HomeserverError
from controlplane.homeserver.paths import LocalHomeserver, write_private
from ops.network.ports import Holder, holder_of

_HEADER = (
    "# Written by `manage.py up`, and written again at every start. Your own settings go into extra.yaml beside it.\n"
)


def choose() -> LocalHomeserver:
    """The local homeserver of this data directory: the one that is known, else a new one on the first free port from
    ``LOCAL_HOMESERVER_PORT`` on.

    Raises ``HomeserverError`` when the configured server name contradicts the one its accounts have, and when no port is free.
    """
    wanted = settings.MATRIX_SERVER_NAME
    known = paths.known_local()
    if known is not None:
        if wanted and wanted != known.server_name:
            raise HomeserverError(
                f"MATRIX_SERVER_NAME is {wanted}, but the local homeserver's accounts end in :{known.server_name}, and a "
                f"homeserver's name cannot change. Remove MATRIX_SERVER_NAME, or move {known.folder} away to begin anew."
            )
        return known
    port = first_free_port(settings.ENVIRONMENT["LOCAL_HOMESERVER_PORT"])
    local = LocalHomeserver(paths.folder(), wanted or paths.DEFAULT_SERVER_NAME, port, settled=False)
    paths.remember(local)
    return local


def choose_again(local: LocalHomeserver) -> LocalHomeserver:
    """Another port for a homeserver that was never reached at the one it had, which somebody else was quicker to take."""
    # Whoever was quicker may be an installation that starts at this moment, and may not listen yet: not the same port again.
    moved = dataclasses.replace(local, port=first_free_port(local.port + 1))
    paths.remember(moved)
    return moved


def settle(local: LocalHomeserver) -> LocalHomeserver:
    """It answers at its port: from now on people know it, and it stays."""
    if local.settled:
        return local
    settled = dataclasses.replace(local, settled=True)
    paths.remember(settled)
    return settled


def first_free_port(start: int) -> int:
    """The first port from ``start`` on which nobody listens on loopback."""
    last = min(start + 199, 65535)
    for port in range(start, last + 1):
        if port_is_free(port):
            return port
    raise HomeserverError(
        f"No port from {start} to {last} is free for the local homeserver. Set LOCAL_HOMESERVER_PORT to another."
    )


def port_taken(local: LocalHomeserver) -> HomeserverError:
    """What to say when somebody else listens at the port that clients of this homeserver know."""
    holder = holder_of("127.0.0.1", local.port) or Holder()
    return HomeserverError(
        f"Port {local.port} on 127.0.0.1, the local homeserver's, is taken by {holder}. Stop that program, or have another port "
        "chosen (Matrix clients then need the new address): manage.py repair config.port --target homeserver."
    )


def port_is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen there now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # As servers do: connections that were closed a moment ago do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def address_for_homeserver() -> str:
    """Where a homeserver on this machine reaches us: loopback, unless ``MATRIX_APPSERVICE_URL`` says otherwise."""
    if settings.ENVIRONMENT["MATRIX_APPSERVICE_URL"]:
        return str(settings.MATRIX_APPSERVICE_URL)
    host = "127.0.0.1" if settings.HOST in {"0.0.0.0", "::", "localhost", ""} else settings.HOST  # noqa: S104
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.PORT}"


def registration_of(local: LocalHomeserver) -> Registration:
    """Who we are to the local homeserver."""
    return Registration(
        id=settings.MATRIX_APPSERVICE_ID,
        url=address_for_homeserver(),
        as_token=settings.MATRIX_AS_TOKEN,
        hs_token=settings.MATRIX_HS_TOKEN,
        sender_localpart=settings.MATRIX_SENDER_LOCALPART,
        server_name=local.server_name,
        user_prefix=settings.MATRIX_USER_PREFIX,
    )


def write(local: LocalHomeserver) -> None:
    """Write everything that Synapse reads when it starts."""
    local.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    secret = paths.shared_secret(local)
    assert secret
    for name in ("macaroon_secret_key", "form_secret"):
        _once(local.folder / name, lambda: secrets.token_urlsafe(48))
    # Synapse's own form: algorithm, version, 32 bytes of seed in unpadded base64.
    _once(
        local.folder / "signing.key",
        lambda: f"ed25519 a_{secrets.token_hex(2)} {base64.b64encode(secrets.token_bytes(32)).decode().rstrip('=')}",
    )
    write_private(local.registration, registration_of(local).to_yaml())
    write_private(local.folder / "log.yaml", _HEADER + yaml.safe_dump(_logging(local), sort_keys=False))
    write_private(local.config, _HEADER + yaml.safe_dump(_config(local), sort_keys=False))


def _once(path: Path, make: Any) -> None:
    if not paths.read_text(path).strip():
        write_private(path, make() + "\n")


def _config(local: LocalHomeserver) -> dict[str, Any]:
    folder = local.folder
    return {
        "server_name": local.server_name,
        "public_baseurl": f"{local.url}/",
        "listeners": [
            {
                "port": local.port,
                "bind_addresses": ["127.0.0.1"],
                "type": "http",
                "tls": False,
                "x_forwarded": False,
                # Clients only: this server talks to no other server.
                "resources": [{"names": ["client"], "compress": False}],
            }
        ],
        "database": {"name": "sqlite3", "args": {"database": str(folder / "homeserver.db")}},
        "log_config": str(folder / "log.yaml"),
        "media_store_path": str(folder / "media"),
        "signing_key_path": str(folder / "signing.key"),
        "registration_shared_secret_path": str(folder / "registration_shared_secret"),
        "macaroon_secret_key_path": str(folder / "macaroon_secret_key"),
        "form_secret_path": str(folder / "form_secret"),
        "app_service_config_files": [str(local.registration)],
        "report_stats": False,
        # Any key server that stood here would be asked over the network.
        "trusted_key_servers": [],
        "suppress_key_server_warning": True,
        "federation_domain_whitelist": [],
        "enable_registration": False,
        "allow_guest_access": False,
        "url_preview_enabled": False,
        "presence": {"enabled": False},
        "max_upload_size": "50M",
        "user_directory": {"enabled": True, "search_all_users": True, "prefer_local_users": True},
        "encryption_enabled_by_default_for_room_type": "off",
        **_limits(),
    }


def _limits() -> dict[str, Any]:
    """Generous for people, but a guessed password still costs time. Our own accounts have no limits by the registration."""
    people = {"per_second": 20, "burst_count": 200}
    return {
        "rc_message": people,
        "rc_login": {
            "address": {"per_second": 1, "burst_count": 30},
            "account": {"per_second": 1, "burst_count": 30},
            "failed_attempts": {"per_second": 0.1, "burst_count": 10},
        },
        "rc_registration": {"per_second": 1, "burst_count": 20},
        "rc_joins": {"local": {"per_second": 50, "burst_count": 500}, "remote": {"per_second": 1, "burst_count": 10}},
        "rc_joins_per_room": {"per_second": 50, "burst_count": 500},
        "rc_invites": {"per_room": people, "per_user": people, "per_issuer": people},
        "rc_room_creation": {"per_second": 1, "burst_count": 20},
    }


def _logging(local: LocalHomeserver) -> dict[str, Any]:
    return {
        "version": 1,
        "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(request)s %(message)s"}},
        "handlers": {
            "file": {
                "class": "logging.handlers.RotatingFileHandler",
                "formatter": "line",
                "filename": str(local.log),
                "maxBytes": 10 * 1024 * 1024,
                "backupCount": 3,
                "encoding": "utf8",
            }
        },
        # SQL statements hold access tokens.
        "loggers": {"synapse.storage.SQL": {"level": "INFO"}, "synapse.access": {"level": "WARNING"}},
        "root": {"level": "INFO", "handlers": ["file"]},
        "disable_existing_loggers": False,
    }
