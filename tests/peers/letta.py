"""A real Letta 0.16.8 (V1 REST) with its own PostgreSQL; its model is whatever speaks OpenAI's protocol at ``model_base_url``."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from .base import Peer, PeerError, free_port
from .install import ensure_letta
from .postgres import Postgres
from .redis import Redis

MODEL = "openai-proxy/gpt-4o-mini"
EMBEDDING = "openai/text-embedding-3-small"
_DATABASE = "letta"

# The wheel carries no migrations, so the tables are made from the models. The sequence is what the migrations would add:
# without it two messages get the same number and creation answers 409.
_MAKE_TABLES = """
import importlib, os, pkgutil, sqlalchemy, letta.orm
from letta.orm.base import Base
for module in pkgutil.iter_modules(letta.orm.__path__):
    importlib.import_module("letta.orm." + module.name)
engine = sqlalchemy.create_engine(os.environ["TABLES_URL"])
Base.metadata.create_all(engine)
with engine.begin() as connection:
    connection.execute(sqlalchemy.text("create sequence if not exists message_seq_id"))
    connection.execute(sqlalchemy.text(
        "alter table messages alter column sequence_id set default nextval('message_seq_id')"))
"""


class Letta(Peer):
    """One server, as its official image runs it.

    Without ``with_redis`` it has no conversation locks (no 409), no background runs and recognises no repeated otid.
    """

    name = "letta"
    ready_seconds = 500.0

    def __init__(
        self,
        model_base_url: str,
        password: str | None = None,
        *,
        with_redis: bool = True,
        folder: Path | None = None,
    ) -> None:
        super().__init__(folder)
        self.model_base_url = model_base_url
        self.password = password
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.postgres = Postgres(self.folder / "postgres")
        self.redis = Redis(self.folder / "redis") if with_redis else None
        # Its database is another user's when we are root, who must be able to walk there.
        self.folder.chmod(0o755)

    def prepare(self) -> None:
        self._bin = ensure_letta() / "bin"
        (self.folder / "home").mkdir(exist_ok=True)
        self.postgres.start()
        if self.redis:
            self.redis.start()
        self.postgres.create_database(_DATABASE)
        with self.postgres.connect(_DATABASE) as connection:
            connection.execute("create extension if not exists vector")
        self._make_tables()

    def _make_tables(self) -> None:
        done = subprocess.run(
            [str(self._bin / "python"), "-c", _MAKE_TABLES],
            env={**os.environ, **self.environment()},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        if done.returncode:
            raise PeerError(f"Letta's tables could not be made: {done.stderr[-1500:]}")

    def environment(self) -> dict[str, str]:
        settings = {
            "HOME": str(self.folder / "home"),
            "LETTA_DIR": str(self.folder / "home" / ".letta"),
            "OPENAI_API_KEY": "sk-stub",
            "OPENAI_BASE_URL": self.model_base_url,
            "LETTA_PG_URI": self.postgres.sqlalchemy_url(_DATABASE),
            "LETTA_DISABLE_TRACING": "true",
            "TABLES_URL": f"postgresql+psycopg2://postgres@/{_DATABASE}?host={self.postgres.socket_folder}",
        }
        if self.password:
            settings["LETTA_SERVER_PASSWORD"] = self.password
        if self.redis:
            settings |= {"LETTA_REDIS_HOST": "127.0.0.1", "LETTA_REDIS_PORT": str(self.redis.port)}
        return settings

    def command(self) -> Sequence[str]:
        secure = ["--secure"] if self.password else []
        script = str(self._bin / "letta")
        return [str(self._bin / "python"), script, "server", "--host", "127.0.0.1", "--port", str(self.port), *secure]

    def start(self) -> Letta:
        if self._prepared:
            self.postgres.start()
            if self.redis:
                self.redis.start()
        return super().start()

    def stop(self) -> None:
        self.terminate()
        if self.redis:
            self.redis.stop()
        self.postgres.stop()
        super().stop()

    def is_ready(self) -> bool:
        return httpx.get(f"{self.url}/v1/health/", timeout=2).status_code == 200

    def client(self) -> httpx.Client:
        """An HTTP client with the password, for what has no method here."""
        headers = {"Authorization": f"Bearer {self.password}"} if self.password else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=240)

    def _call(self, method: str, path: str, **kw: Any) -> Any:
        with self.client() as client:
            answer = client.request(method, path, **kw)
        if answer.status_code >= 400:
            raise PeerError(f"Letta refused {method} {path}: {answer.status_code} {answer.text[:800]}")
        return answer.json() if answer.content else None

    def create_agent(self, name: str = "", **kw: Any) -> dict[str, Any]:
        """Make one agent and return its state as Letta gives it. ``kw`` goes into the request's body."""
        body = {
            "name": name or f"Agent {secrets.token_hex(3)}",
            "model": MODEL,
            "embedding": EMBEDDING,
            "memory_blocks": [{"label": "human", "value": ""}, {"label": "persona", "value": "A test agent."}],
            "include_base_tools": False,
            **kw,
        }
        found: dict[str, Any] = self._call("POST", "/v1/agents/", json=body)
        return found

    def create_agents(self, count: int, prefix: str = "Agent") -> list[dict[str, Any]]:
        """``count`` agents named ``prefix 001`` and so on, oldest first."""
        return [self.create_agent(f"{prefix} {number:03d}") for number in range(1, count + 1)]

    def rename_agent(self, agent_id: str, name: str) -> None:
        """Give the agent another name."""
        self._call("PATCH", f"/v1/agents/{agent_id}", json={"name": name})

    def delete_agent(self, agent_id: str) -> None:
        """Remove the agent."""
        self._call("DELETE", f"/v1/agents/{agent_id}")

    def delete_all_agents(self) -> None:
        """Leave a server without agents to the next test."""
        while page := self._call("GET", "/v1/agents/", params={"limit": 50}):
            for agent in page:
                self.delete_agent(agent["id"])
