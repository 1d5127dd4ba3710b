"""What the benchmarks through a real Synapse share: the place, the person who writes, and the rooms of both bridges."""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import aiohttp
import httpx

from bench.results import Report
from bench.stubs.echo import AS_TOKEN, EchoAppservice
from tests.peers.install import SYNAPSE
from tests.peers.letta_stub import LettaStub
from tests.peers.postgres import Postgres
from tests.peers.redis import Redis
from tests.peers.switchboard import Stack
from tests.peers.synapse import MatrixUser, Synapse

V3 = "/_matrix/client/v3"
_numbers = itertools.count(1)
NUMBER = re.compile(r"#(\d+)#")


@dataclass(slots=True)
class Place:
    """One Synapse with both bridges on it; the person is in all rooms."""

    synapse: Synapse
    stack: Stack
    echo: EchoAppservice
    letta: LettaStub
    person: MatrixUser
    rooms: dict[str, list[str]]

    @property
    def pids(self) -> list[int]:
        """Our processes."""
        return [part.pid for part in self.stack.parts]


@contextmanager
def place(report: Report, rooms: int) -> Iterator[Place]:
    """Scaled mode on PostgreSQL and Redis, Letta as a stand-in with 0 ms, ``rooms`` rooms for us and as many for the echo."""
    with Postgres() as postgres, Redis() as redis, LettaStub(agents=rooms) as letta, Synapse() as synapse:
        with postgres.connect("postgres") as connection:
            report.versions["postgresql"] = connection.execute("show server_version").fetchone()[0]
        report.versions |= {"redis-server": str(redis.client().info()["redis_version"]), "synapse": SYNAPSE.version}
        person = synapse.register_user("person", "a-password-1")
        stack = Stack(
            homeserver_url=synapse.url,
            database_url=postgres.create_database("bench"),
            redis_url=redis.url,
            settings={"LETTA_BASE_URL": letta.url, "MATRIX_INVITE": person.user_id},
        )
        stack.prepare()
        echo = EchoAppservice()
        echo.use(synapse.url)
        files = [str(stack.write_registration()), str(echo.registration(stack.folder, stack.server_name))]
        synapse.extra = {"app_service_config_files": files}
        synapse.use_registration(None)
        synapse.restart()
        with echo, stack:
            stack.manage("sync_agents")
            found = Place(synapse, stack, echo, letta, person, {"ours": _join_ours(synapse, person, rooms)})
            found.rooms["echo"] = _make_echo_rooms(synapse, person, rooms)
            time.sleep(3)
            yield found


def _client(synapse: Synapse, token: str) -> httpx.Client:
    return httpx.Client(base_url=synapse.url, headers={"Authorization": f"Bearer {token}"}, timeout=60, trust_env=False)


def _join_ours(synapse: Synapse, person: MatrixUser, rooms: int) -> list[str]:
    """Follow every invitation; returns the agents' rooms (the space is left out)."""
    with _client(synapse, person.access_token) as http:
        invited = http.get(f"{V3}/sync", params={"timeout": 0}).raise_for_status().json()["rooms"]["invite"]
        joined = []
        for room, state in invited.items():
            http.post(f"{V3}/join/{quote(room, safe='')}", json={}).raise_for_status()
            kinds = [event["content"] for event in state["invite_state"]["events"] if event["type"] == "m.room.create"]
            if not any(content.get("type") == "m.space" for content in kinds):
                joined.append(room)
    if len(joined) != rooms:
        raise RuntimeError(f"{len(joined)} rooms of {rooms} were made")
    return joined


def _make_echo_rooms(synapse: Synapse, person: MatrixUser, rooms: int) -> list[str]:
    made = []
    with _client(synapse, AS_TOKEN) as bridge, _client(synapse, person.access_token) as http:
        for number in range(rooms):
            name = f"echo_{number}"
            bridge.post(
                f"{V3}/register", json={"type": "m.login.application_service", "username": name, "inhibit_login": True}
            ).raise_for_status()
            body = {"preset": "private_chat", "name": name, "topic": "Echo", "invite": [person.user_id]}
            answer = bridge.post(f"{V3}/createRoom", params={"user_id": f"@{name}:{synapse.server_name}"}, json=body)
            made.append(answer.raise_for_status().json()["room_id"])
            http.post(f"{V3}/join/{quote(made[-1], safe='')}", json={}).raise_for_status()
    return made


@dataclass(slots=True)
class Person:
    """The person's client: writes, and reads along in ``/sync``. Times are of the monotonic clock."""

    place: Place
    said: dict[int, float] = field(default_factory=dict)
    put_ms: list[float] = field(default_factory=list)
    replies: list[tuple[str, int, float]] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    since: str = ""

    async def follow(self, http: aiohttp.ClientSession) -> None:
        """Read along until cancelled."""
        me = self.place.person.user_id
        wanted = (
            '{"room":{"timeline":{"limit":200},"ephemeral":{"types":[]},"state":{"types":[]}},"presence":{"types":[]}}'
        )
        while True:
            params: dict[str, Any] = {"timeout": 0 if not self.since else 20_000, "filter": wanted}
            if self.since:
                params["since"] = self.since
            async with http.get(f"{self.place.synapse.url}{V3}/sync", params=params) as answer:
                found = await answer.json()
            now = time.monotonic()
            if self.since:
                for room, of_room in found.get("rooms", {}).get("join", {}).items():
                    for event in of_room["timeline"]["events"]:
                        number = NUMBER.search(str(event.get("content", {}).get("body", "")))
                        if event["type"] == "m.room.message" and event["sender"] != me and number:
                            self.replies.append((room, int(number[1]), now))
            self.since = found["next_batch"]
            self.changed.set()

    async def say(self, http: aiohttp.ClientSession, room: str) -> int:
        """Send one message and wait for the homeserver's answer; returns its number."""
        number = next(_numbers)
        path = f"{V3}/rooms/{quote(room, safe='')}/send/m.room.message/p{number}.{time.time_ns()}"
        began = self.said[number] = time.monotonic()
        async with http.put(
            self.place.synapse.url + path, json={"msgtype": "m.text", "body": f"Good morning #{number}# to you"}
        ) as answer:
            await answer.read()
            answer.raise_for_status()
        self.put_ms.append((time.monotonic() - began) * 1000)
        return number

    async def wait_for(self, numbers: set[int], seconds: float) -> bool:
        """Whether a reply to each of these came in time."""
        limit = time.monotonic() + seconds
        while not numbers <= {number for _, number, _ in self.replies}:
            self.changed.clear()
            try:
                await asyncio.wait_for(self.changed.wait(), limit - time.monotonic())
            except TimeoutError:
                return False
        return True

    @contextmanager
    def reading(self, http: aiohttp.ClientSession) -> Iterator[None]:
        """Reads along inside the block."""
        task = asyncio.create_task(self.follow(http))
        try:
            yield
        finally:
            task.cancel()

    def session(self) -> aiohttp.ClientSession:
        """An HTTP session of this person."""
        token = self.place.person.access_token
        return aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {token}"}, connector=aiohttp.TCPConnector(limit=100),
            timeout=aiohttp.ClientTimeout(total=120),
        )  # fmt: skip
