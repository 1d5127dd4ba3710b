"""We ourselves: our processes are started on this host, detached, with a log below the data directory.

For hosts without systemd or Docker. Nobody restarts what dies by itself: the check that notices has the button.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections

from ops.adapters.base import AdapterError, Part, Verb
from ops.adapters.none import Nobody, command_line
from ops.processes.facts import RESTARTED_AT

# The process between ends at once, so that the new one belongs to nobody: it outlives us, and leaves no zombie behind.
_LAUNCH = """
import subprocess, sys
with open(sys.argv[1], "ab") as log:
    process = subprocess.Popen(sys.argv[2:], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
print(process.pid)
"""
_KEPT_LOG = 1024 * 1024


class Local:
    """Starts processes itself."""

    name = "local"
    supervises = False

    def why_not(self, part: Part) -> str:
        if part.service is not None:
            return Nobody().why_not(part)
        return ""

    def command(self, part: Part, verb: Verb) -> str:
        return Nobody().command(part, verb)

    def start(self, part: Part) -> None:
        spawn(command_line(part.role), log=log_path(part.role))

    def restart(self, part: Part) -> None:
        self.start(part)


def log_path(role: str) -> Path:
    """Where a process that we started writes what it says."""
    return Path(settings.DATA_DIR) / "logs" / f"{role}.log"


def spawn(command: list[str], *, log: Path) -> int:
    """Start a process that belongs to nobody; returns its process id. Raises ``AdapterError``."""
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if log.exists() and log.stat().st_size > _KEPT_LOG:
        log.write_bytes(log.read_bytes()[-_KEPT_LOG // 4 :])
    log.touch(mode=0o600)
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _LAUNCH, str(log), *command],
            cwd=settings.BASE_DIR,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
        return int(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise AdapterError(f"The process could not be started ({type(error).__name__}). Its log is {log}.") from error


def environment() -> dict[str, str]:
    """This process's environment, for the same data directory and the database that it is connected to."""
    variables = {name: value for name, value in os.environ.items() if name != RESTARTED_AT}
    variables["DATA_DIR"] = str(settings.DATA_DIR)
    variables.setdefault("DJANGO_SETTINGS_MODULE", f"{settings.ROOT_URLCONF.partition('.')[0]}.settings")
    known = connections[DEFAULT_DB_ALIAS].settings_dict
    name = str(known["NAME"])
    given = str(settings.ENVIRONMENT["DATABASE_URL"] or "")
    if connections[DEFAULT_DB_ALIAS].vendor == "sqlite":
        if name != str(Path(settings.DATA_DIR) / "switchboard.sqlite3"):
            variables["DATABASE_URL"] = f"sqlite:///{name}"
    elif given and urlsplit(given).path.lstrip("/") != name:
        variables["DATABASE_URL"] = urlunsplit(urlsplit(given)._replace(path=f"/{quote(name)}"))
    return variables


def log_tail(role: str, lines: int = 8) -> str:
    """The last words of a process that we started."""
    try:
        text = log_path(role).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join([line for line in text.splitlines() if line.strip()][-lines:])
