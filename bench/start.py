"""``start``: ``manage.py up`` on an initialised directory until ``/readyz`` says yes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx

from bench.measure import PROJECT, median
from bench.registry import Options
from bench.results import Figure, Report
from tests.peers.base import Peer, free_port

SETUP = "import django, os; os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'controlplane.settings'); django.setup()"


class _Up(Peer):
    """Switchboard in embedded mode without its homeserver."""

    name = "up"
    ready_seconds = 120.0
    stop_seconds = 30.0

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.port = free_port()
        self.variables = {"DATA_DIR": str(folder / "data"), "PORT": str(self.port), "DEMO_AGENTS": "true"}

    @property
    def working_folder(self) -> Path:
        return PROJECT

    def environment(self) -> Mapping[str, str]:
        return self.variables

    def command(self) -> Sequence[str]:
        return [sys.executable, "manage.py", "up", "--no-homeserver"]

    def is_ready(self) -> bool:
        return httpx.get(f"http://127.0.0.1:{self.port}/readyz", timeout=5).status_code == 200


def run(options: Options) -> Report:
    """The first start makes the directory ready and is only told; then it is stopped and started again and again."""
    starts = options.pick(3, 10)
    report = Report("start", sizes={"starts": starts})
    with tempfile.TemporaryDirectory(prefix="sb-start-") as folder:
        up = _Up(Path(folder))
        first = _time(up)
        again = [_time(up) for _ in range(starts)]
        floor = [_setup_alone(up.variables) for _ in range(3)]
    report.figures = [
        Figure("up → ready, median (floor: django.setup())", median(again), "s", median(floor), 5.0, of_ratio=False),
        Figure("up → ready, slowest", max(again), "s", target=5.0),
        Figure("the first start, which makes keys and tables", first, "s"),
    ]
    report.raw = {"first": first, "again": again, "floor": floor}
    return report


def _time(up: _Up) -> float:
    began = time.monotonic()
    up.start()
    seconds = time.monotonic() - began
    up.terminate()
    return seconds


def _setup_alone(variables: Mapping[str, str]) -> float:
    """What every command of Django needs before it can do anything."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", SETUP], cwd=PROJECT, env={**os.environ, **variables}, check=True)
    return time.monotonic() - began
