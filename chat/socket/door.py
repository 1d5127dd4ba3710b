"""The ASGI application of WebSockets: one address."""

from __future__ import annotations

from typing import Any

from chat.socket.connection import Connection
from chat.socket.hub import hub
from chat.socket.protocol import PATH, SUBPROTOCOL


async def door(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Accepts ``/ws``, with ``switchboard.v1`` where the client offers it; refuses every other address."""
    if scope["path"].rstrip("/") != PATH:
        await receive()
        await send({"type": "websocket.close", "code": 4404})
        return
    accept: dict[str, Any] = {"type": "websocket.accept"}
    if SUBPROTOCOL in scope.get("subprotocols", ()):
        accept["subprotocol"] = SUBPROTOCOL
    await Connection(hub(), receive, send).run(scope, accept)
