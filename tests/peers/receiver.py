"""A tiny appservice: takes a homeserver's transactions and keeps their events."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import yaml
from aiohttp import web

from .base import PeerError, free_port


class Receiver:
    """Runs in a thread of this process. ``registration(folder)`` writes the file that the homeserver is given."""

    def __init__(self, server_name: str = "sb.test", prefix: str = "agent_") -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.as_token, self.hs_token = "as-token-of-the-test", "hs-token-of-the-test"
        self.sender = "switchboard"
        self.prefix = prefix
        self.server_name = server_name
        self.events: list[dict[str, Any]] = []
        self.transactions: list[str] = []
        self.refused = 0
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="receiver", daemon=True)

    def registration(self, folder: Path) -> Path:
        """Write the registration file and return its path."""
        path = folder / "registration.yaml"
        name = self.server_name.replace(".", r"\.")
        users = [{"exclusive": True, "regex": f"@{self.prefix}[a-z0-9_]+:{name}"}]
        content = {
            "id": "switchboard-test",
            "url": self.url,
            "as_token": self.as_token,
            "hs_token": self.hs_token,
            "sender_localpart": self.sender,
            "rate_limited": False,
            "namespaces": {"users": users, "aliases": [], "rooms": []},
        }
        path.write_text(yaml.safe_dump(content))
        return path

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(60):
            raise PeerError("the receiver did not start within 10 s")
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_put("/_matrix/app/v1/transactions/{txn}", self._take)
        app.router.add_post("/_matrix/app/v1/ping", self._nothing)
        runner = web.AppRunner(app, shutdown_timeout=0.5)
        self._loop.run_until_complete(runner.setup())
        self._loop.run_until_complete(web.TCPSite(runner, "127.0.0.1", self.port).start())
        self._ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        self._loop.close()

    async def _take(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {self.hs_token}":
            self.refused += 1
            return web.json_response({"errcode": "M_FORBIDDEN"}, status=403)
        self.transactions.append(request.match_info["txn"])
        self.events += (await request.json())["events"]
        return web.json_response({})

    async def _nothing(self, request: web.Request) -> web.Response:
        return web.json_response({})

    def wait_for(self, wanted: Callable[[dict[str, Any]], bool], seconds: float = 15) -> dict[str, Any]:
        """The first event that fits. Raises ``PeerError`` when none came in time."""
        limit = time.monotonic() + seconds
        while time.monotonic() < limit:
            for event in list(self.events):
                if wanted(event):
                    return event
            time.sleep(0.02)
        kinds = [event.get("type") for event in self.events]
        raise PeerError(f"no such event within {seconds:g} s; {len(kinds)} events came: {kinds[-20:]}")
