"""Where the local homeserver keeps its things, and what is known about it between two starts.

``local.json`` holds ``{port, server_name, settled}``. The name stays as it is once chosen, since accounts end in it; the port once the
homeserver has answered there for the first time (``settled``), since clients know it from then on.
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

DEFAULT_SERVER_NAME = "switchboard.localhost"


@dataclass(frozen=True, slots=True)
class LocalHomeserver:
    """Address, name and folder of the local homeserver. Until ``settled`` nobody knows its port, and it may take another."""

    folder: Path
    server_name: str
    port: int
    settled: bool = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def config(self) -> Path:
        return self.folder / "homeserver.yaml"

    @property
    def registration(self) -> Path:
        return self.folder / "registration.yaml"

    @property
    def log(self) -> Path:
        return self.folder / "homeserver.log"

    @property
    def output(self) -> Path:
        """What it says before its own log is set up, and when it dies."""
        return self.folder / "output.log"

    @property
    def pid_file(self) -> Path:
        return self.folder / "synapse.pid"


def folder() -> Path:
    """``DATA_DIR/synapse``."""
    return Path(settings.DATA_DIR) / "synapse"


def known_local() -> LocalHomeserver | None:
    """The local homeserver that was set up in this data directory, or ``None``."""
    return known_in(folder())


def known_in(place: Path) -> LocalHomeserver | None:
    """The local homeserver whose files lie in a folder, or ``None``."""
    try:
        data = json.loads((place / "local.json").read_text(encoding="utf-8"))
        return LocalHomeserver(place, str(data["server_name"]), int(data["port"]), data.get("settled") is not False)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remember(local: LocalHomeserver) -> None:
    """Keep address and name for the next start and for other processes."""
    known = {"port": local.port, "server_name": local.server_name, "settled": local.settled}
    write_private(local.folder / "local.json", json.dumps(known) + "\n")


def shared_secret(local: LocalHomeserver) -> str:
    """Synapse's registration shared secret: made once, kept with mode 0600."""
    path = local.folder / "registration_shared_secret"
    try:
        value = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        value = ""
    if not value:
        value = secrets.token_urlsafe(48)
        write_private(path, value + "\n")
    return value


def write_private(path: Path, text: str) -> bool:
    """Write the file for the owner only, at once or not at all. False: it already said so, and was not touched."""
    try:
        if path.read_text(encoding="utf-8") == text:
            return False
    except (OSError, UnicodeDecodeError):
        pass
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return True


def read_text(path: Path) -> str:
    """The file's text, "" when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
