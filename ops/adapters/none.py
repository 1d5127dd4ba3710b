"""Nobody: the operator starts things, and is shown the command for this installation."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from urllib.parse import urlsplit

from django.conf import settings

from ops.adapters.base import AdapterError, Part, Verb


def command_line(role: str) -> list[str]:
    """What starts one process of a role here, with this Python and these settings."""
    package = settings.ROOT_URLCONF.partition(".")[0]
    celery = [sys.executable, "-m", "celery", "-A", package]
    if role == "web":
        address = ["-b", settings.HOST, "-p", str(settings.PORT)]
        return [sys.executable, "-m", "daphne", *address, f"{package}.asgi:application"]
    if role == "worker":
        return [*celery, "worker", "-P", "threads", "--without-mingle", "--without-gossip"]
    if role == "beat":
        return [*celery, "beat"]
    return [sys.executable, "manage.py", "up"]


class Nobody:
    """Starts nothing."""

    name = "none"
    supervises = False

    def why_not(self, part: Part) -> str:
        return f"Switchboard was not told who starts {part.label} (PROCESS_MANAGER). Do it with: {self.command(part, 'start')}"

    def command(self, part: Part, verb: Verb) -> str:
        if part.service is not None:
            host = urlsplit(part.service.base_url).netloc or "its host"
            return f"{verb} the server behind {host}, as you started it"
        folder = Path(settings.BASE_DIR)
        if part.role == "up" and (folder / "Makefile").exists():
            return f"cd {shlex.quote(str(folder))} && make up"
        return f"cd {shlex.quote(str(folder))} && {shlex.join(command_line(part.role))}"

    def start(self, part: Part) -> None:
        raise AdapterError(self.why_not(part))

    def restart(self, part: Part) -> None:
        raise AdapterError(self.why_not(part))
