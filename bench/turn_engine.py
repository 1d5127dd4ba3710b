"""``turn.engine``: turns claimed and finished with a backend that answers at once; PostgreSQL, Redis, two workers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.measure import cpu_seconds, median, percentile, rss_mb, run_inside, spread
from bench.registry import Options
from bench.results import Figure, Report
from tests.peers.postgres import Postgres
from tests.peers.redis import Redis
from tests.peers.switchboard import Part, Stack

WORKERS, THREADS = 2, 24
CONVERSATIONS = 500


def run(options: Options) -> Report:
    """Fill the table, have turns done in several rounds, then time claims one by one."""
    finished, each, rounds = options.pick((100_000, 3, 3), (1_000_000, 6, 5))
    report = Report(
        "turn.engine", sizes={"finished": finished, "conversations": CONVERSATIONS, "turns": each * CONVERSATIONS}
    )
    report.sizes |= {"rounds": rounds, "workers": WORKERS, "threads": THREADS}
    with Postgres() as postgres, Redis() as redis:
        with postgres.connect("postgres") as connection:
            report.versions["postgresql"] = connection.execute("show server_version").fetchone()[0]
        report.versions["redis-server"] = str(redis.client().info()["redis_version"])
        stack = Stack(database_url=postgres.create_database("bench"), redis_url=redis.url)
        stack.environment["BENCH_CLAIMS"] = str(stack.folder)
        stack.manage("migrate", "-v0")
        filled = run_inside("turn_rows", stack.environment, step="fill", finished=finished, conversations=CONVERSATIONS)
        workers = [_worker(stack, str(number)) for number in range(WORKERS)]
        for worker in workers:
            worker.start()
        try:
            # The first round opens connections and is not counted.
            run_inside("turn_rows", stack.environment, step="work", each=1)
            found, cpu = _rounds(stack, [worker.pid for worker in workers], each, rounds)
            memory = rss_mb(*(worker.pid for worker in workers)) / WORKERS
        finally:
            for worker in workers:
                worker.terminate()
        alone = run_inside("turn_rows", stack.environment, step="claims", number=500)["ms"]
    busy = [ms for path in sorted(Path(stack.folder).glob("claims-*.json")) for ms in json.loads(path.read_text())]
    wrong = sum(one["turns"] - one["done"] for one in found)
    report.figures = [
        Figure("turns claimed and finished (median of the rounds)", median(one["turns"] / one["seconds"] for one in found), "/s", target=300, sense=">="),
        Figure("turns that were not finished", wrong, target=0, sense="=="),
        Figure(f"a claim with {filled['rows']:,} finished turns, p95", percentile(alone, 0.95), "ms", target=10),
        Figure("a claim in workers that are all busy, p95", percentile(busy, 0.95), "ms"),
        Figure("processor time of the workers a turn", cpu, "ms"),
        Figure("memory of a worker", memory, "MB"),
    ]  # fmt: skip
    report.raw = {"rounds": found, "claims_alone": spread(alone), "claims_busy": spread(busy), "filled": filled}
    return report


def _worker(stack: Stack, number: str) -> Part:
    part = Part(stack, f"bench-worker{number}", ["-m", "bench.inside.noop_backend", number, str(THREADS)])
    part.stop_seconds = 20.0
    return part


def _rounds(stack: Stack, pids: list[int], each: int, rounds: int) -> tuple[list[dict[str, Any]], float]:
    """What each round found, and the workers' processor time a turn in ms."""
    before = cpu_seconds(*pids)
    found = [run_inside("turn_rows", stack.environment, step="work", each=each) for _ in range(rounds)]
    return found, (cpu_seconds(*pids) - before) * 1000 / sum(one["turns"] for one in found)
