"""The least that carries words to sockets: an ASGI application that joins a group of the channel layer and passes on what comes."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")

from bench.inside.setup import start
from bench.inside.socket_backend import stamp


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """``/N`` follows the group N; 0 for an idle one as well."""
    from channels.layers import get_channel_layer

    await receive()
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})
        return
    layer: Any = get_channel_layer()
    channel = await layer.new_channel()
    group = f"floor.{scope['path'].strip('/')}"
    await layer.group_add(group, channel)
    # Whoever is accepted hears everything.
    await send({"type": "websocket.accept"})

    async def pass_on() -> None:
        while True:
            await send({"type": "websocket.send", "text": (await layer.receive(channel))["text"]})

    passing = asyncio.create_task(pass_on())
    while (await receive())["type"] != "websocket.disconnect":
        pass
    passing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await passing


async def idle_application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Accepts, and waits for the end: what the server itself needs for a socket."""
    message = await receive()
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})
        return
    await send({"type": "websocket.accept"})
    while message["type"] != "websocket.disconnect":
        message = await receive()


def main(groups: int, words: int, rate: float, a_frame: float) -> Any:
    """Publish stamped words to every group: ``rate`` words a second each, ``a_frame`` frames a second each at most."""
    from channels.layers import get_channel_layer

    async def run() -> None:
        layer: Any = get_channel_layer()
        every = 1 / min(rate, a_frame)
        loop = asyncio.get_running_loop()

        async def one(group: int) -> None:
            began, sent = loop.time() + every * group / groups, 0
            held: list[str] = []
            while sent < words:
                await asyncio.sleep(max(0.0, began + sent / rate - loop.time()))
                held.append(stamp())
                sent += 1
                if len(held) >= rate * every or sent == words:
                    await layer.group_send(f"floor.{group}", {"type": "floor", "text": "".join(held)})
                    held = []

        await asyncio.gather(*(one(group) for group in range(groups)))

    asyncio.run(run())
    return None


if __name__ == "__main__":
    start(main)
