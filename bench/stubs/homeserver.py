"""A stand-in for a homeserver: counts what it is asked, pushes transactions like Synapse, stamps what comes back.

It answers every request of the client-server API that Switchboard makes, at once and always well. Stamps are of the machine's
monotonic clock, which all processes of a machine share.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import re
import time
from collections import Counter
from typing import Any

import aiohttp
import httpx
from aiohttp import web

from tests.peers.stub import StubPeer, serve

NUMBER = re.compile(r"#(\d+)#")
READING = frozenset({"GET", "HEAD"})


class StubHomeserver(StubPeer):
    """The stand-in as a process."""

    name = "stub-homeserver"
    module = "bench.stubs.homeserver"

    def is_ready(self) -> bool:
        return httpx.get(f"{self.url}/_matrix/client/versions", timeout=2).status_code == 200

    def counts(self, *, clear: bool = False) -> dict[str, Any]:
        """``{"writes": n, "reads": n, "kinds": {"PUT send": n, …}}`` since the start or the last ``clear``."""
        found: dict[str, Any] = httpx.get(f"{self.url}/control/counts", params={"clear": int(clear)}, timeout=10).json()
        return found

    def load(self, **order: Any) -> list[dict[str, Any]]:
        """Push messages and wait for the replies; see ``Homeserver.load``."""
        answer = httpx.post(f"{self.url}/control/load", json=order, timeout=order["seconds"] + 120)
        found: list[dict[str, Any]] = answer.raise_for_status().json()
        return found


class Homeserver:
    """Requests in, answers out."""

    def __init__(self, server_name: str) -> None:
        self.server_name = server_name
        self.counts: Counter[str] = Counter()
        self.writes = self.reads = 0
        self.numbers = itertools.count(1)
        self.aliases: dict[str, str] = {}
        self.rooms: dict[str, dict[str, str]] = {}
        self.owners: dict[str, dict[str, str]] = {}
        self.stamps: dict[int, dict[str, Any]] = {}
        self.open: set[int] = set()

    def application(self) -> web.Application:
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_get("/control/counts", self.read_counts)
        app.router.add_post("/control/load", self.load)
        app.router.add_post("/control/rooms", self.know_rooms)
        app.router.add_route("*", "/_matrix/{tail:.*}", self.answer)
        return app

    async def read_counts(self, request: web.Request) -> web.Response:
        found = {"writes": self.writes, "reads": self.reads, "kinds": dict(self.counts)}
        if request.query.get("clear") == "1":
            self.counts.clear()
            self.writes = self.reads = 0
        return web.json_response(found)

    async def know_rooms(self, request: web.Request) -> web.Response:
        """Accounts and rooms that are there: ``[{user_id, room_id, alias, name, topic, space}]``; ``user_id`` made the room and is in it."""
        for room in await request.json():
            self.rooms[room["room_id"]] = self.owners[room["user_id"]] = room
            self.aliases[room["alias"]] = room["room_id"]
        return web.json_response({})

    def _state(self, room_id: str) -> list[dict[str, Any]]:
        """As much state as a room has that was just made."""
        room = self.rooms.get(room_id)
        if room is None:
            return []
        space = room["space"]
        children = [one["room_id"] for one in self.rooms.values() if one["space"] == room_id] if not space else []
        events: list[tuple[str, str, dict[str, Any]]] = [
            ("m.room.create", "", {"room_version": "12", **({} if space else {"type": "m.space"})}),
            ("m.room.member", room["user_id"], {"membership": "join", "displayname": room["name"]}),
            ("m.room.name", "", {"name": room["name"]}),
            ("m.room.topic", "", {"topic": room["topic"]}),
            ("m.room.canonical_alias", "", {"alias": room["alias"]}),
            *([("m.space.parent", space, {"via": [self.server_name]})] if space else []),
            *(("m.space.child", child, {"via": [self.server_name]}) for child in children),
        ]
        return [
            {"type": kind, "state_key": key, "content": content, "sender": room["user_id"], "origin_server_ts": 1}
            for kind, key, content in events
        ]

    async def answer(self, request: web.Request) -> web.Response:
        """Any request of the client-server API."""
        came = time.monotonic()
        parts = request.match_info["tail"].split("/")
        kind = _kind(parts)
        self.counts[f"{request.method} {kind}"] += 1
        if request.method in READING:
            self.reads += 1
        else:
            self.writes += 1
        body = await request.json() if request.can_read_body and request.content_type == "application/json" else {}
        if kind == "send":
            self._note_reply(came, body, request.query.get("user_id", ""))
        return web.json_response(self._result(request, kind, parts, body))

    def _note_reply(self, came: float, body: dict[str, Any], user_id: str) -> None:
        found = NUMBER.search(str(body.get("body", "")))
        stamp = self.stamps.get(int(found[1])) if found else None
        if stamp is not None:
            stamp.setdefault("sent", []).append(came)
            stamp["by"] = user_id
            self.open.discard(int(found[1]))  # type: ignore[index]

    def _result(self, request: web.Request, kind: str, parts: list[str], body: dict[str, Any]) -> Any:
        if request.method == "GET" and (found := self._known(request, kind, parts)) is not None:
            return found
        if kind == "versions":
            return {"versions": ["v1.1", "v1.11"], "server": {"name": "stub", "version": "0"}}
        if kind == "whoami":
            return {"user_id": request.query.get("user_id") or f"@switchboard:{self.server_name}"}
        if kind == "joined_rooms":
            return {"joined_rooms": [f"!space:{self.server_name}", *self.aliases.values()]}
        if kind == "createRoom":
            room = f"!r{next(self.numbers)}:{self.server_name}"
            self.aliases[f"#{body.get('room_alias_name')}:{self.server_name}"] = room
            return {"room_id": room}
        if kind == "join":
            return {"room_id": parts[-1]}
        if kind in {"send", "state"} and request.method == "PUT":
            return {"event_id": f"$e{next(self.numbers)}"}
        if kind == "messages":
            return {"chunk": [], "start": "s"}
        if kind == "capabilities":
            return {"capabilities": {"m.room_versions": {"default": "11", "available": {"11": "stable"}}}}
        if kind == "profile" and request.method == "GET":
            return {"displayname": "A person"}
        if kind == "ping":
            return {"duration_ms": 1}
        return {"user_id": f"@x:{self.server_name}"} if kind == "register" else {}

    def _known(self, request: web.Request, kind: str, parts: list[str]) -> Any:
        """What is known of rooms that were told (``know_rooms``); ``None`` for anything else."""
        if kind == "state" and len(parts) > 1 and parts[-1] == "state":
            return self._state(parts[-2])
        if kind == "joined_rooms":
            own = self.owners.get(request.query.get("user_id", ""))
            return {"joined_rooms": [own["room_id"]] if own else []}
        if kind == "directory" and parts[-1] in self.aliases:
            return {"room_id": self.aliases[parts[-1]], "servers": [self.server_name]}
        if kind == "profile" and parts[-1] in self.owners:
            return {"displayname": self.owners[parts[-1]]["name"]}
        return None

    async def load(self, request: web.Request) -> web.Response:
        """Push messages like a homeserver that is busy: one transaction at a time, events that come meanwhile in the next one.

        ``{"url", "hs_token", "rooms": [id], "rate": messages a second, "seconds", "seed", "first": number of the first}``.
        Messages come at random moments (a Poisson process) or, with ``"each_room": true``, one to each room in turn.
        Waits for the replies, 60 s at most. One entry for each message: ``number, room, made, pushed, answered, sent, by``.
        """
        order = await request.json()
        chance = random.Random(order.get("seed", 1))
        rooms: list[str] = order["rooms"]
        first, rate = order.get("first", 1), float(order["rate"])
        total = len(rooms) if order.get("each_room") else round(rate * float(order["seconds"]))
        queue: asyncio.Queue[tuple[int, dict[str, Any]]] = asyncio.Queue()
        self.stamps = {}
        self.open = set(range(first, first + total))
        async with aiohttp.ClientSession() as session:
            pusher = asyncio.create_task(self._push(session, queue, order))
            due = time.monotonic()
            for number in range(first, first + total):
                room = rooms[(number - first) % len(rooms)] if order.get("each_room") else chance.choice(rooms)
                due += chance.expovariate(rate)
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                self.stamps[number] = {"number": number, "room": room, "made": time.monotonic()}
                queue.put_nowait((number, self._event(number, room)))
            limit = time.monotonic() + 60
            while self.open and time.monotonic() < limit:
                await asyncio.sleep(0.05)
            # A reply that is sent twice comes soon after the first.
            await asyncio.sleep(1)
            pusher.cancel()
        return web.json_response(list(self.stamps.values()))

    def _event(self, number: int, room: str) -> dict[str, Any]:
        return {
            "type": "m.room.message",
            "room_id": room,
            "event_id": f"$m{number}.{time.time_ns():x}",
            "sender": f"@person{number % 50}:{self.server_name}",
            "origin_server_ts": time.time_ns() // 1_000_000,
            "content": {"msgtype": "m.text", "body": f"Good morning #{number}# to you"},
        }

    async def _push(self, session: aiohttp.ClientSession, queue: asyncio.Queue[Any], order: dict[str, Any]) -> None:
        headers = {"Authorization": f"Bearer {order['hs_token']}"}
        while True:
            batch = [await queue.get()]
            while not queue.empty() and len(batch) < 100:
                batch.append(queue.get_nowait())
            address = f"{order['url']}/_matrix/app/v1/transactions/b{next(self.numbers)}.{time.time_ns():x}"
            pushed = time.monotonic()
            for number, _ in batch:
                self.stamps[number]["pushed"] = pushed
            while True:
                async with session.put(
                    address, json={"events": [event for _, event in batch]}, headers=headers
                ) as answer:
                    if answer.status == 200:
                        break
                await asyncio.sleep(0.2)
            for number, _ in batch:
                self.stamps[number]["answered"] = time.monotonic()


def _kind(parts: list[str]) -> str:
    """A request's last telling word: ``rooms/!x/send/m.room.message/t1`` is ``send``."""
    if "rooms" in parts and len(parts) > parts.index("rooms") + 2:
        return parts[parts.index("rooms") + 2]
    for word in ("profile", "directory", "devices", "join", "register", "appservice"):
        if word in parts:
            return "ping" if word == "appservice" else word
    return parts[-1]


def build(options: argparse.Namespace) -> web.Application:
    """The application for ``python -m bench.stubs.homeserver --port N``."""
    return Homeserver(options.server_name).application()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A stand-in for a homeserver.")
    parser.add_argument("--server-name", default="sb.test")
    serve(build, parser)
