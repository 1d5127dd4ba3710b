"""The shapes of Letta 0.16.8's messages and stream events, as a running server sends them.

A turn's stream is a list of frames. ``Frame.word`` marks those that a model would produce one after the other.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from .scripts import Script
from .stub import count_tokens

DONE = "data: [DONE]\n\n"
_THOUGHT = ("The person wants", " an echo.")


def new_id(kind: str) -> str:
    """An id as Letta makes them, for example ``run-`` and a UUID."""
    return f"{kind}-{uuid.uuid4()}"


def now() -> str:
    """The date of a message, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S+00:00")


def otid_of(message_id: str, index: int = 0) -> str:
    """Letta's own otid for the parts of a message: its UUID with the last two digits replaced by 0x80 + index."""
    return f"{message_id.partition('-')[2][:-2]}{0x80 + index:02x}"


def message(
    kind: str, message_id: str, *, otid: str | None, run: str | None, step: str | None, **fields: Any
) -> dict[str, Any]:
    """One message in the order of fields that Letta uses."""
    name = fields.pop("name", None)
    sender = fields.pop("sender_id", None)
    return {
        "id": message_id,
        "date": now(),
        "name": name,
        "message_type": kind,
        "otid": otid,
        "sender_id": sender,
        "step_id": step,
        "is_err": None,
        "seq_id": None,
        "run_id": run,
        **fields,
    }


def stop_reason(reason: str) -> dict[str, Any]:
    return {"message_type": "stop_reason", "stop_reason": reason}


def usage(asked: str, answer: str, steps: int = 1, *, details: int | None = None) -> dict[str, Any]:
    """The last event of a good stream. ``details`` is what a model's answer in one piece says of caches and reasoning."""
    read, written = 500 + count_tokens(asked), count_tokens(answer)
    return {
        "message_type": "usage_statistics",
        "completion_tokens": written,
        "prompt_tokens": read,
        "total_tokens": read + written,
        "step_count": steps,
        "run_ids": None,
        "cached_input_tokens": details,
        "cache_write_tokens": details,
        "reasoning_tokens": details,
        "context_tokens": read + written,
    }


def error_parts(status: int) -> dict[str, str]:
    """``type``, ``message`` and ``detail`` of a failed model call."""
    if status == 429:
        words = "Rate limit exceeded for LLM model provider. Please wait before making another request."
        return {
            "type": "llm_rate_limit",
            "message": words,
            "detail": "RATE_LIMIT_EXCEEDED: Rate limited by OpenAI: Error code: 429",
        }
    words = "An error occurred with the LLM request."
    return {
        "type": "llm_error",
        "message": words,
        "detail": f"INTERNAL_SERVER_ERROR: OpenAI API error: Error code: {status}",
    }


@dataclass(slots=True)
class Frame:
    """One piece of a stream. ``event`` is the SSE event name, ``seq`` whether background runs number it."""

    data: dict[str, Any]
    event: str = ""
    word: bool = False
    seq: bool = False

    def text(self) -> str:
        head = f"event: {self.event}\n" if self.event else ""
        return f"{head}data: {json.dumps(self.data, separators=(',', ':'), ensure_ascii=False)}\n\n"


@dataclass(slots=True)
class Answer:
    """What one input leads to: the frames to stream, and the messages that the history keeps when it ends well."""

    frames: list[Frame]
    kept: list[dict[str, Any]]
    usage: dict[str, Any]
    step: str
    failed: int = 0


def compose(script: Script, text: str, run: str, *, tokens: bool, pings: bool) -> Answer:
    """The answer that ``script`` asks for, as a ``letta_v1_agent`` gives it."""
    frames: list[Frame] = []
    kept: list[dict[str, Any]] = []
    first_step = step = new_id("step")
    if pings:
        ping = message("ping", new_id("ping"), otid=None, run=run, step=None)
        frames.append(Frame(ping, seq=True))
    if script.error and script.error_after is None:
        _add_failure(frames, script.error, run)
        return Answer(frames, kept, usage(text, ""), first_step, failed=script.error)

    def say(kind: str, field: str, pieces: list[str], **fields: Any) -> None:
        message_id = new_id("message")
        base: dict[str, Any] = {"otid": otid_of(message_id), "run": run, "step": step, **fields}
        for piece in pieces if tokens else ["".join(pieces)]:
            frames.append(Frame(message(kind, message_id, **{**base, field: piece}), word=True, seq=True))
        kept.append(message(kind, message_id, **{**base, field: "".join(pieces)}))

    if script.think:
        say("reasoning_message", "reasoning", list(_THOUGHT), source="reasoner_model", signature=None)
    if script.tool:
        _add_tool(frames, kept, run, step, tokens=tokens)
        step = new_id("step")
    words = script.words
    if script.error_after is not None:
        if words[: script.error_after]:
            say("assistant_message", "content", words[: script.error_after])
        _add_failure(frames, script.error, run)
        return Answer(frames, [], usage(text, ""), first_step, failed=script.error)
    if words:
        say("assistant_message", "content", words)
    total = usage(text, script.text, 2 if script.tool else 1, details=None if tokens else 0)
    frames += [Frame(stop_reason("end_turn")), Frame(total)]
    return Answer(frames, kept, total, first_step)


def _add_failure(frames: list[Frame], status: int, run: str) -> None:
    parts = error_parts(status)
    body = {"message_type": "error_message", "run_id": run, "error_type": parts["type"]}
    frames.append(Frame(stop_reason("llm_api_error")))
    frames.append(
        Frame({**body, "message": parts["message"], "detail": parts["detail"], "seq_id": None}, event="error")
    )


def _add_tool(frames: list[Frame], kept: list[dict[str, Any]], run: str, step: str, *, tokens: bool) -> None:
    """A call of ``conversation_search`` and what it returned."""
    call_id, message_id = f"call_{uuid.uuid4().hex[:8]}", new_id("message")
    whole = {"name": "conversation_search", "arguments": '{"query":"x"}', "tool_call_id": call_id}
    base: dict[str, Any] = {"otid": otid_of(message_id), "run": run, "step": step}
    parts: list[dict[str, Any]] = [whole]
    if tokens:
        head = {"name": whole["name"], "tool_call_id": call_id}
        parts = [head, *({"arguments": piece, "tool_call_id": call_id} for piece in ('{"query"', ':"x"}'))]
    for part in parts:
        data = message("tool_call_message", message_id, **base, tool_call=part, tool_calls=part)
        frames.append(Frame(data, word=True, seq=True))
    kept.append(message("tool_call_message", message_id, **base, tool_call=whole, tool_calls=[whole]))
    message_id = new_id("message")
    told = "{'message': 'No results found.', 'results': []}"
    result = {"tool_return": told, "status": "success", "tool_call_id": call_id, "stdout": None, "stderr": None}
    base = {"otid": otid_of(message_id), "run": run, "step": step, "name": whole["name"]}
    data = message("tool_return_message", message_id, **base, **result, tool_returns=[{"type": "tool", **result}])
    frames.append(Frame(data, seq=True))
    kept.append(data)
