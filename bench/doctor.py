"""``doctor``: a full run of all checks over many agents with rooms and messages."""

from __future__ import annotations

from typing import Any

from bench.measure import run_inside
from bench.registry import Options
from bench.results import Figure, Report
from bench.stubs.homeserver import StubHomeserver
from tests.peers.letta_stub import LettaStub
from tests.peers.postgres import Postgres
from tests.peers.redis import Redis
from tests.peers.switchboard import Stack

FEW = 100
MESSAGES_EACH = 3


def run(options: Options) -> Report:
    """The same on PostgreSQL and on SQLite, each with few agents (for the number of queries) and with many."""
    many, runs = options.pick((2_000, 3), (10_000, 5))
    report = Report("doctor", sizes={"agents": many, "few": FEW, "messages_each": MESSAGES_EACH, "runs": runs})
    with Postgres() as postgres, Redis() as redis:
        with postgres.connect("postgres") as connection:
            report.versions["postgresql"] = connection.execute("show server_version").fetchone()[0]
        report.versions["redis-server"] = str(redis.client().info()["redis_version"])
        for kind in ("PostgreSQL", "SQLite"):
            found = {}
            for agents in (FEW, many):
                address = postgres.create_database(f"d{agents}") if kind == "PostgreSQL" else ""
                found[agents] = _measure(agents, runs, address, redis.url if address else "")
            report.figures += _figures(kind, found[FEW], found[many])
            report.raw[kind] = found
    return report


def _measure(agents: int, runs: int, database_url: str, redis_url: str) -> list[dict[str, Any]]:
    with StubHomeserver() as homeserver, LettaStub(agents=agents) as letta:
        stack = Stack(
            homeserver_url=homeserver.url,
            database_url=database_url,
            redis_url=redis_url,
            settings={"LETTA_BASE_URL": letta.url},
        )
        stack.prepare()
        run_inside("map_agents", stack.environment)
        run_inside("doctor_run", stack.environment, step="talk", each=MESSAGES_EACH)
        found: list[dict[str, Any]] = run_inside("doctor_run", stack.environment, step="examine", runs=runs)
    return found


def _figures(kind: str, few: list[dict[str, Any]], many: list[dict[str, Any]]) -> list[Figure]:
    more = {
        name: (number, few[-1]["statements"].get(name, 0))
        for name, number in many[-1]["statements"].items()
        if number > few[-1]["statements"].get(name, 0)
    }
    # The first run opens connections and reads everything once; what comes on top of it later would be a leak.
    growth = many[-1]["peak_mb"] - many[0]["peak_mb"]
    return [
        Figure(
            f"{kind}: a full run of {many[-1]['checks']} outcomes", max(one["seconds"] for one in many), "s", target=30
        ),
        Figure(f"{kind}: checks with more queries than over {FEW} agents", len(more), target=0, sense="=="),
        Figure(f"{kind}: peak memory of the process", many[-1]["peak_mb"], "MB", target=300),
        Figure(f"{kind}: memory that later runs add to the first", growth, "MB", target=15),
    ]
