"""Short ways to ask a backend, for tests."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from agents.backends.base import Backend, ReplyRequest, Speaker
from agents.backends.chunks import Chunk, TextDelta


def request(text: str = "Hello", agent: str = "agent-1", **fields: Any) -> ReplyRequest:
    fields.setdefault("speaker", Speaker("Bo"))
    fields.setdefault("idempotency_id", "message-1")
    fields.setdefault("timeout_seconds", 5.0)
    return ReplyRequest(agent, text, **fields)


class StopAtFirstWord:
    """Asks to stop as soon as the first word of the answer has come."""

    heard = False

    def __call__(self) -> bool:
        return self.heard


def ask(backend: Backend, asked: ReplyRequest | None = None, stop: Callable[[], bool] = lambda: False) -> list[Chunk]:
    chunks: list[Chunk] = []
    for chunk in backend.stream_reply(asked or request(), should_stop=stop):
        chunks.append(chunk)
        if isinstance(stop, StopAtFirstWord):
            stop.heard = stop.heard or isinstance(chunk, TextDelta)
    return chunks


def text_of(chunks: list[Chunk]) -> str:
    return "".join(chunk.text for chunk in chunks if isinstance(chunk, TextDelta))


def stop_after(seconds: float) -> Callable[[], bool]:
    begin = time.monotonic()
    return lambda: time.monotonic() - begin > seconds
