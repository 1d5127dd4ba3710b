"""An answer as ``chat.completion`` objects: as chunks while it comes, or whole. Whoever goes away stops it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.db import close_old_connections

from chat.api.stream import TurnStream
from chat.models import Turn, TurnState
from chat.openai.errors import ApiError, not_answered
from chat.services.completions import completion_read
from chat.services.turns import turn_cancel
from chat.turns.follow import Event
from ops.api.answers import to_json
from ops.logs import get_logger

log = get_logger(__name__)

_FINISH = {"length": "length", "max_steps": "length"}
# What ends a stream: a few writes, apart from the threads that read.
_pool = ThreadPoolExecutor(max_workers=4, thread_name_prefix="completions")


class Completion(TurnStream):
    """One client that waits for one answer. ``chunks`` or ``whole``, once."""

    def __init__(
        self,
        turn: Turn,
        model: str,
        *,
        include_usage: bool = False,
        actor: str,
        still_allowed: Callable[[], bool] = lambda: True,
    ) -> None:
        super().__init__(turn.pk, turn.conversation_id, still_allowed=still_allowed)
        self._turn, self._model, self._include_usage, self._actor = turn, model, include_usage, actor
        self._created = int(turn.created_at.timestamp())
        self._sent = ""
        self._building = ""
        self._final: dict[str, Any] | None = None
        self._failed: ApiError | None = None

    async def chunks(self) -> AsyncIterator[bytes]:
        """Server-sent events, ``[DONE]`` at the end. An answer that fails half way ends with an error instead."""
        try:
            yield self._chunk({"role": "assistant", "content": ""})
            async for piece in self.events():
                if self._failed is None and piece:
                    yield piece
                if self._failed is not None:
                    break
            turn = await self._ended()
            if self._failed is not None:
                yield b"data: %s\n\n" % to_json(self._failed.body())
                return
            yield self._chunk({}, finish=_finish_reason(turn))
            if self._include_usage:
                yield self._data({**self._object("chat.completion.chunk"), "choices": [], "usage": _usage(turn)})
            yield b"data: [DONE]\n\n"
        finally:
            self._leave()

    async def whole(self) -> dict[str, Any]:
        """The answer as one object. Raises ``ApiError``."""
        try:
            async for _ in self.events():
                pass
            turn = await self._ended()
        finally:
            self._leave()
        if self._failed is not None:
            raise self._failed
        text = turn.reply.text if turn.reply is not None else ""
        return {
            **self._object("chat.completion"),
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text, "refusal": None},
                    "logprobs": None,
                    "finish_reason": _finish_reason(turn),
                }
            ],
            "usage": _usage(turn),
        }

    async def _ended(self) -> Turn:
        return await asyncio.get_running_loop().run_in_executor(_pool, self._read_end)

    def _read_end(self) -> Turn:
        close_old_connections()
        try:
            turn = Turn.objects.select_related("reply").filter(pk=self.turn_id).first() or self._turn
            if self._final is not None and self._failed is None:
                if turn.state not in (TurnState.DONE, TurnState.CANCELLED):
                    self._failed = not_answered(str(turn.state), turn.error_public, turn.error_code)
                completion_read(turn=turn)
            return turn
        finally:
            close_old_connections()

    def _leave(self) -> None:
        """The client went away before the end: nobody waits for the answer, so it is stopped, also at its backend."""
        if self._final is None:
            _pool.submit(self._stop)

    def _stop(self) -> None:
        close_old_connections()
        try:
            turn_cancel(turn=self._turn, actor=self._actor)
        except Exception:
            log.warning("completion.not_stopped", turn=self.turn_id, exc_info=True)
        finally:
            close_old_connections()

    # What the turn tells, in the words of this API

    def _sse(self, event: Event) -> bytes:
        if event.name == "delta":
            return self._more(str(event.data["text"]))
        if event.name == "reasoning":
            return self._chunk({"reasoning_content": event.data["text"]})
        if event.name == "reset":
            self._building = ""
        elif event.name == "turn" and event.data.get("final"):
            self._final = event.data
            if self._sent != self._building:
                self._begun_again()
        return b""

    def _more(self, text: str) -> bytes:
        self._building += text
        if not self._building.startswith(self._sent):
            # An answer that was begun again is passed on as long as it says the same.
            if not self._sent.startswith(self._building):
                self._begun_again()
            return b""
        fresh, self._sent = self._building[len(self._sent) :], self._building
        return self._chunk({"content": fresh}) if fresh else b""

    def _begun_again(self) -> None:
        self._failed = ApiError(
            502, "The answer broke off and was begun again, which cannot be shown here. Ask again.", kind="server_error",
            code="turn.begun_again",
        )  # fmt: skip

    def _gone(self, allowed: bool) -> bytes:
        if allowed:
            self._failed = ApiError(404, "The answer was deleted.", kind="server_error", code="turn.deleted")
            self._final = {}
        else:
            self._failed = ApiError(401, "The token has ended.", code="invalid_api_key")
        return b""

    def _object(self, kind: str) -> dict[str, Any]:
        created = self._created or int(time.time())
        return {"id": f"chatcmpl-{self.turn_id}", "object": kind, "created": created, "model": self._model}

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        usage = {"usage": None} if self._include_usage else {}
        return self._data({**self._object("chat.completion.chunk"), "choices": [choice], **usage})

    def _data(self, value: dict[str, Any]) -> bytes:
        return b"data: %s\n\n" % to_json(value)


def _finish_reason(turn: Turn) -> str:
    return _FINISH.get(turn.finish_reason, "stop")


def _usage(turn: Turn) -> dict[str, int] | None:
    """What the backend counted; ``None`` when it does not count."""
    if turn.input_tokens is None and turn.output_tokens is None:
        return None
    given, made = turn.input_tokens or 0, turn.output_tokens or 0
    return {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made}
