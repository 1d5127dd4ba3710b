"""Transactions enter here, ahead of Django's middleware: a homeserver has no session, cookie or form to look at.

Every message passes twice (the person's, and our own answer coming back), so what surrounds a request counts. Everything else,
and every odd request, goes the ordinary way through Django to the same functions.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

from chat.matrix import views

# As in the ASGI specification; servers and frameworks differ in how precisely they type these.
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Application = Callable[[Any, Any, Any], Awaitable[None]]

_PATH = re.compile(r"(?:/_matrix/app/v1)?/transactions/([^/]{1,500})")


class AppserviceDoor:
    """ASGI middleware: answers ``PUT …/transactions/{txnId}`` itself, hands everything else on."""

    def __init__(self, application: Application) -> None:
        self.application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = _PATH.fullmatch(scope.get("path", "")) if scope["type"] == "http" and scope["method"] == "PUT" else None
        headers = dict(scope.get("headers", ())) if found else {}
        length = headers.get(b"content-length", b"")
        if found is None or not length.isdigit() or int(length) > views.MAX_BODY:
            await self.application(scope, receive, send)
            return
        body = await _read(receive, int(length))
        if body is None:
            return
        token = views.bearer(headers.get(b"authorization", b"").decode("latin-1"))
        if not token and scope.get("query_string"):
            token = parse_qs(scope["query_string"].decode("latin-1")).get("access_token", [""])[0]
        answer = await views.take_transaction(token, body, found[1])
        await send(
            {
                "type": "http.response.start",
                "status": answer.status_code,
                "headers": [
                    (b"content-type", b"application/json"),
                    (b"content-length", str(len(answer.content)).encode()),
                ],
            }
        )
        await send({"type": "http.response.body", "body": answer.content})


async def _read(receive: Receive, length: int) -> bytes | None:
    """The whole body; ``None`` when the homeserver hung up, which makes it send the transaction again."""
    parts = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts += message.get("body", b"")
        if len(parts) > length:
            return bytes(parts[:length])
        if not message.get("more_body"):
            return bytes(parts)
