"""Changes settings that stand in the settings file, and says exactly which line to change when they stand elsewhere."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ops.configuration import envfile
from ops.configuration.masks import mask
from ops.configuration.schema import ENVIRONMENT, SECRET_FILE, Reading, Setting, configuration
from ops.models import ManagedBy, Service
from ops.network import container

# Another value makes what is stored unreadable or leaves it behind; they change by commands of their own.
PROTECTED = {
    "SECRET_KEY": "another key ends every session and link",
    "FIELD_ENCRYPTION_KEYS": "without the old key no stored secret can be read; use manage.py rotate_encryption_keys",
    "DATA_DIR": "everything that is stored stays behind in the old folder",
}


class CannotEdit(Exception):
    """The setting cannot be changed from here. The text says which line to change, and where."""


def why_not(name: str, value: str = "", *, reading: Reading | None = None) -> str:
    """Why the variable cannot be changed from here, with the exact line to change and its place; "" when it can."""
    known = configuration()
    reading = reading or known.read()
    setting = known.get(name)
    if setting is not None and setting.name in PROTECTED:
        return f"{setting.name} is not changed from here: {PROTECTED[setting.name]}."
    line = line_for(name, value, setting)
    place = _place(name, setting, reading)
    if place == SECRET_FILE:
        path = os.environ.get(reading.sources[setting.name], "") if setting is not None else ""
        return f"{name} is read from the file {path or 'that its _FILE variable names'}: write the new value there, and restart."
    if place == ENVIRONMENT:
        return f"{name} is set in the environment of the process, which wins over {known.env_file()}. Change it {where()}: {line}"
    if not _writable(known.env_file()):
        return f"{known.env_file()} cannot be written from here. Put this line into it, and restart: {line}"
    return ""


def line_for(name: str, value: str, setting: Setting | None = None) -> str:
    """The line to write, with a secret's value left out."""
    setting = setting or configuration().get(name)
    if not value:
        return f"{name}= (remove the line to use the default)"
    return envfile.as_line(name, mask(value) if setting is not None and setting.secret else value)


def where() -> str:
    """Where the environment of this process comes from, as far as it can be told."""
    if container.inside():
        return "in the compose file or its env_file (then docker compose up -d)"
    unit = _unit()
    if unit:
        return f"in the EnvironmentFile of {unit} (/etc/switchboard/environment; then systemctl restart {unit})"
    return "where Switchboard is started (the shell, make up NAME=value, a process manager), and start it again"


def change(name: str, value: str | None, *, new_name: str = "") -> dict[str, Any]:
    """Write the variable into the settings file (None: remove it), and return what ``restore`` needs, secrets included.

    Raises ``CannotEdit``. The running processes keep what they started with.
    """
    reason = why_not(name, value or "") or (why_not(new_name, value or "") if new_name else "")
    if reason:
        raise CannotEdit(reason)
    path = configuration().env_file()
    try:
        before = envfile.read(path)
        envfile.write(path, name, value, new_name=new_name)
    except (OSError, ValueError) as error:
        raise CannotEdit(f"{path} could not be written: {error}") from error
    return {"file": str(path), "before": before, "after": envfile.read(path)}


def restore(memory: dict[str, Any]) -> None:
    """Bring back what ``change`` replaced. Raises ``CannotEdit`` when somebody else changed the file since."""
    path = Path(memory["file"])
    try:
        if envfile.read(path) != memory["after"]:
            raise CannotEdit(f"{path} was changed by somebody since; put the old line back by hand.")
        envfile.replace(path, memory["before"])
    except OSError as error:
        raise CannotEdit(f"{path} could not be written: {error.strerror}.") from error


def value_in_file(name: str) -> str | None:
    """What the file says for the variable, None when it says nothing. Raises ``CannotEdit``."""
    path = configuration().env_file()
    try:
        number, line = envfile.line_of(path, name)
    except OSError as error:
        raise CannotEdit(f"{path} cannot be read: {error.strerror}.") from error
    return envfile.value_of(line) if number else None


def place_of(name: str) -> str:
    """Where the line of a setting stands or belongs, in words for a guide."""
    reading = configuration().read()
    return where() if reading.places.get(name) == ENVIRONMENT else str(configuration().env_file())


def value_is_operators(service: str) -> bool:
    """Whether an operator, not the environment, says how the service is reached."""
    return Service.objects.filter(name=service, managed_by=ManagedBy.OPERATOR).exists()


def _place(name: str, setting: Setting | None, reading: Reading) -> str:
    if setting is None:
        return "file" if value_in_file(name) is not None else ENVIRONMENT
    return reading.places.get(setting.name, "")


def _writable(path: Path) -> bool:
    return os.access(path, os.W_OK) if path.exists() else os.access(path.parent, os.W_OK)


def _unit() -> str:
    if not os.environ.get("INVOCATION_ID"):
        return ""
    try:
        words = Path("/proc/self/cgroup").read_text(encoding="ascii", errors="replace").split("/")
    except OSError:
        return ""
    return next((word.strip() for word in reversed(words) if word.strip().endswith(".service")), "")
