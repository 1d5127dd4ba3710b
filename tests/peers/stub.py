"""What the stand-in servers share: a ledger of requests, an aiohttp process, and its handle for tests."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
from aiohttp import web

from .base import PROJECT_ROOT, Peer, free_port


class Ledger:
    """Everything a stand-in was asked, in order, in memory and, if a file is named, as JSON lines in it.

    Entries that the file already holds are taken over: a killed and restarted stand-in goes on where it was.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.entries: list[dict[str, Any]] = []
        if path and path.exists():
            self.entries = [json.loads(line) for line in path.read_text().splitlines()]
        self._numbers = itertools.count(len(self.entries) + 1)
        self._file = path.open("a", buffering=1) if path else None

    def add(self, **entry: Any) -> dict[str, Any]:
        """Write one entry; ``n`` (its number) and ``at`` (seconds since 1970) are added."""
        entry = {"n": next(self._numbers), "at": time.time(), **entry}
        self.entries.append(entry)
        if self._file:
            # One write of a whole line: it is in the kernel before the answer, so a killed stand-in loses no entry.
            self._file.write(json.dumps(entry, ensure_ascii=False) + "\n")
        return entry

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/ledger", self._read), web.delete("/ledger", self._clear)]

    async def _read(self, request: web.Request) -> web.Response:
        since = int(request.query.get("since", 0))
        return web.json_response([entry for entry in self.entries if entry["n"] > since])

    async def _clear(self, request: web.Request) -> web.Response:
        self.entries.clear()
        if self._file:
            self._file.truncate(0)
        return web.json_response({"cleared": True})


class StubPeer(Peer):
    """A stand-in server as a process of its own. ``url`` is its address, ``ledger()`` what it was asked."""

    module = ""

    def __init__(self, folder: Path | None = None, arguments: Sequence[str] = ()) -> None:
        super().__init__(folder)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.ledger_path = self.folder / "ledger.jsonl"
        self.arguments = list(arguments)

    @property
    def working_folder(self) -> Path:
        return PROJECT_ROOT

    def command(self) -> list[str]:
        place = ["--port", str(self.port), "--ledger", str(self.ledger_path)]
        return [sys.executable, "-m", self.module, *place, *self.arguments]

    def is_ready(self) -> bool:
        return httpx.get(f"{self.url}/ledger?since=999999999", timeout=2).status_code == 200

    def ledger(self, **matching: Any) -> list[dict[str, Any]]:
        """The entries whose fields equal ``matching``, oldest first."""
        entries: list[dict[str, Any]] = httpx.get(f"{self.url}/ledger", timeout=30).raise_for_status().json()
        return [entry for entry in entries if all(entry.get(key) == value for key, value in matching.items())]

    def ledger_lines(self) -> list[dict[str, Any]]:
        """The ledger's file: also what was asked before a ``kill9``."""
        lines = self.ledger_path.read_text().splitlines() if self.ledger_path.exists() else []
        return [json.loads(line) for line in lines]

    def clear_ledger(self) -> None:
        """Forget what was asked, in the file too."""
        httpx.delete(f"{self.url}/ledger", timeout=10).raise_for_status()


class Stream:
    """A server-sent-events answer that can also break off."""

    def __init__(self, request: web.Request, headers: dict[str, str] | None = None) -> None:
        self._request = request
        self._response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache", **(headers or {})}
        )

    async def __aenter__(self) -> Stream:
        self._response.enable_chunked_encoding()
        await self._response.prepare(self._request)
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        if kind is None:
            with contextlib.suppress(ConnectionError):
                await self._response.write_eof()

    @property
    def response(self) -> web.StreamResponse:
        return self._response

    async def raw(self, text: str) -> None:
        await self._response.write(text.encode())

    async def event(self, data: Any, name: str = "") -> None:
        """One event; ``data`` is JSON, ``name`` its event name."""
        head = f"event: {name}\n" if name else ""
        await self.raw(f"{head}data: {json.dumps(data, separators=(',', ':'), ensure_ascii=False)}\n\n")

    async def break_off(self) -> None:
        """Cut the connection where it is: the client sees an incomplete body."""
        if self._request.transport is not None:
            # close, not abort: what was written before still reaches the client, the end of the body never does.
            self._request.transport.close()


async def hang() -> None:
    """Never answer; ends when the client gives up or the process does."""
    await asyncio.sleep(3600)


def count_tokens(text: str) -> int:
    """A deterministic stand-in for a tokenizer: its words and signs."""
    return len(re.findall(r"\w+|[^\w\s]", text))


def serve(build: Callable[[argparse.Namespace], web.Application], parser: argparse.ArgumentParser) -> None:
    """Run a stand-in on 127.0.0.1 until it is told to stop."""
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ledger", type=Path, default=None, help="also write the ledger to this file, as JSON lines")
    options = parser.parse_args()
    web.run_app(
        build(options),
        host="127.0.0.1",
        port=options.port,
        print=None,
        access_log=None,
        shutdown_timeout=0.5,
        handler_cancellation=True,
    )
