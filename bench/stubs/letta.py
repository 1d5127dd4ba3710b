"""The tests' stand-in for Letta, with a stamp when a message's request comes in and when its answer's last byte is out."""

from __future__ import annotations

import argparse
import time
from typing import Any

import httpx
from aiohttp import web

from bench.stubs.homeserver import NUMBER
from tests.peers.letta_routes import Routes
from tests.peers.letta_stub import LettaStub
from tests.peers.letta_world import World
from tests.peers.stub import Ledger, serve


class StampedLetta(LettaStub):
    """The stand-in as a process."""

    name = "stamped-letta"
    module = "bench.stubs.letta"

    def stamps(self) -> dict[int, list[tuple[float, float]]]:
        """For each message's number: (request came, answer's last byte out), once for every request."""
        found = httpx.get(f"{self.url}/control/stamps", timeout=30).json()
        return {int(number): [tuple(pair) for pair in pairs] for number, pairs in found.items()}


def build(options: argparse.Namespace) -> web.Application:
    """The application for ``python -m bench.stubs.letta --port N``."""
    stamps: dict[str, list[list[float]]] = {}

    @web.middleware
    async def stamped(request: web.Request, handler: Any) -> web.StreamResponse:
        came = time.monotonic()
        found = (
            NUMBER.search(await request.text()) if request.path.endswith(("/messages", "/messages/stream")) else None
        )
        response: web.StreamResponse = await handler(request)
        if found and request.method == "POST":
            # Written here rather than by the server, so that the stamp is taken when the last byte is out.
            await response.prepare(request)
            await response.write_eof()
            stamps.setdefault(found[1], []).append([came, time.monotonic()])
        return response

    async def read(request: web.Request) -> web.Response:
        return web.json_response(stamps)

    app = Routes(World(options.agents), Ledger(options.ledger), options.password).application()
    app.middlewares.append(stamped)
    app.router.add_get("/control/stamps", read)
    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A stand-in for Letta's V1 REST that stamps.")
    parser.add_argument("--agents", type=int, default=3)
    parser.add_argument("--password", default="")
    serve(build, parser)
