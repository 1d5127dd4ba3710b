"""A stream to test with: whether what lies between us and a client passes on what it gets, or waits for the end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from django.http import HttpRequest, StreamingHttpResponse
from ninja import Router
from ninja.security import APIKeyHeader

from ops.api.answers import to_json
from ops.api.principals import BearerToken, OperatorSession, Principal
from ops.models import TokenScope
from ops.network import chunks

router = Router(tags=["Health"])


class ProbeTicket(APIKeyHeader):
    """The ticket of our own check, good for one minute and for this address alone."""

    param_name = chunks.HEADER

    def authenticate(self, request: HttpRequest, key: str | None) -> Principal | None:
        if not key or not chunks.is_ticket(key):
            return None
        return Principal("system", "system:probe", None, TokenScope.READ)


@router.get(
    "",
    response={200: None},
    auth=[ProbeTicket(), BearerToken(), OperatorSession()],
    operation_id="stream_test",
    summary="Stream five timed chunks",
    openapi_extra={
        "responses": {
            200: {
                "description": "Events `chunk`, each with `{chunk, of, after_ms}`.",
                "content": {"text/event-stream": {"schema": {"type": "string"}}},
            }
        }
    },
)
async def stream_test(request: HttpRequest) -> StreamingHttpResponse:
    """Five server-sent events, a quarter of a second apart. When they arrive together, something in between buffers."""
    response = StreamingHttpResponse(_events(), content_type="text/event-stream; charset=utf-8")
    response.headers["Cache-Control"] = "no-cache, no-transform"
    response.headers["X-Accel-Buffering"] = "no"
    return response


async def _events() -> AsyncIterator[bytes]:
    started = time.monotonic()
    for number in range(1, chunks.CHUNKS + 1):
        data: dict[str, Any] = {
            "chunk": number,
            "of": chunks.CHUNKS,
            "after_ms": round((time.monotonic() - started) * 1000),
        }
        yield b"event: chunk\ndata: " + to_json(data) + b"\n\n"
        if number < chunks.CHUNKS:
            await asyncio.sleep(chunks.SPACING)
