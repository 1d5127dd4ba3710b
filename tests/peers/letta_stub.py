"""A stand-in for Letta's V1 REST for fault tests and benchmarks: real paging, true event shapes, a ledger, faults on demand.

``python -m tests.peers.letta_stub --port N --agents 120``, or ``LettaStub(agents=120)``.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import httpx
from aiohttp import web

from .letta_routes import Routes
from .letta_world import World
from .stub import Ledger, StubPeer, serve


class LettaStub(StubPeer):
    """The stand-in as a process. Through a ``kill9`` it keeps nothing but the ledger.

    The agents are the same after a restart (their ids are counted), their conversations and messages are gone.
    """

    name = "letta-stub"
    module = "tests.peers.letta_stub"

    def __init__(self, agents: int = 0, password: str = "", folder: Path | None = None) -> None:
        arguments = ["--agents", str(agents), *(["--password", password] if password else [])]
        super().__init__(folder, arguments)
        self.first_agents = agents
        self.password = password

    def control(self, **changes: Any) -> dict[str, Any]:
        """Change faults and agents; see ``letta_world.Faults`` and ``Routes.control``. Returns the state after it."""
        answer = httpx.post(f"{self.url}/control", json=changes, timeout=30)
        if answer.status_code != 200:
            raise ValueError(answer.json()["detail"])
        state: dict[str, Any] = answer.json()
        return state

    def reset(self, agents: int | None = None) -> None:
        """As just started: no faults, an empty ledger, ``agents`` agents (as many as at first when not given)."""
        self.control(fresh=self.first_agents if agents is None else agents)
        self.clear_ledger()

    def agent_ids(self) -> list[str]:
        """All ids, oldest first, past every fault."""
        ids: list[str] = httpx.get(f"{self.url}/control/agents", timeout=30).raise_for_status().json()
        return ids

    def accepted(self) -> list[dict[str, Any]]:
        """The inputs that agents were really given, in order, from the ledger's file: what exactly-once tests count."""
        return [entry for entry in self.ledger_lines() if entry["accepted"]]


def build(options: argparse.Namespace) -> web.Application:
    """The application for ``python -m tests.peers.letta_stub --port N``."""
    ledger, world = Ledger(options.ledger), World(options.agents)
    # What was taken before a kill is still known as taken.
    world.taken_otids.update(entry["otid"] for entry in ledger.entries if entry["accepted"] and entry["otid"])
    return Routes(world, ledger, options.password).application()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A stand-in for Letta's V1 REST.")
    parser.add_argument("--agents", type=int, default=3, help="how many agents there are (up to 10,000 is quick)")
    parser.add_argument("--password", default="", help="ask for this password")
    serve(build, parser)
