"""How large a request's body may be, asked before anything of it is kept: Django would write all of it to the disk first, for anybody."""

from __future__ import annotations

import json
import shutil
from collections.abc import Awaitable, Callable, MutableMapping
from io import BytesIO
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
# Servers and frameworks differ in how precisely they type these.
Application = Callable[[Any, Any, Any], Awaitable[None]]

_MB = 1024 * 1024
# What multipart adds around a file.
_AROUND = 64 * 1024
UPLOADS = "/api/v1/chat/attachments"
# Backups are as large as they are: only whoever may bring one is let in with it (``may_bring``).
BACKUPS = ("/api/v1/backups/upload", "/admin/ops/backup/bring/")
IMPORTS = "/api/v1/chat/import"
LARGEST_IMPORT = 512 * _MB
_KEPT_FREE = 256 * _MB


def largest(path: str) -> int:
    """The largest body that an address takes, in bytes."""
    if path == UPLOADS:
        return int(settings.ATTACHMENT_MAX_MB * _MB) + _AROUND
    if path == IMPORTS:
        return LARGEST_IMPORT
    return int(settings.DATA_UPLOAD_MAX_MEMORY_SIZE)


class BodyLimit:
    """Answers 413 to a body that says it is too large, and to one that turns out to be while it comes in."""

    def __init__(self, application: Application) -> None:
        self.application = application

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        most = largest(scope.get("path", ""))
        given = dict(scope.get("headers", ())).get(b"content-length", b"")
        if scope.get("path", "") in BACKUPS and given.isdigit() and int(given) > most and await may_bring(scope):
            free = room()
            if int(given) < free:
                await self.application(scope, receive, send)
                return
            most = free
        if given.isdigit() and int(given) > most:
            await _refuse(scope, send, most)
            return
        seen, refused = 0, False

        async def counted() -> Message:
            nonlocal seen, refused
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > most and not refused:
                refused = True
                await _refuse(scope, send, most)
            return {"type": "http.disconnect"} if refused else message

        async def once(message: Message) -> None:
            if not refused:
                await send(message)

        await self.application(scope, counted, once)


async def may_bring(scope: Any) -> bool:
    """Whether the request comes from an operator: looked at before anything of the body is taken, and again by the address itself."""
    return await sync_to_async(_is_operators, thread_sensitive=True)(scope)


def _is_operators(scope: Any) -> bool:
    from django.contrib.auth import get_user
    from django.contrib.sessions.backends.db import SessionStore
    from django.core.handlers.asgi import ASGIRequest

    from ops.api.principals import by_token
    from ops.models import TokenScope

    request = ASGIRequest(scope, BytesIO())
    word, _, token = request.headers.get("Authorization", "").partition(" ")
    if token:
        principal = by_token(token.strip()) if word.lower() == "bearer" else None
        return principal is not None and principal.scope == TokenScope.WRITE
    key = request.COOKIES.get(settings.SESSION_COOKIE_NAME)
    if not key:
        return False
    request.session = SessionStore(key)
    person = get_user(request)
    return bool(person.is_active and getattr(person, "is_staff", False))


def room() -> int:
    """How large a body may be at most: it lies on the disk twice for a moment, and some room must stay."""
    folder = settings.FILE_UPLOAD_TEMP_DIR or settings.DATA_DIR
    return max(0, shutil.disk_usage(folder).free - _KEPT_FREE) // 2


async def _refuse(scope: Any, send: Send, most: int) -> None:
    problem = {
        "type": "urn:switchboard:problem:request.too_large",
        "title": "The request is too large",
        "status": 413,
        "detail": f"This address takes at most {most // _MB} MB.",
        "instance": scope.get("path", ""),
        "code": "request.too_large",
        "errors": [],
        "request_id": "",
    }
    headers = [(b"content-type", b"application/problem+json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(problem).encode()})
