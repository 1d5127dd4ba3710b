"""``api.list``: a page of GET /api/v1/agents among many agents, against the bare query of the page."""

from __future__ import annotations

from typing import Any

from bench.measure import median, run_inside, spread
from bench.registry import Options
from bench.results import Figure, Report
from tests.peers.letta_stub import LettaStub
from tests.peers.postgres import Postgres
from tests.peers.switchboard import Stack

FEW = 300
# Nothing listens there: the rows only need a homeserver to belong to.
NOWHERE = "http://127.0.0.1:9"


def run(options: Options) -> Report:
    """The request goes through middleware, authentication and the view, without a socket; 200 rows a page."""
    many, rounds = options.pick((2_000, 100), (10_000, 400))
    report = Report("api.list", sizes={"agents": many, "few": FEW, "rows a page": 200, "requests": rounds})
    with Postgres() as postgres:
        with postgres.connect("postgres") as connection:
            report.versions["postgresql"] = connection.execute("show server_version").fetchone()[0]
        few, found = (_measure(postgres, agents, rounds) for agents in (FEW, many))
    report.figures = [
        Figure("a page (floor: bare values() query)", median(found["ours"]), "ms", median(found["floor"]), 1.5),
        Figure(f"queries (floor: with {FEW} agents)", found["queries"], floor=few["queries"], target=1, sense="=="),
        Figure("size of the answer", found["bytes"] / 1024, "KB"),
    ]
    report.raw = {name: spread(found[name]) for name in ("ours", "floor")}
    return report


def _measure(postgres: Postgres, agents: int, rounds: int) -> dict[str, Any]:
    with LettaStub(agents=agents) as letta:
        stack = Stack(
            homeserver_url=NOWHERE,
            database_url=postgres.create_database(f"api{agents}"),
            settings={"LETTA_BASE_URL": letta.url},
        )
        stack.prepare()
        run_inside("map_agents", stack.environment)
    with postgres.connect(f"api{agents}") as connection:
        connection.execute("vacuum analyze")
    found: dict[str, Any] = run_inside("api_list", stack.environment, rounds=rounds)
    return found
