"""A backend that answers at once, and the worker that knows it."""

from __future__ import annotations

import atexit
import json
import os
import secrets
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from agents.backends.base import (
    AgentInfo,
    AgentListing,
    Health,
    MemoryBlock,
    ReplyRequest,
    ServiceSpec,
    ShouldStop,
    Traits,
)
from agents.backends.chunks import Chunk, Finished, TextDelta
from agents.backends.errors import BackendRejected
from agents.backends.registry import register_backend

KIND = "bench-noop"
# As a server that keeps its agents' history and gives an agent one turn at a time.
TRAITS = Traits(keeps_history=True, exclusive=True)


class NoopBackend:
    """Answers ``ok``."""

    kind = KIND
    traits = TRAITS

    def __init__(self, spec: ServiceSpec) -> None:
        self.spec = spec

    def list_agents(self) -> AgentListing:
        return AgentListing([], True, "none")

    def get_agent(self, external_id: str) -> AgentInfo | None:
        return None

    def open_conversation(self, agent_external_id: str, *, title: str, key: str) -> str:
        return ""

    def stream_reply(self, request: ReplyRequest, *, should_stop: ShouldStop) -> Iterator[Chunk]:
        yield TextDelta("ok")
        yield Finished("end")

    def cancel(self, agent_external_id: str, run_ref: str, conversation_ref: str = "") -> None:
        return

    def health(self) -> Health:
        return Health(True, "Always well.")

    def read_memory(self, agent_external_id: str) -> Sequence[MemoryBlock]:
        return ()

    def write_memory(self, agent_external_id: str, label: str, value: str) -> MemoryBlock:
        raise BackendRejected("There is no memory.")

    def close(self) -> None:
        return


def register() -> None:
    """Make the kind known in this process."""
    register_backend(KIND, "bench.inside.noop_backend.NoopBackend", "Answers at once", TRAITS, needs_address=False)


def worker(number: str, concurrency: str) -> None:
    """A Celery worker that times its claims; it writes them to ``BENCH_CLAIMS`` when it ends."""
    import django

    django.setup()
    register()
    from chat.turns import claim
    from controlplane.celery import app

    taken: list[float] = []
    really = claim.claim_turn

    def timed(turn: Any) -> bool:
        began = time.monotonic()
        got = really(turn)
        if got:
            taken.append((time.monotonic() - began) * 1000)
        return got

    claim.claim_turn = timed
    path = Path(os.environ["BENCH_CLAIMS"]) / f"claims-{number}.json"
    atexit.register(lambda: path.write_text(json.dumps(taken)))
    name = f"bench{number}-{secrets.token_hex(3)}@%h"
    app.worker_main(["worker", "-P", "threads", "-c", concurrency, "-n", name, "--without-mingle", "--without-gossip"])


if __name__ == "__main__":
    worker(*sys.argv[1:])
