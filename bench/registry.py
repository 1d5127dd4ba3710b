"""Which benchmarks there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal

from bench.results import Report

Size = Literal["small", "full"]
Run = Callable[["Options"], Report]


@dataclass(frozen=True, slots=True)
class Options:
    """What a run was asked for. ``minutes`` lengthens a benchmark that looks for growth over time; 0 means its own length."""

    size: Size = "small"
    minutes: float = 0.0

    def pick(self, small: Any, full: Any) -> Any:
        """The value for this size."""
        return full if self.size == "full" else small


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One benchmark. ``module`` holds a function ``run(options) -> Report`` and is imported when it is run."""

    name: str
    what: str
    module: str
    function: str = "run"

    def load(self) -> Run:
        """The function that runs it."""
        run: Run = getattr(import_module(self.module), self.function)
        return run


@dataclass(slots=True)
class _Registry:
    known: dict[str, Benchmark] = field(default_factory=dict)

    def add(self, *benchmarks: Benchmark) -> None:
        for one in benchmarks:
            self.known[one.name] = one


REGISTRY = _Registry()
REGISTRY.add(
    Benchmark("sync.unchanged", "a pass over many mapped agents with nothing to do", "bench.sync_unchanged"),
    Benchmark("sync.create", "new agents to account, room and space on a real Synapse", "bench.sync_create"),
    Benchmark("sync.lazy", "agents without rooms on a real Synapse, and first contact", "bench.sync_lazy"),
    Benchmark("bridge.latency", "what we add between push, backend and send", "bench.bridge_latency"),
    Benchmark("bridge.throughput", "messages answered through a real Synapse", "bench.bridge_throughput"),
    Benchmark("bridge.peers", "time to the reply in PUTs, and CPU a message", "bench.bridge_peers"),
    Benchmark("turn.engine", "turns claimed and finished with a no-op backend", "bench.turn_engine"),
    Benchmark("socket.first_token", "a backend's first word until a browser has it", "bench.socket_first_token"),
    Benchmark("socket.stream", "many answers at once, word by word", "bench.socket_stream"),
    Benchmark("socket.idle", "many sockets that say nothing", "bench.socket_idle"),
    Benchmark("api.list", "a page of GET /api/v1/agents", "bench.api_list"),
    Benchmark("admin.lists", "the operator's pages among 10,000 agents", "bench.admin_lists"),
    Benchmark("doctor", "a full run of all checks over many agents", "bench.doctor"),
    Benchmark("backup", "a backup written and loaded, beside the databases' own tools", "bench.backup"),
    Benchmark("start", "`manage.py up` until it is ready", "bench.start"),
)


def names() -> list[str]:
    """All names, in the order in which ``all`` runs them."""
    return list(REGISTRY.known)


def get(name: str) -> Benchmark:
    """Raises ``KeyError`` for an unknown name."""
    return REGISTRY.known[name]
