"""``bridge.throughput``: messages answered through a real Synapse, in turns with a bare echo on the same server."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from itertools import pairwise
from typing import Any

from bench.bridge import Person, Place, place
from bench.measure import cpu_seconds, median, rss_mb
from bench.registry import Options
from bench.results import Figure, Report

ROOMS, MESSAGES = 20, 10


def run(options: Options) -> Report:
    """Rounds of 20 rooms x 10 messages, echo and ours in turns; ``--minutes`` goes on and watches the memory."""
    rounds = options.pick(2, 5)
    report = Report("bridge.throughput", sizes={"rooms": ROOMS, "messages in each": MESSAGES, "rounds": rounds})
    with place(report, ROOMS) as here:
        found = asyncio.run(_measure(here, rounds, options.minutes * 60))
    ours, echo = (median(one["rate"] for one in found[who]) for who in ("ours", "echo"))
    of_ours = found["ours"] + found["long"]
    report.figures = [
        Figure("replies through Switchboard (floor: bare echo)", ours, "/s", echo, 0.9, ">="),
        Figure("messages lost", sum(one["lost"] for one in of_ours), target=0, sense="=="),
        Figure("replies doubled", sum(one["doubled"] for one in of_ours), target=0, sense="=="),
        Figure("replies out of order", sum(one["inversions"] for one in of_ours), target=0, sense="=="),
        Figure("processor time of our processes a message", median(one["cpu_ms"] for one in found["ours"]), "ms"),
    ]
    if found["long"]:
        # The first fifth fills caches and opens connections.
        memory = [one["memory_mb"] for one in found["long"]]
        settled = memory[len(memory) // 5]
        report.sizes["minutes"] = options.minutes
        report.figures.append(
            Figure(
                f"memory after {sum(one['messages'] for one in found['long'])} more messages (floor: after a fifth of them)",
                memory[-1],
                "MB",
                settled,
                1.1,
            )
        )
    report.raw = found
    return report


async def _measure(here: Place, rounds: int, seconds: float) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {"ours": [], "echo": [], "long": []}
    person = Person(here)
    async with person.session() as http:
        with person.reading(http):
            await person.wait_for(set(), 10)
            while not person.since:
                await asyncio.sleep(0.05)
            for who in ("ours", "echo"):
                await _round(person, http, who, 1)
            for number in range(rounds):
                for who in ("ours", "echo") if number % 2 else ("echo", "ours"):
                    found[who].append(await _round(person, http, who, MESSAGES))
            limit = time.monotonic() + seconds
            while time.monotonic() < limit:
                found["long"].append(await _round(person, http, "ours", MESSAGES))
    return found


async def _round(person: Person, http: Any, who: str, messages: int) -> dict[str, Any]:
    """Everybody at once: each room's messages one after the other, not waiting for replies."""
    rooms, pids = person.place.rooms[who], person.place.pids
    person.replies.clear()
    cpu, began = cpu_seconds(*pids), time.monotonic()

    async def talk(room: str) -> tuple[str, list[int]]:
        return room, [await person.say(http, room) for _ in range(messages)]

    said = dict(await asyncio.gather(*(talk(room) for room in rooms)))
    wanted = {number for numbers in said.values() for number in numbers}
    await person.wait_for(wanted, 60)
    seconds = max((at for _, number, at in person.replies if number in wanted), default=time.monotonic()) - began
    # A reply that comes twice comes soon after.
    await asyncio.sleep(0.5)
    got = Counter(number for _, number, _ in person.replies if number in wanted)
    inversions = 0
    for room, numbers in said.items():
        order = [number for where, number, _ in person.replies if where == room and number in numbers]
        inversions += sum(first > second for first, second in pairwise(order))
    return {
        "messages": len(wanted),
        "rate": len(got) / seconds,
        "lost": len(wanted) - len(got),
        "doubled": sum(count - 1 for count in got.values()),
        "inversions": inversions,
        "cpu_ms": (cpu_seconds(*pids) - cpu) * 1000 / len(wanted),
        "memory_mb": rss_mb(*pids),
    }
