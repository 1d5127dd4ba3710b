"""Clients of the socket in a process of their own: those who follow an answer, and those who do nothing."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from bench.inside.socket_backend import WRAP
from bench.measure import answer

_OPEN_AT_ONCE = 50


def _now() -> int:
    return time.monotonic_ns() // 1000 % WRAP


def _age(word: str) -> float:
    """How old a stamped word is, in ms."""
    return (_now() - int(word, 16)) % WRAP / 1000


async def _open(url: str, gate: asyncio.Semaphore) -> ClientConnection:
    async with gate:
        return await connect(url, compression=None, max_size=None, open_timeout=120, ping_interval=None, proxy=None)


class Follower:
    """One socket that asks and follows the answer."""

    def __init__(self) -> None:
        self.first = 0.0
        self.ages: list[float] = []
        self.text = ""
        self.bytes = self.frames = 0
        self.wrong = 0

    async def begin(self, url: str, ticket: str, conversation: int, gate: asyncio.Semaphore) -> None:
        self.socket = await _open(f"{url}/ws?ticket={ticket}", gate)
        self.conversation = conversation
        await self.socket.send(
            json.dumps({"type": "subscribe", "id": 1, "conversation": conversation, "compact": True})
        )
        while json.loads(await self.socket.recv()).get("type") != "subscribed":
            pass

    async def ask(self, words: int, number: int = 0) -> None:
        await self.socket.send(
            json.dumps(
                {
                    "type": "send",
                    "id": 2,
                    "conversation": self.conversation,
                    "client_id": f"b{self.conversation}-{number}",
                    "text": f"Go on with {self.conversation}",
                }
            )
        )
        self.text, first = "", True
        while True:
            raw = await asyncio.wait_for(self.socket.recv(), 120)
            frame = json.loads(raw)
            kind = frame.get("type")
            if kind is None or kind == "delta":
                offset, text = (frame["o"], frame["d"]) if kind is None else (frame["offset"], frame["text"])
                self.wrong += offset != len(self.text)
                # White space at the end of a piece waits for what follows: the last word may be cut from its blank.
                if first:
                    self.first, first = _age(text.split()[0]), False
                self.ages += [_age(word) for word in text.split()]
                self.text += text
                self.frames += 1
                # Text frames of fewer than 126 bytes have a header of two.
                self.bytes += len(raw) + (2 if len(raw) < 126 else 4)
            elif kind == "ping":
                await self.socket.send('{"type":"pong"}')
            elif kind == "error":
                raise RuntimeError(frame)
            elif kind == "turn" and frame["final"]:
                self.wrong += frame["length"] != len(self.text) or len(self.text.split()) != words
                return


async def follow(url: str, sockets: list[tuple[str, int]], words: int, rounds: int) -> Any:
    """Every socket asks at the same moment; or, in more rounds, one after the other."""
    gate = asyncio.Semaphore(_OPEN_AT_ONCE)
    followers = [Follower() for _ in sockets]
    await asyncio.gather(
        *(one.begin(url, ticket, place, gate) for one, (ticket, place) in zip(followers, sockets, strict=True))
    )
    firsts: list[float] = []
    began = time.monotonic()
    if rounds:
        for number in range(rounds):
            one = followers[number % len(followers)]
            await one.ask(words, number)
            firsts.append(one.first)
    else:
        await asyncio.gather(*(one.ask(words) for one in followers))
        firsts = [one.first for one in followers]
    seconds = time.monotonic() - began
    ages = sorted(age for one in followers for age in one.ages)
    return {
        "firsts": firsts,
        "ages": ages[:: max(1, len(ages) // 5000)] + ages[-1:],
        "words": len(ages),
        "wrong": sum(one.wrong for one in followers),
        "bytes": sum(one.bytes for one in followers),
        "frames": sum(one.frames for one in followers),
        "text": sum(len(age) for age in [one.text for one in followers]) if not rounds else 0,
        "seconds": seconds,
    }


async def floor(url: str, sockets: int, words: int) -> Any:
    """The same from the minimal application: frames are the stamped words as they are."""
    gate = asyncio.Semaphore(_OPEN_AT_ONCE)
    opened = await asyncio.gather(*(_open(f"{url}/{number}", gate) for number in range(sockets)))
    print("ready", flush=True)
    ages: list[float] = []

    async def listen(socket: ClientConnection) -> int:
        got = 0
        while got < words:
            found = str(await socket.recv()).split()
            ages.extend(_age(word) for word in found)
            got += len(found)
        return got

    done = await asyncio.wait_for(asyncio.gather(*(listen(one) for one in opened)), 300)
    ages.sort()
    return {"ages": ages[:: max(1, len(ages) // 5000)] + ages[-1:], "words": sum(done)}


async def idle(url: str, tickets: list[str], seconds: float) -> Any:
    """Open them all, say that they are there, and answer pings for so long; those that were opened first are listened to meanwhile."""
    gate = asyncio.Semaphore(_OPEN_AT_ONCE)
    pings = closed = 0

    async def listen(socket: ClientConnection) -> None:
        nonlocal pings, closed
        try:
            while True:
                if '"ping"' in str(await socket.recv()):
                    pings += 1
                    await socket.send('{"type":"pong"}')
        except asyncio.CancelledError:
            raise
        except Exception:
            closed += 1

    async def one(ticket: str) -> asyncio.Task[None]:
        socket = await _open(f"{url}/ws?ticket={ticket}" if ticket else f"{url}/0", gate)
        if ticket:
            assert '"welcome"' in str(await socket.recv())
        return asyncio.create_task(listen(socket))

    began = time.monotonic()
    tasks = await asyncio.gather(*(one(ticket) for ticket in tickets))
    opening = time.monotonic() - began
    print("ready", flush=True)
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return {"opened": len(tasks), "opening": opening, "pings": pings, "closed": closed}


if __name__ == "__main__":
    given = json.loads(sys.stdin.read())
    answer(asyncio.run(globals()[given.pop("what")](**given)))
