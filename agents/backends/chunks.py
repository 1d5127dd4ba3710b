"""What a reply is made of while it comes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More of the answer's text."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """More of the agent's reasoning; never part of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The agent calls a tool. ``arguments`` is JSON text as far as the server gave it.

    ``needs_approval``: it is not run before somebody allows it; the reply then ends with ``Finished("approval")``.
    """

    id: str
    name: str
    arguments: str = ""
    needs_approval: bool = False


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool gave back."""

    id: str
    name: str
    output: str
    ok: bool = True


@dataclass(frozen=True, slots=True)
class RunStarted:
    """The server named its run; kept so that it can be cancelled or resumed by another process."""

    ref: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The last chunk of a reply, exactly once, and only when the server really ended it.

    ``reason``: ``end``, ``cancelled``, ``max_steps``, ``length``, ``approval`` or the server's own word.
    """

    reason: str = "end"
    input_tokens: int | None = None
    output_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Unrecognised:
    """The server said something of a type that the adapter does not know; named once a reply, so that it can be counted.

    ``sample`` is its redacted beginning, at most 200 characters, without what people or agents said.
    """

    type: str
    sample: str = ""


Chunk = TextDelta | ReasoningDelta | ToolCall | ToolResult | RunStarted | Unrecognised | Finished
