"""The floor of the bridge: an appservice that sends every message back as the room's own account, and does nothing else."""

from __future__ import annotations

import argparse
import asyncio
import itertools
from collections import defaultdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import httpx
import yaml
from aiohttp import web

from tests.peers.stub import StubPeer, serve

AS_TOKEN, HS_TOKEN = "echo-as-token", "echo-hs-token"


class EchoAppservice(StubPeer):
    """The echo as a process. ``registration`` writes the file that the homeserver is given."""

    name = "echo"
    module = "bench.stubs.echo"

    def is_ready(self) -> bool:
        return httpx.get(f"{self.url}/", timeout=2).status_code == 404

    def use(self, homeserver_url: str) -> None:
        """Name the homeserver; before the start."""
        self.arguments = ["--homeserver", homeserver_url]

    def registration(self, folder: Path, server_name: str) -> Path:
        """Write the registration file and return its path."""
        users = [{"exclusive": True, "regex": f"@echo_.*:{server_name}"}]
        content = {
            "id": "echo", "url": self.url, "as_token": AS_TOKEN, "hs_token": HS_TOKEN, "sender_localpart": "echobot",
            "rate_limited": False, "namespaces": {"users": users, "aliases": [], "rooms": []},
        }  # fmt: skip
        path = folder / "echo.yaml"
        path.write_text(yaml.safe_dump(content))
        return path


class Echo:
    """Takes transactions, answers at once, sends in order within a room and side by side over rooms."""

    def __init__(self, homeserver: str) -> None:
        self.homeserver = homeserver
        self.numbers = itertools.count(1)
        self.queues: dict[str, asyncio.Queue[dict[str, Any]]] = defaultdict(asyncio.Queue)
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.speakers: dict[str, str] = {}
        self.session: aiohttp.ClientSession | None = None

    def application(self) -> web.Application:
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_put("/_matrix/app/v1/transactions/{txn}", self.take)
        app.router.add_post("/_matrix/app/v1/ping", self.nothing)
        return app

    async def nothing(self, request: web.Request) -> web.Response:
        return web.json_response({})

    async def take(self, request: web.Request) -> web.Response:
        for event in (await request.json())["events"]:
            room, sender = event["room_id"], event["sender"]
            if sender.startswith("@echo_"):
                self.speakers.setdefault(room, sender)
            elif event["type"] == "m.room.message" and room in self.speakers:
                self.queues[room].put_nowait(event)
                if room not in self.tasks:
                    self.tasks[room] = asyncio.create_task(self.send(room))
        return web.json_response({})

    async def send(self, room: str) -> None:
        self.session = self.session or aiohttp.ClientSession(headers={"Authorization": f"Bearer {AS_TOKEN}"})
        while True:
            event = await self.queues[room].get()
            path = f"/_matrix/client/v3/rooms/{quote(room, safe='')}/send/m.room.message/e{next(self.numbers)}"
            content = {"msgtype": "m.text", "body": f"echo: {event['content']['body']}"}
            async with self.session.put(
                self.homeserver + path, params={"user_id": self.speakers[room]}, json=content
            ) as answer:
                await answer.read()


def build(options: argparse.Namespace) -> web.Application:
    """The application for ``python -m bench.stubs.echo --port N --homeserver URL``."""
    return Echo(options.homeserver).application()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="An appservice that echoes.")
    parser.add_argument("--homeserver", required=True)
    serve(build, parser)
