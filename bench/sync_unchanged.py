"""``sync.unchanged``: a pass over many mapped agents with nothing to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bench.measure import median, run_inside
from bench.registry import Options
from bench.results import Figure, Report
from bench.stubs.homeserver import StubHomeserver
from tests.peers.letta_stub import LettaStub
from tests.peers.postgres import Postgres
from tests.peers.redis import Redis
from tests.peers.switchboard import Stack

OWN_TABLE = "agents_syncrun"
FEW = 100


def run(options: Options) -> Report:
    """The same on PostgreSQL and on SQLite, each with few agents (for the number of queries) and with many."""
    many, passes = options.pick((2_000, 5), (10_000, 5))
    report = Report("sync.unchanged", sizes={"agents": many, "few": FEW, "passes": passes})
    with Postgres() as postgres, Redis() as redis:
        with postgres.connect("postgres") as connection:
            report.versions["postgresql"] = connection.execute("show server_version").fetchone()[0]
        report.versions["redis-server"] = str(redis.client().info()["redis_version"])
        for kind in ("PostgreSQL", "SQLite"):
            found = {}
            for agents in (FEW, many):
                address = postgres.create_database(f"b{agents}") if kind == "PostgreSQL" else ""
                found[agents] = _measure(agents, passes, address, redis.url if address else "")
            report.figures += _figures(kind, found[FEW], found[many])
            report.raw[kind] = found
    return report


@contextmanager
def _place(agents: int, database_url: str, redis_url: str) -> Iterator[tuple[Stack, StubHomeserver, LettaStub]]:
    with StubHomeserver() as homeserver, LettaStub(agents=agents) as letta:
        stack = Stack(
            homeserver_url=homeserver.url,
            database_url=database_url,
            redis_url=redis_url,
            settings={"LETTA_BASE_URL": letta.url},
        )
        stack.prepare()
        yield stack, homeserver, letta


def _measure(agents: int, passes: int, database_url: str, redis_url: str) -> dict[str, Any]:
    with _place(agents, database_url, redis_url) as (stack, homeserver, letta):
        run_inside("map_agents", stack.environment)
        homeserver.counts(clear=True)
        found: dict[str, Any] = run_inside("sync_pass", stack.environment, letta=letta.url, passes=passes + 1)
        found["homeserver"] = homeserver.counts()
    for one in found["rounds"]:
        if one["planned"] or one["findings"] or one["state"] != "done":
            raise RuntimeError(f"The pass was to find nothing to do, but: {one}")
    # The first opens connections, which a worker has open.
    found["rounds"] = found["rounds"][1:]
    return found


def _figures(kind: str, few: dict[str, Any], many: dict[str, Any]) -> list[Figure]:
    rounds = many["rounds"]
    foreign = sum(
        number
        for one in rounds
        for name, number in one["statements"].items()
        if not name.startswith("SELECT") and name.split()[1] != OWN_TABLE
    )
    queries = [max(sum(one["statements"].values()) for one in found["rounds"]) for found in (few, many)]
    ratios = [one["seconds"] / one["pages_alone"] for one in rounds]
    nearest = min(rounds, key=lambda one: abs(one["seconds"] / one["pages_alone"] - median(ratios)))
    return [
        Figure(f"{kind}: writes to the homeserver", many["homeserver"]["writes"], target=0, sense="=="),
        Figure(f"{kind}: writes besides the run's own row", foreign, target=0, sense="=="),
        Figure(f"{kind}: queries (floor: with {FEW} agents)", queries[1], floor=queries[0], target=1, sense="=="),
        Figure(f"{kind}: peak memory of the process", many["peak_mb"], "MB", target=300),
        Figure(
            f"{kind}: a pass (floor: the pages alone)",
            nearest["seconds"],
            "s",
            floor=nearest["pages_alone"],
            target=3.0,
        ),
    ]
