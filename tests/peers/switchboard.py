"""Switchboard itself as separate processes (web, workers, beat), so that tests can kill and restart each part."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from agents.matrix.registration import Registration

from .asked import Asked
from .base import Peer, free_port

_PREPARE = """
from django.core.management import call_command
from django.db import connection
if "django_migrations" not in connection.introspection.table_names():
    call_command("migrate", verbosity=0)
call_command("provision")
"""
_CALL = """
import io
from django.core.management import CommandError, call_command
out, code = io.StringIO(), 0
try:
    call_command(*{arguments!r}, stdout=out)
except SystemExit as end:
    code = end.code or 0
except CommandError as error:
    out.write(f"CommandError: {{error}}")
    code = error.returncode
result = [out.getvalue(), code]
"""
PROJECT = Path(__file__).resolve().parents[2]


class Part(Peer):
    """One process of a stack."""

    ready_seconds = 240.0

    def __init__(self, stack: Stack, name: str, arguments: Sequence[str]) -> None:
        self.name = name
        super().__init__(stack.folder / name)
        self._stack = stack
        self._arguments = list(arguments)

    @property
    def working_folder(self) -> Path:
        return PROJECT

    def command(self) -> Sequence[str]:
        return [sys.executable, *self._arguments]

    def environment(self) -> Mapping[str, str]:
        return self._stack.environment


class Web(Part):
    """daphne."""

    def __init__(self, stack: Stack) -> None:
        super().__init__(
            stack,
            "web",
            ["-m", "daphne", "-v", "0", "-b", "127.0.0.1", "-p", str(stack.port), "controlplane.asgi:application"],
        )

    def is_ready(self) -> bool:
        return httpx.get(f"{self._stack.url}/livez", timeout=5).status_code == 200


class Worker(Part):
    """A Celery worker with the threads pool."""

    def __init__(self, stack: Stack, number: int = 1, concurrency: int = 24) -> None:
        super().__init__(
            stack,
            f"worker{number}",
            ["-m", "celery", "-A", "controlplane", "worker", "-P", "threads", "-c", str(concurrency),
             "-n", f"worker{number}-{secrets.token_hex(3)}@%h", "--without-mingle", "--without-gossip"],
        )  # fmt: skip

    def after_start(self) -> None:
        return None


class Beat(Part):
    """Celery beat."""

    def __init__(self, stack: Stack) -> None:
        super().__init__(stack, "beat", ["-m", "celery", "-A", "controlplane", "beat"])


class Stack:
    """All parts over one database and broker.

    ``environment`` is what every process (and ``manage``) gets. Without ``database_url`` it is SQLite, without ``redis_url``
    there can be no workers of their own.
    """

    def __init__(
        self,
        *,
        homeserver_url: str = "",
        server_name: str = "sb.test",
        database_url: str = "",
        redis_url: str = "",
        workers: int = 1,
        concurrency: int = 24,
        settings: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        self.folder = folder or Path(tempfile.mkdtemp(prefix="sb-stack-"))
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.server_name = server_name
        self.as_token, self.hs_token = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        self.environment: dict[str, str] = {
            "DATA_DIR": str(self.folder / "data"),
            # Not the file beside manage.py: whoever runs the tests may have one, and tests write into it.
            "SWITCHBOARD_ENV_FILE": str(self.folder / "settings.env"),
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "PUBLIC_URL": self.url,
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "CELERY_BROKER_URL": redis_url,
            "MATRIX_HOMESERVER_URL": homeserver_url,
            "MATRIX_SERVER_NAME": server_name,
            "MATRIX_AS_TOKEN": self.as_token,
            "MATRIX_HS_TOKEN": self.hs_token,
            "DEMO_AGENTS": "false",
            "SYNC_INTERVAL": "3600",
            "LOG_FORMAT": "console",
            "LOG_LEVEL": "info",
            "DJANGO_SETTINGS_MODULE": "controlplane.settings",
            "PYTHONPATH": str(PROJECT),
            **(settings or {}),
        }
        self.web = Web(self)
        self.workers = [Worker(self, number + 1, concurrency) for number in range(workers)]
        self.beat = Beat(self)
        self._asked: Asked | None = None

    @property
    def parts(self) -> list[Part]:
        return [self.web, *self.workers, self.beat]

    def write_registration(self, path: Path | None = None) -> Path:
        """The registration file for the homeserver; needs no running process."""
        path = path or self.folder / "registration.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        registration = Registration(
            id="switchboard", url=self.url, as_token=self.as_token, hs_token=self.hs_token,
            sender_localpart="switchboard", server_name=self.server_name,
        )  # fmt: skip
        path.write_text(registration.to_yaml(), encoding="utf-8")
        return path

    def manage(self, *arguments: str, check: bool = True, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """``manage.py …`` with this stack's settings."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=PROJECT, env={**os.environ, **self.environment}, capture_output=True, text=True, timeout=timeout,
        )  # fmt: skip
        if check and done.returncode != 0:
            raise AssertionError(
                f"manage.py {' '.join(arguments)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
            )
        return done

    def ask(self, code: str) -> Any:
        """Run Python inside Django; the code puts JSON-able data into ``result``."""
        if self._asked is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._asked = Asked(self.environment, self.folder)
        return self._asked.ask(code)

    def call(self, *arguments: str) -> tuple[str, int]:
        """What a command prints and its exit code, without a process for it alone."""
        printed, code = self.ask(_CALL.format(arguments=arguments))
        return printed, code

    def prepare(self) -> None:
        """Tables and services, as ``manage.py migrate`` and ``manage.py provision`` make them; tables that are there are kept."""
        # It imports the peers as well.
        from tests.support.prepared import copy_database

        database = Path(self.environment["DATA_DIR"]) / "switchboard.sqlite3"
        if not self.environment["DATABASE_URL"] and not list(database.parent.glob(f"{database.name}*")):
            copy_database(database)
        self.ask(_PREPARE)

    def start(self) -> Stack:
        for part in self.parts:
            part.start()
        return self

    def stop(self) -> None:
        if self._asked is not None:
            self._asked.close()
            self._asked = None
        for part in reversed(self.parts):
            part.stop()

    def logs(self, lines: int = 60) -> str:
        return "\n".join(part.log_tail(lines) for part in self.parts)

    def __enter__(self) -> Stack:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
