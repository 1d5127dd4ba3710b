"""``bridge.latency``: what we add between the homeserver's push and the backend, and between the backend and the send."""

from __future__ import annotations

import time
from typing import Any

from bench.measure import cpu_seconds, percentile, run_inside, spread
from bench.registry import Options
from bench.results import Figure, Report
from bench.stubs.homeserver import StubHomeserver
from bench.stubs.letta import StampedLetta
from tests.peers.postgres import Postgres
from tests.peers.redis import Redis
from tests.peers.switchboard import Stack

RATE = 10.0


def run(options: Options) -> Report:
    """Scaled mode: PostgreSQL, Redis, daphne, one worker, beat; the homeserver and Letta are stand-ins that stamp."""
    rooms, seconds = options.pick((50, 20), (500, 120))
    report = Report("bridge.latency", sizes={"rooms": rooms, "messages a second": RATE, "seconds": seconds})
    with Postgres() as postgres, Redis() as redis, StubHomeserver() as homeserver, StampedLetta(agents=rooms) as letta:
        with postgres.connect("postgres") as connection:
            report.versions["postgresql"] = connection.execute("show server_version").fetchone()[0]
        report.versions["redis-server"] = str(redis.client().info()["redis_version"])
        stack = Stack(
            homeserver_url=homeserver.url,
            database_url=postgres.create_database("bench"),
            redis_url=redis.url,
            settings={"LETTA_BASE_URL": letta.url},
        )
        stack.prepare()
        run_inside("map_agents", stack.environment)
        with stack:
            names = _room_ids(postgres)
            _wait_until_walked(postgres, stack)
            order: dict[str, Any] = {"url": stack.url, "hs_token": stack.hs_token, "rooms": names, "rate": RATE}
            # Once to every room: conversations are opened, connections made. Not counted.
            first = homeserver.load(**{**order, "rate": 25}, each_room=True, seconds=rooms / 25, first=1)
            pids = [part.pid for part in stack.parts]
            before = cpu_seconds(*pids)
            said = homeserver.load(**order, seconds=seconds, first=100_000)
            cpu = (cpu_seconds(*pids) - before) * 1000 / len(said)
            asked = letta.stamps()
    found = _hops(said, asked)
    report.figures = [
        Figure("push begun → request at the backend, p50", percentile(found["in"], 0.5), "ms", target=20),
        Figure("push begun → request at the backend, p99", percentile(found["in"], 0.99), "ms", target=100),
        Figure("backend's last byte → send at the homeserver, p50", percentile(found["out"], 0.5), "ms", target=20),
        Figure("backend's last byte → send at the homeserver, p99", percentile(found["out"], 0.99), "ms", target=100),
        Figure("messages without exactly one reply", found["wrong"], target=0, sense="=="),
        Figure("push begun → answered with 200, p50", percentile(found["answered"], 0.5), "ms"),
        Figure("processor time of our processes a message", cpu, "ms"),
    ]
    report.raw = {name: spread(values) for name, values in found.items() if isinstance(values, list)}
    report.raw["first contact"] = {
        name: spread(values) for name, values in _hops(first, asked).items() if isinstance(values, list)
    }
    return report


def _room_ids(postgres: Postgres) -> list[str]:
    with postgres.connect("bench") as connection:
        return [
            row[0] for row in connection.execute("select room_id from agents_room where kind = 'agent' order by id")
        ]


def _wait_until_walked(postgres: Postgres, stack: Stack, seconds: float = 120) -> None:
    """After a start every room is looked through once for what may have been missed; that is not what is measured."""
    limit = time.monotonic() + seconds
    with postgres.connect("bench") as connection:
        while time.monotonic() < limit:
            row = connection.execute(
                "select (select coalesce(max(number), 0) from chat_intakeepoch), "
                "(select min(caught_up_epoch) from agents_room where kind = 'agent')"
            ).fetchone()
            if row and row[0] > 1 and row[1] >= row[0]:
                return
            time.sleep(0.2)
    raise RuntimeError(f"the rooms were not walked within {seconds:g} s\n{stack.logs()}")


def _hops(said: list[dict[str, Any]], asked: dict[int, list[tuple[float, float]]]) -> dict[str, Any]:
    """Milliseconds of both hops for every message, and how many did not have one request and one reply."""
    into, out, answered, wrong = [], [], [], 0
    for one in said:
        requests, sends = asked.get(one["number"], []), one.get("sent", [])
        wrong += len(requests) != 1 or len(sends) != 1
        if requests and sends:
            into.append((requests[0][0] - one["pushed"]) * 1000)
            out.append((sends[0] - requests[-1][1]) * 1000)
            answered.append((one["answered"] - one["pushed"]) * 1000)
    return {"in": into, "out": out, "answered": answered, "wrong": wrong}
