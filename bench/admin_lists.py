"""``admin.lists``: every page of the admin about agents, the dashboard and the lists of the API, among many agents and among few."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from bench.measure import median, run_inside, spread
from bench.registry import Options
from bench.results import Figure, Report
from tests.peers.postgres import Postgres
from tests.peers.switchboard import Stack

FEW = 400
# Nothing listens there: the rows only need servers to belong to.
NOWHERE = "http://127.0.0.1:9"
SLOWEST = 1000.0


def run(options: Options) -> Report:
    """Requests go through middleware, views and templates, without a socket; on PostgreSQL and on SQLite."""
    many, rounds = options.pick((10_000, 2), (10_000, 5))
    report = Report("admin.lists", sizes={"agents": many, "few": FEW, "requests a page": rounds})
    with tempfile.TemporaryDirectory(prefix="sb-desk-") as folder, Postgres() as postgres:
        for kind in ("postgresql", "sqlite"):
            few, found = (_measure(postgres, kind, Path(folder), agents, rounds) for agents in (FEW, many))
            _tell(report, kind, few, found)
    return report


def _tell(report: Report, kind: str, few: dict[str, Any], found: dict[str, Any]) -> None:
    times = {name: median(one["ms"]) for name, one in found.items()}
    slowest = max(times, key=lambda name: times[name])
    more = [name for name, one in found.items() if one["queries"] > few[name]["queries"]]
    busiest = max(one["queries"] for one in found.values())
    report.figures += [
        Figure(f"{kind}: slowest of {len(times)} pages ({slowest})", times[slowest], "ms", target=SLOWEST),
        Figure(f"{kind}: median of all pages", median(times.values()), "ms"),
        Figure(f"{kind}: pages that ask more than among {FEW} agents", len(more), target=0, sense="=="),
        Figure(f"{kind}: most queries of a page", busiest),
    ]
    report.notes += [
        f"{kind}, {name}: {few[name]['queries']} queries among few, {found[name]['queries']} among many."
        for name in more
    ]
    report.raw[kind] = {
        name: {**spread(one["ms"]), "queries": one["queries"], "bytes": one["bytes"]} for name, one in found.items()
    }


def _measure(postgres: Postgres, kind: str, folder: Path, agents: int, rounds: int) -> dict[str, Any]:
    database = postgres.create_database(f"desk{agents}") if kind == "postgresql" else ""
    stack = Stack(
        homeserver_url=NOWHERE,
        database_url=database,
        settings={"LETTA_BASE_URL": NOWHERE},
        folder=folder / f"{kind}{agents}",
    )
    stack.prepare()
    run_inside("desk_rows", stack.environment, agents=agents)
    if database:
        with postgres.connect(f"desk{agents}") as connection:
            connection.execute("vacuum analyze")
    found: dict[str, Any] = run_inside("desk_pages", stack.environment, rounds=rounds)
    return found
