"""Several web processes over PostgreSQL and Redis, with a worker and agents that need no server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.chat.socket.place import Place
from tests.peers.base import free_port
from tests.peers.postgres import Postgres
from tests.peers.redis import Redis
from tests.peers.switchboard import Part, Stack
from tests.support.prepared import database_with_tables


class AnotherWeb(Part):
    """One more daphne of a stack, at a port of its own; ``lossy`` see ``tests.chat.socket.lossy``."""

    def __init__(self, stack: Stack, number: int, lossy: str = "") -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.lossy = lossy
        application = "tests.chat.socket.lossy" if lossy else "controlplane.asgi"
        super().__init__(
            stack, f"web{number}",
            ["-m", "daphne", "-v", "0", "-b", "127.0.0.1", "-p", str(self.port), f"{application}:application"],
        )  # fmt: skip

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "LOSSY": self.lossy}

    def is_ready(self) -> bool:
        return httpx.get(f"{self.url}/livez", timeout=5).status_code == 200


class Scaled(Place):
    """``webs`` are the web processes; ``url`` is the first one's."""

    def __init__(self, stack: Stack, webs: list[AnotherWeb]) -> None:
        super().__init__(webs[0].url, stack.environment)
        self.stack, self.webs = stack, webs


@contextmanager
def running_scaled(
    postgres: Postgres, redis: Redis, *, database: str, lossy: tuple[str, ...] = ("", "")
) -> Iterator[Scaled]:
    """A stack with a web process for each entry of ``lossy``."""
    redis.client().flushall()
    postgres.drop_database(database)
    stack = Stack(
        database_url=database_with_tables(postgres, database), redis_url=redis.url, settings={"DEMO_AGENTS": "true"}
    )
    stack.prepare()
    stack.manage("sync_agents", check=False)
    webs = [AnotherWeb(stack, number, one) for number, one in enumerate(lossy, 1)]
    parts: list[Part] = [*webs, *stack.workers, stack.beat]
    place: Scaled | None = None
    try:
        for part in parts:
            part.start()
        place = Scaled(stack, webs)
        yield place
    finally:
        if place is not None:
            place.stop()
        for part in parts:
            part.stop()
