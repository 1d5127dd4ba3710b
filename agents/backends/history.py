"""The bounded history for backends that keep none, in the order and roles their servers take."""

from __future__ import annotations

import re
from collections.abc import Sequence

from agents.backends.base import HistoryItem, ReplyRequest

HISTORY_ITEMS = 60
HISTORY_CHARACTERS = 48_000


def bounded(history: Sequence[HistoryItem], items: int, characters: int) -> list[HistoryItem]:
    """The newest messages within both limits. Starts with a ``user`` message where there is one: servers insist on it."""
    kept: list[HistoryItem] = []
    room = characters
    for item in reversed(history[-items:] if items > 0 else []):
        room -= len(item.text)
        if room < 0:
            break
        if item.text.strip() or item.attachments:
            kept.append(item)
    kept.reverse()
    while kept and kept[0].role == "assistant":
        kept.pop(0)
    return kept


def chosen(request: ReplyRequest, items: int, characters: int) -> list[HistoryItem]:
    """The history to send: within the limits, or what the caller chose."""
    if request.whole_history:
        return [item for item in request.history if item.text.strip()]
    return bounded(request.history, items, characters)


def instructed(prompt: object, request: ReplyRequest) -> str:
    """The agent's own system prompt, and behind it what the caller wants to be followed."""
    return "\n\n".join(text for text in (str(prompt or "").strip(), request.instructions.strip()) if text)


def several_speak(request: ReplyRequest, history: Sequence[HistoryItem]) -> bool:
    """Whether more than one voice besides the agent's is heard, so that each message must say whose it is."""
    names = {item.name for item in history if item.role == "user" and item.name}
    return len(names | {request.speaker.name}) > 1 or request.speaker.kind == "agent"


def labelled(name: str, text: str, show: bool) -> str:
    """``text``, with the speaker's name before it when ``show``."""
    name = " ".join(name.split())[:64]
    return f"{name}: {text}" if show and name else text


def name_field(name: str) -> str:
    """``name`` as OpenAI's API takes it: ``^[a-zA-Z0-9_-]{1,64}$``; empty when nothing is left of it."""
    return re.sub(r"[^a-zA-Z0-9_-]+", "_", name).strip("_")[:64]
