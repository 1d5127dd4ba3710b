"""A real Synapse homeserver with SQLite, configured for tests."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import secrets
import shutil
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from .base import Peer, PeerError, free_port
from .install import SYNAPSE, ensure_synapse
from .kept import kept

_FREE = {"per_second": 100000, "burst_count": 100000}
UNLIMITED: dict[str, Any] = {
    "rc_message": _FREE,
    "rc_registration": _FREE,
    "rc_registration_token_validity": _FREE,
    "rc_login": {"address": _FREE, "account": _FREE, "failed_attempts": _FREE},
    "rc_admin_redaction": _FREE,
    "rc_joins": {"local": _FREE, "remote": _FREE},
    "rc_joins_per_room": _FREE,
    "rc_3pid_validation": _FREE,
    "rc_invites": {"per_room": _FREE, "per_user": _FREE, "per_issuer": _FREE},
    "rc_third_party_invite": _FREE,
    "rc_room_creation": _FREE,
    "rc_media_create": _FREE,
    "rc_presence": {"per_user": _FREE},
    "rc_delayed_event_mgmt": _FREE,
    "rc_reports": _FREE,
    "rc_user_directory": _FREE,
    "rc_key_requests": _FREE,
}


# As Synapse's own, which writes several lines a request only now and then.
_BUFFER = {
    "class": "synapse.logging.handlers.PeriodicallyFlushingMemoryHandler",
    "target": "file",
    "capacity": 10,
    "flushLevel": 30,
    "period": 5,
}


def _logging(path: Path) -> dict[str, Any]:
    """The logging that Synapse's generated configuration has."""
    line = "%(asctime)s - %(name)s - %(lineno)d - %(levelname)s - %(request)s - %(message)s"
    file = {"class": "logging.FileHandler", "formatter": "precise", "filename": str(path), "encoding": "utf8"}
    return {
        "version": 1,
        "formatters": {"precise": {"format": line}},
        "handlers": {"file": file, "buffer": _BUFFER},
        "root": {"level": "INFO", "handlers": ["buffer"]},
        "disable_existing_loggers": False,
    }


@dataclass(frozen=True)
class MatrixUser:
    """An ordinary user with a password and an open session."""

    user_id: str
    password: str
    access_token: str
    device_id: str


class Synapse(Peer):
    """One homeserver. The registration file may be given later: ``use_registration`` and ``restart``.

    Its database has all tables already, and nothing in them; ``fresh`` makes them at the first start.
    """

    name = "synapse"

    def __init__(
        self,
        registration: Path | None = None,
        server_name: str = "sb.test",
        room_version: str | None = None,
        rate_limits_off: bool = True,
        folder: Path | None = None,
        extra: dict[str, Any] | None = None,
        fresh: bool = False,
    ) -> None:
        super().__init__(folder)
        self.server_name = server_name
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.config_path = self.folder / "homeserver.yaml"
        self.registration = registration
        self.room_version = room_version
        self.rate_limits_off = rate_limits_off
        self.extra = extra or {}
        self.shared_secret = ""
        self.fresh = fresh

    def prepare(self) -> None:
        self._python = str(ensure_synapse() / "bin" / "python")
        if not self.config_path.exists():
            self._generate()
        self._write_config()
        database = self.folder / "homeserver.db"
        if not self.fresh and not database.exists():
            shutil.copyfile(kept(f"synapse-{SYNAPSE.version}.db", _make_tables), database)

    def _generate(self) -> None:
        """What ``--generate-config`` writes: secrets of its own, and everything in its folder."""
        key, log = self.folder / f"{self.server_name}.signing.key", self.folder / f"{self.server_name}.log.config"
        seed = base64.b64encode(secrets.token_bytes(32)).decode().rstrip("=")
        key.write_text(f"ed25519 a_{secrets.token_hex(2)} {seed}\n")
        log.write_text(yaml.safe_dump(_logging(self.folder / "homeserver.log")))
        config = {
            "server_name": self.server_name,
            "pid_file": str(self.folder / "homeserver.pid"),
            "database": {"name": "sqlite3", "args": {"database": str(self.folder / "homeserver.db")}},
            "log_config": str(log),
            "media_store_path": str(self.folder / "media_store"),
            "signing_key_path": str(key),
            "report_stats": False,
            **{
                name: secrets.token_urlsafe(37)
                for name in ("registration_shared_secret", "macaroon_secret_key", "form_secret")
            },
        }
        self.config_path.write_text(yaml.safe_dump(config))

    def _write_config(self) -> None:
        config: dict[str, Any] = yaml.safe_load(self.config_path.read_text())
        self.shared_secret = config["registration_shared_secret"]
        client_only = [{"names": ["client"], "compress": False}]
        listener = {"port": self.port, "type": "http", "bind_addresses": ["127.0.0.1"], "resources": client_only}
        config |= {
            "listeners": [{**listener, "tls": False, "x_forwarded": False}],
            "public_baseurl": f"{self.url}/",
            # Any key server listed here would be asked over the network.
            "trusted_key_servers": [],
            "suppress_key_server_warning": True,
            "app_service_config_files": [str(self.registration)] if self.registration else [],
            "url_preview_enabled": False,
            "presence": {"enabled": False},
            "bcrypt_rounds": 4,
            "enable_room_list_search": True,
        }
        if self.rate_limits_off:
            config |= UNLIMITED
        if self.room_version:
            config["default_room_version"] = self.room_version
        config |= self.extra
        self.config_path.write_text(yaml.safe_dump(config))

    def use_registration(self, path: Path | None) -> None:
        """Take this appservice registration (or none) from the next start on."""
        self.registration = path
        if self.config_path.exists():
            self._write_config()

    def command(self) -> Sequence[str]:
        return [self._python, "-m", "synapse.app.homeserver", "--config-path", str(self.config_path)]

    def is_ready(self) -> bool:
        return httpx.get(f"{self.url}/health", timeout=2).status_code == 200

    def register_user(self, name: str, password: str, admin: bool = False) -> MatrixUser:
        """Make a user through the shared-secret admin API and return it logged in."""
        address = f"{self.url}/_synapse/admin/v1/register"
        with httpx.Client(timeout=20) as client:
            nonce = client.get(address).raise_for_status().json()["nonce"]
            kind = "admin" if admin else "notadmin"
            words = "\0".join((nonce, name, password, kind)).encode()
            mac = hmac.new(self.shared_secret.encode(), words, hashlib.sha1).hexdigest()
            body = {"nonce": nonce, "username": name, "password": password, "admin": admin, "mac": mac}
            answer = client.post(address, json=body)
        if answer.status_code != 200:
            raise PeerError(f"Synapse refused to register {name}: {answer.status_code} {answer.text}")
        found = answer.json()
        return MatrixUser(found["user_id"], password, found["access_token"], found["device_id"])


def _make_tables(path: Path) -> None:
    """The database of a homeserver that has started once and knows nobody."""
    with Synapse(fresh=True) as server:
        server.terminate()
        with (
            contextlib.closing(sqlite3.connect(server.folder / "homeserver.db")) as made,
            contextlib.closing(sqlite3.connect(path)) as copy,
        ):
            made.backup(copy)
