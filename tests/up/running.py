"""``manage.py up`` as a process of its own, in a folder of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from controlplane.options import OPTIONS
from tests.peers.asked import Asked
from tests.peers.base import PROJECT_ROOT, free_port
from tests.support.prepared import copy_database


def clean_environment(**settings: str) -> dict[str, str]:
    """This process's environment without any setting of Switchboard, plus ``settings``."""
    names = {name for option in OPTIONS for name in (option.name, *option.aliases)}
    kept = {
        key: value
        for key, value in os.environ.items()
        if key.removesuffix("_FILE") not in names and not key.startswith("SWITCHBOARD_")
    }
    return {**kept, "DJANGO_SETTINGS_MODULE": "controlplane.settings", "PYTHONUNBUFFERED": "1", **settings}


class Up:
    """One data directory; ``start`` may be called again after ``stop`` or ``kill9``.

    Its database has all tables already, as a later start finds it; ``fresh`` begins with nothing, as the first one does.
    """

    def __init__(self, folder: Path, *arguments: str, fresh: bool = False, **settings: str) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.arguments = arguments
        database = self.data / "switchboard.sqlite3"
        if not fresh and not database.exists():
            copy_database(database)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        # A file of its own: whatever stands in the developer's, and whatever a test writes, stays apart.
        own = {
            "DATA_DIR": str(self.data),
            "PORT": str(self.port),
            "LOCAL_HOMESERVER_PORT": str(free_port()),
            "SWITCHBOARD_ENV_FILE": str(folder / "settings.env"),
        }
        self.environment = clean_environment(**{**own, **settings})
        self.output_path = folder / "output.txt"
        self.process: subprocess.Popen[bytes] | None = None
        self._asked: Asked | None = None

    def spawn(self) -> subprocess.Popen[bytes]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.output_path.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "up", *self.arguments],
                cwd=PROJECT_ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self.process

    def start(self, seconds: float = 400.0) -> float:
        """Start and wait until it says that it is ready. Returns the seconds that took."""
        began = time.monotonic()
        self.spawn()
        self.wait_ready(seconds)
        return time.monotonic() - began

    def wait_ready(self, seconds: float = 400.0) -> None:
        """Wait until what was spawned says that it is ready."""
        assert self.process is not None
        until = time.monotonic() + seconds
        while "Ready after" not in self.output():
            if self.process.poll() is not None:
                raise AssertionError(f"up ended with {self.process.returncode}:\n{self.output()}")
            if time.monotonic() > until:
                raise AssertionError(f"up was not ready after {seconds} s:\n{self.output()}")
            time.sleep(0.02)

    def output(self) -> str:
        return self.output_path.read_text(errors="replace") if self.output_path.exists() else ""

    def get(self, path: str, **options: object) -> httpx.Response:
        return httpx.get(self.url + path, timeout=10, **options)  # type: ignore[arg-type]

    def setup_path(self) -> str:
        """The path of the set-up link that it printed."""
        found = re.search(r"/setup/[0-9a-f]+/", self.output())
        assert found, self.output()
        return found.group()

    def ask(self, code: str) -> Any:
        """Run Python inside Django on the same data; the code puts JSON-able data into ``result``."""
        if self._asked is None:
            self._asked = Asked(self.environment, self.folder)
        return self._asked.ask(code)

    def stop(self, number: int = signal.SIGINT, seconds: float = 60.0) -> tuple[int, float]:
        """End it with a signal. Returns the exit code and how long it took."""
        assert self.process is not None
        began = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(seconds)
        return self.process.returncode, time.monotonic() - began

    def kill9(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(60)

    def manage(self, *arguments: str, expect: int = 0) -> str:
        """``manage.py …`` on the same data directory."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=PROJECT_ROOT, env=self.environment, capture_output=True, text=True, timeout=900, check=False,
        )  # fmt: skip
        assert done.returncode == expect, f"{arguments} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done.stdout + (done.stderr if expect else "")


def processes_naming(text: str) -> list[int]:
    """Processes whose command line has the text."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if text in line:
                found.append(int(entry.name))
    return found
