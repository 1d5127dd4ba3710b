"""``bridge.peers``: one message at a time: how long until the reply, in units of the time of a PUT; and what it costs us."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from bench.bridge import Person, Place, place
from bench.measure import cpu_seconds, median, spread
from bench.registry import Options
from bench.results import Figure, Report

ROOMS = 5


def run(options: Options) -> Report:
    """Messages through us and through a bare echo in turns, each after the reply to the one before."""
    messages = options.pick(60, 300)
    report = Report("bridge.peers", sizes={"messages": messages, "rooms": ROOMS})
    with place(report, ROOMS) as here:
        found = asyncio.run(_measure(here, messages))
    ratio = {
        who: median(one["reply_ms"] for one in found[who]) / median(one["put_ms"] for one in found[who])
        for who in found
    }
    report.figures = [
        Figure("message → reply in /sync, in PUTs", ratio["ours"], "", target=3.0),
        Figure("the same of a bare echo", ratio["echo"]),
        Figure("message → reply, median (floor: bare echo)", median(one["reply_ms"] for one in found["ours"]), "ms", median(one["reply_ms"] for one in found["echo"])),
        Figure("PUT of a message, median", median(one["put_ms"] for one in found["ours"]), "ms"),
        Figure("processor time a message (floor: bare echo)", _cpu(found["ours"]), "ms", _cpu(found["echo"]), 20, of_ratio=False),
    ]  # fmt: skip
    report.raw = {
        who: {key: spread([one[key] for one in of]) for key in ("reply_ms", "put_ms")} for who, of in found.items()
    }
    return report


def _cpu(found: list[dict[str, Any]]) -> float:
    return sum(one["cpu_ms"] for one in found) / len(found)


async def _measure(here: Place, messages: int) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {"ours": [], "echo": []}
    person = Person(here)
    async with person.session() as http:
        with person.reading(http):
            while not person.since:
                await asyncio.sleep(0.05)
            for number in range(messages + ROOMS):
                for who in found:
                    one = await _one(person, http, who, number)
                    # The first to each room opens conversations and connections.
                    if number >= ROOMS:
                        found[who].append(one)
    return found


async def _one(person: Person, http: Any, who: str, number: int) -> dict[str, Any]:
    rooms = person.place.rooms[who]
    pids = person.place.pids if who == "ours" else [person.place.echo.pid]
    person.replies.clear()
    cpu = cpu_seconds(*pids)
    said = await person.say(http, rooms[number % len(rooms)])
    if not await person.wait_for({said}, 30):
        raise RuntimeError(f"no reply within 30 s ({who})\n{person.place.stack.logs()}")
    at = next(at for _, reply, at in person.replies if reply == said)
    # What follows a reply (a last row, a receipt) belongs to it.
    await asyncio.sleep(0.1)
    return {
        "reply_ms": (at - person.said[said]) * 1000,
        "put_ms": person.put_ms[-1],
        "cpu_ms": (cpu_seconds(*pids) - cpu) * 1000,
        "at": time.monotonic(),
    }
