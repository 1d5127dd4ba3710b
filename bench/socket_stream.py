"""``socket.stream``: many answers at 30 words a second at once, each followed by a socket of its own."""

from __future__ import annotations

from bench.measure import cpu_seconds, percentile, run_inside, spread
from bench.registry import Options
from bench.results import Figure, Report
from bench.socket_parts import Clients, running_house

RATE = 30
FRAMES = 20
WORKERS = 2


def run(options: Options) -> Report:
    """Everybody asks at the same moment. The floor publishes as many frames of words as we do at most, to a minimal application."""
    streams, seconds = options.pick((20, 10), (200, 20))
    words = RATE * seconds
    report = Report("socket.stream", sizes={"streams": streams, "words a second": RATE, "seconds": seconds})
    # A worker keeps some of its threads free.
    with running_house(report, threads=WORKERS * (streams // WORKERS + 16), workers=WORKERS) as house:
        warm = run_inside("socket_rows", house.stack.environment, sockets=4, words=5, rate=RATE)
        Clients("follow", house.web.url, sockets=warm, words=5, rounds=0).result()
        sockets = run_inside("socket_rows", house.stack.environment, sockets=streams, words=words, rate=RATE)
        before = cpu_seconds(house.web.pid)
        found = Clients("follow", house.web.url, sockets=sockets, words=words, rounds=0).result()
        cpu = cpu_seconds(house.web.pid) - before
        clients = Clients("floor", house.floor.url, sockets=streams, words=words)
        clients.ready()
        run_inside("socket_floor", house.stack.environment, groups=streams, words=words, rate=RATE, a_frame=FRAMES)
        floor = clients.result()
    allowed = 1.3 * found["text"] + 40 * found["frames"]
    ages = found["ages"]
    report.figures = [
        Figure("answers with a word lost, doubled or changed", found["wrong"], target=0, sense="=="),
        Figure("age of a word when it is read, p99", percentile(ages, 0.99), "ms", percentile(floor["ages"], 0.99), 250, of_ratio=False),
        Figure("the same, p50", percentile(ages, 0.5), "ms", percentile(floor["ages"], 0.5)),
        Figure("bytes (floor: 1.3 x text + 40 a frame)", found["bytes"] / 1024, "KB", allowed / 1024, 1.0),
        Figure("frames a second", found["frames"] / found["seconds"], "/s"),
        Figure("processor time of the web process a frame", cpu * 1000 / max(1, found["frames"]), "ms"),
    ]  # fmt: skip
    report.notes = [
        f"Words are published {FRAMES} times a second at most: up to {1000 // FRAMES} ms of a word's age is that."
    ]
    report.raw = {"ages": spread(ages), "floor": spread(floor["ages"]), "found": {**found, "ages": [], "firsts": spread(found["firsts"])}}  # fmt: skip
    return report
