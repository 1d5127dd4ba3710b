"""What the socket's benchmarks have in common: the processes, and clients in a process of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from bench.measure import PROJECT
from bench.results import Report
from tests.peers.base import free_port
from tests.peers.postgres import Postgres
from tests.peers.redis import Redis
from tests.peers.switchboard import Part, Stack


class WidePostgres(Postgres):
    """With a connection for each thread of many answers at once."""

    def command(self) -> list[str]:
        return [one.replace("max_connections=200", "max_connections=600") for one in super().command()]


class Server(Part):
    """daphne with an application of its own, at a port of its own."""

    def __init__(self, stack: Stack, name: str, application: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        super().__init__(
            stack, name, ["-m", "daphne", "-v", "0", "-b", "127.0.0.1", "-p", str(self.port), application]
        )  # fmt: skip

    def is_ready(self) -> bool:
        return httpx.get(f"{self.url}/livez", timeout=5).status_code == 200


@dataclass
class House:
    """The stack, Switchboard's web server, and the floor's."""

    stack: Stack
    web: Server
    floor: Server


@contextmanager
def running_house(report: Report, *, threads: int, workers: int = 1, floor: str = "application") -> Iterator[House]:
    """PostgreSQL, Redis, one web process, and workers that know the stamped words (none with ``threads`` 0)."""
    with WidePostgres() as postgres, Redis() as redis:
        with postgres.connect("postgres") as connection:
            report.versions["postgresql"] = connection.execute("show server_version").fetchone()[0]
        report.versions["redis-server"] = str(redis.client().info()["redis_version"])
        each = threads // workers or 1
        stack = Stack(
            database_url=postgres.create_database("bench"),
            redis_url=redis.url,
            settings={"WORKER_CONCURRENCY": str(each)},
        )
        stack.manage("migrate", "-v0")
        parts: list[Part] = [
            Server(stack, "web", "bench.inside.socket_web:application"),
            Server(stack, "floor", f"bench.inside.socket_floor:{floor}"),
        ]
        for number in range(workers if threads else 0):
            parts.append(Part(stack, f"worker{number}", ["-m", "bench.inside.socket_backend", str(each)]))
        try:
            for part in parts:
                part.start()
            yield House(stack, parts[0], parts[1])  # type: ignore[arg-type]
        finally:
            for part in reversed(parts):
                part.terminate()


class Clients:
    """Clients in a process of their own. ``ready`` waits until they have opened their sockets (where they say so)."""

    def __init__(self, what: str, url: str, **arguments: Any) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.inside.socket_client"],
            cwd=PROJECT, env=dict(os.environ), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"what": what, "url": url.replace("http", "ws", 1), **arguments}))
        self._process.stdin.close()

    def ready(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.strip() == "ready":
                return
        raise RuntimeError("the clients ended before they were ready")

    def result(self) -> Any:
        assert self._process.stdout is not None
        text = self._process.stdout.read()
        if self._process.wait(60):
            raise RuntimeError(f"the clients ended with {self._process.returncode}")
        return json.loads(text.rpartition("@@")[2])
