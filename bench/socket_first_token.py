"""``socket.first_token``: from the backend's first word in a worker until the client has it, through worker, Redis, web process and socket."""

from __future__ import annotations

from bench.measure import median, percentile, run_inside, spread
from bench.registry import Options
from bench.results import Figure, Report
from bench.socket_parts import Clients, running_house

SOCKETS = 4


def run(options: Options) -> Report:
    """Questions one after the other. The floor is a word that is published to the layer and passed on by a minimal application."""
    rounds = options.pick(60, 500)
    report = Report("socket.first_token", sizes={"questions": rounds, "sockets": SOCKETS})
    with running_house(report, threads=8) as house:
        sockets = run_inside("socket_rows", house.stack.environment, sockets=SOCKETS, words=3, rate=50)
        # The first ones open connections and load what is loaded when needed; they are not counted.
        found = Clients("follow", house.web.url, sockets=sockets, words=3, rounds=rounds + 10).result()
        clients = Clients("floor", house.floor.url, sockets=1, words=rounds)
        clients.ready()
        run_inside("socket_floor", house.stack.environment, groups=1, words=rounds, rate=10, a_frame=10)
        floor = clients.result()
    firsts = found["firsts"][10:]
    report.figures = [
        Figure("first word, p50 (floor: passed on)", median(firsts), "ms", median(floor["ages"]), 5, of_ratio=False),
        Figure("first word, p99", percentile(firsts, 0.99), "ms", percentile(floor["ages"], 0.99), 30, of_ratio=False),
        Figure("answers that were wrong", found["wrong"], target=0, sense="=="),
    ]
    report.notes = [
        "The backend is a generator in the worker that thinks for 150 ms: reading a server's own stream is not in it."
    ]
    report.raw = {"firsts": spread(firsts), "floor": spread(floor["ages"])}
    return report
