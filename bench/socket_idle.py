"""``socket.idle``: many authenticated sockets that say nothing, with the heartbeat on."""

from __future__ import annotations

from bench.measure import cpu_seconds, rss_mb, run_inside
from bench.registry import Options
from bench.results import Figure, Report
from bench.socket_parts import Clients, running_house

LISTENING = 45.0
FLOOR_LISTENING = 5.0


def run(options: Options) -> Report:
    """Memory of the web process before and after, for each socket. The floor is daphne with an application that only accepts."""
    sockets = options.pick(1_000, 10_000)
    report = Report("socket.idle", sizes={"sockets": sockets, "seconds": LISTENING})
    with running_house(report, threads=0, floor="idle_application") as house:
        # One socket loads what is loaded when needed, and is not counted.
        [(ticket, _)] = run_inside("socket_rows", house.stack.environment, sockets=1, conversations=False)
        Clients("idle", house.web.url, tickets=[ticket], seconds=3).result()
        rows = run_inside("socket_rows", house.stack.environment, sockets=sockets, conversations=False)
        before, began = rss_mb(house.web.pid), cpu_seconds(house.web.pid)
        clients = Clients("idle", house.web.url, tickets=[row[0] for row in rows], seconds=LISTENING)
        clients.ready()
        opened = cpu_seconds(house.web.pid)
        found = clients.result()
        ours, cpu = rss_mb(house.web.pid) - before, cpu_seconds(house.web.pid) - opened
        Clients("idle", house.floor.url, tickets=[""], seconds=1).result()
        before = rss_mb(house.floor.pid)
        clients = Clients("idle", house.floor.url, tickets=[""] * sockets, seconds=FLOOR_LISTENING)
        clients.ready()
        floor = rss_mb(house.floor.pid) - before
        clients.result()
    report.figures = [
        Figure("memory of a socket (floor: accepted only)", ours * 1024 / sockets, "KB", floor * 1024 / sockets, 60, of_ratio=False),
        Figure("sockets that were closed", found["closed"], target=0, sense="=="),
        Figure("pings a socket was sent", found["pings"] / sockets, target=1, sense=">="),
        Figure("processor time of a second, all sockets", cpu / LISTENING * 1000, "ms"),
        Figure("opened and known", found["opened"] / found["opening"], "/s"),
        Figure("processor time of opening one", (opened - began) * 1000 / sockets, "ms"),
    ]  # fmt: skip
    report.raw = {"found": found}
    return report
