"""Letta's messages to our chunks: the same decoder for a live stream and for messages read back later.

Shapes from ``letta/schemas/letta_message.py``, ``letta_stop_reason.py`` and ``usage.py`` of 0.16.8. With ``stream_tokens``
one message comes in many pieces that share an ``id``; a tool call's arguments come in pieces that share a ``tool_call_id``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from agents.backends.chunks import (
    Chunk,
    Finished,
    ReasoningDelta,
    RunStarted,
    TextDelta,
    ToolCall,
    ToolResult,
    Unrecognised,
)
from agents.backends.errors import (
    BackendBroken,
    BackendError,
    BackendNeedsApproval,
    BackendNoCredit,
    BackendRateLimited,
    BackendRejected,
    BackendTimeout,
    BackendUnavailable,
    ProviderRefused,
)
from agents.backends.http_errors import is_about_credit
from agents.backends.redact import short

SEND_MESSAGE = "send_message"
"""The tool through which agents made before 0.12 speak; its ``message`` argument is the answer."""

REASONS = {
    "end_turn": "end",
    "tool_rule": "end",
    "no_tool_call": "end",
    "cancelled": "cancelled",
    "max_steps": "max_steps",
    "max_tokens_exceeded": "length",
    "requires_approval": "approval",
}
"""Stop reasons after which the reply stands as it is. All others are failures."""

_ERRORS: dict[str, tuple[type[BackendError], str]] = {
    "llm_rate_limit": (BackendRateLimited, BackendRateLimited.public),
    "llm_timeout": (BackendTimeout, "The agent's model took too long to answer."),
    "llm_authentication": (ProviderRefused, ProviderRefused.public),
    "llm_empty_response": (BackendBroken, "The agent's model gave an empty answer."),
    "llm_error": (BackendUnavailable, "The agent's model failed."),
    "llm_insufficient_credits": (BackendNoCredit, BackendNoCredit.public),
    "insufficient_credits": (BackendNoCredit, BackendNoCredit.public),
    "context_window_overflow_in_system_prompt": (
        BackendRejected,
        "The agent's instructions are too long for its model.",
    ),
    "stream_incomplete": (BackendBroken, BackendBroken.public),
}


READ = frozenset(
    {
        *(
            "assistant_message",
            "reasoning_message",
            "tool_call_message",
            "approval_request_message",
            "tool_return_message",
        ),
        *("stop_reason", "usage_statistics", "error_message"),
    }
)
"""Types of messages whose content the decoder uses."""

PASSED_OVER = frozenset(
    {
        *("ping", "system_message", "user_message", "hidden_reasoning_message", "approval_response_message"),
        *("summary", "summary_message", "event", "event_message"),
    }
)
"""Types of messages that are known and hold nothing for the person. Any other is named and counted, never dropped silently."""


def is_waiting_for_approval(words: str) -> bool:
    """Letta says it as a 409 with ``PENDING_APPROVAL`` or, inside a stream, only as a sentence."""
    return "PENDING_APPROVAL" in words or "waiting for approval" in words


def error_from_message(data: dict[str, Any], where: str, secrets: tuple[str, ...]) -> BackendError:
    """The error for an ``error_message`` in a stream: ``{error_type, message, detail, run_id}``."""
    inner = data.get("error")
    body: dict[str, Any] = inner if isinstance(inner, dict) else data
    kind = str(body.get("error_type") or body.get("type") or "error")
    words = ": ".join(str(part) for part in (kind, body.get("message"), body.get("detail")) if part)
    reason = f"{where}: the run failed: {short(words, secrets)}"
    if is_waiting_for_approval(words):
        return BackendNeedsApproval(reason)
    error, public = _ERRORS.get(kind, (BackendUnavailable, "The agent ran into an error."))
    if is_about_credit(words):
        # Letta 0.16 passes a provider's "insufficient_quota" on as a rate limit.
        error, public = BackendNoCredit, BackendNoCredit.public
    return error(reason, public=public)


class Decoder:
    """Feed it messages in order; ask it for the end. One decoder reads one reply."""

    def __init__(
        self, where: str, secrets: tuple[str, ...] = (), known_run: str = "", *, may_be_silent: bool = False
    ) -> None:
        self.run = known_run
        self.stop_reason = ""
        self.said_something = False
        self.used_tools = False
        # The rest of an answer that has begun already.
        self._may_be_silent = may_be_silent
        self._where = where
        self._secrets = secrets
        self._text_id = ""
        self._calls: dict[str, list[str]] = {}
        self._waiting: set[str] = set()
        self._last_call = ""
        self._spoken_calls: set[str] = set()
        self._usage: tuple[int | None, int | None] = (None, None)
        self._unknown: dict[str, str] = {}

    def feed_text(self, data: str) -> Iterator[Chunk]:
        """One ``data:`` payload of the stream. Raises ``BackendBroken`` for what is not a message, or the run's own error."""
        try:
            message = json.loads(data)
        except ValueError:
            message = None
        if not isinstance(message, dict):
            raise BackendBroken(f"{self._where}: the stream holds garbage: {short(data, self._secrets, 80)!r}.")
        yield from self.feed(message)

    def feed(self, message: dict[str, Any]) -> Iterator[Chunk]:
        """One message. Raises the error that an ``error_message`` stands for."""
        kind = message.get("message_type", "")
        run = message.get("run_id")
        if isinstance(run, str) and run and run != self.run:
            self.run = run
            yield RunStarted(run)
        if kind == "error_message" or (not kind and "error" in message):
            raise error_from_message(message, self._where, self._secrets)
        if kind not in ("tool_call_message", "approval_request_message", "ping"):
            yield from self._complete_calls()
        if kind == "assistant_message":
            yield from self._text(_plain(message.get("content")), str(message.get("id") or message.get("otid") or ""))
        elif kind == "reasoning_message":
            if message.get("reasoning"):
                yield ReasoningDelta(str(message["reasoning"]))
        elif kind in ("tool_call_message", "approval_request_message"):
            yield from self._call(message)
        elif kind == "tool_return_message":
            yield from self._returns(message)
        elif kind == "stop_reason":
            self.stop_reason = str(message.get("stop_reason") or "")
        elif kind == "usage_statistics":
            self._usage = (_count(message.get("prompt_tokens")), _count(message.get("completion_tokens")))
        elif kind not in READ and kind not in PASSED_OVER:
            yield from self._not_known(str(kind), message)

    def _not_known(self, kind: str, message: dict[str, Any]) -> Iterator[Chunk]:
        """Named at its first sight in a reply. Text that it carries is kept: it is the answer when no other comes."""
        text = next((t for t in (_plain(message.get(key)) for key in ("content", "text", "output_text")) if t), "")
        if kind not in self._unknown:
            self._unknown[kind] = ""
            fields = ", ".join(sorted(map(str, message)))
            yield Unrecognised(kind[:100] or "(none)", short(f"fields: {fields}", self._secrets, 200))
        self._unknown[kind] += text

    def finish(self, stop_reason: str = "") -> Iterator[Chunk]:
        """The end marker came. Yields what is left and ``Finished``; raises when the run failed or said nothing."""
        yield from self._complete_calls()
        word = self.stop_reason or stop_reason
        if word and word not in REASONS:
            error, public = _ERRORS.get(word, (BackendUnavailable, "The agent ran into an error."))
            raise error(f"{self._where}: the run stopped with {short(word, self._secrets)!r}.", public=public)
        reason = REASONS.get(word, "end")
        if reason == "end" and not self.said_something:
            # A newer server may call the answer by another name: better its raw text than silence.
            yield from self._text("\n\n".join(filter(None, self._unknown.values())).strip(), "unrecognised")
        if reason == "end" and not self.said_something and not self._may_be_silent:
            how = "called tools and then said nothing" if self.used_tools else "gave an empty reply"
            raise BackendBroken(
                f"{self._where}: the agent {how}.", public="The agent finished without saying anything."
            )
        yield Finished(reason, *self._usage)

    def _text(self, text: str, message_id: str) -> Iterator[Chunk]:
        if not text:
            return
        if self.said_something and message_id != self._text_id:
            yield TextDelta("\n\n")
        self._text_id = message_id
        self.said_something = True
        yield TextDelta(text)

    def _call(self, message: dict[str, Any]) -> Iterator[Chunk]:
        calls = message.get("tool_calls") or message.get("tool_call") or []
        for call in calls if isinstance(calls, list) else [calls]:
            if not isinstance(call, dict):
                continue
            call_id = str(call.get("tool_call_id") or self._last_call or message.get("id") or "")
            if call_id not in self._calls:
                yield from self._complete_calls()
                self._calls[call_id] = ["", ""]
            self._last_call = call_id
            if message.get("message_type") == "approval_request_message":
                self._waiting.add(call_id)
            held = self._calls[call_id]
            held[0] = held[0] or str(call.get("name") or "")
            held[1] += str(call.get("arguments") or "")

    def _complete_calls(self) -> Iterator[Chunk]:
        calls, self._calls, self._last_call = self._calls, {}, ""
        for call_id, (name, arguments) in calls.items():
            spoken = _spoken(arguments) if name == SEND_MESSAGE else None
            if spoken is not None:
                self._spoken_calls.add(call_id)
                yield from self._text(spoken, call_id)
            else:
                self.used_tools = True
                yield ToolCall(call_id, name, arguments, needs_approval=call_id in self._waiting)

    def _returns(self, message: dict[str, Any]) -> Iterator[Chunk]:
        several = message.get("tool_returns")
        for item in several if isinstance(several, list) and several else [message]:
            if not isinstance(item, dict):
                continue
            call_id = str(item.get("tool_call_id") or message.get("tool_call_id") or "")
            if call_id in self._spoken_calls:
                continue
            name = str(item.get("name") or message.get("name") or "")
            ok = (item.get("status") or message.get("status")) != "error"
            yield ToolResult(call_id, name, _plain(item.get("tool_return", item.get("func_response"))), ok)


def _plain(content: Any) -> str:
    """Text of a string or of a list of content parts; pictures and the like are named."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "".join(
        str(part.get("text") or "") if part.get("type") == "text" else f"[{part.get('type') or 'part'}]"
        for part in content
        if isinstance(part, dict)
    )


def _spoken(arguments: str) -> str | None:
    try:
        message = json.loads(arguments).get("message")
    except (ValueError, AttributeError):
        return None
    return message if isinstance(message, str) else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) else None
