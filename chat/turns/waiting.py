"""An answer that stops at a tool call until somebody allows or refuses it, and goes on from there.

``Turn.approvals`` holds every call that ever waited in this answer, oldest first:
``{"id", "name", "arguments", "approve": null|true|false, "by", "reason", "at", "asked_at", "round", "foreign", "text_end", "parts_end"}``.
A round is what one stop asked for; its calls are answered together. ``text_end`` and ``parts_end`` are how much of the answer stood there
when it stopped: whatever happens afterwards, the answer goes on behind that. ``foreign`` calls belong to a run that Switchboard did not start
(somebody talked to the agent elsewhere); the server has not heard our message then.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.utils import timezone

from agents.backends.base import Approval
from agents.backends.chunks import ToolCall
from chat.models import Turn

ARGUMENTS_SHOWN = 300


def asked(
    turn: Turn, calls: Sequence[ToolCall], *, text_end: int, parts_end: int, foreign: bool
) -> list[dict[str, Any]]:
    """The turn's approvals with another round."""
    number = 1 + max((entry["round"] for entry in turn.approvals), default=0)
    now = timezone.now().isoformat()
    return [
        *turn.approvals,
        *(
            {
                "id": call.id[:255].replace("\x00", ""),
                "name": call.name[:255].replace("\x00", ""),
                "arguments": call.arguments[:20_000].replace("\x00", ""),
                "approve": None,
                "by": "",
                "reason": "",
                "at": None,
                "asked_at": now,
                "round": number,
                "foreign": foreign,
                "text_end": text_end,
                "parts_end": parts_end,
            }
            for call in calls
        ),
    ]


def deadline() -> Any:
    """When calls that are asked for now count as refused."""
    return timezone.now() + timedelta(seconds=settings.APPROVAL_TIMEOUT)


def last_round(approvals: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The calls of the newest stop."""
    number = max((entry["round"] for entry in approvals), default=0)
    return [entry for entry in approvals if entry["round"] == number]


def pending(turn: Turn) -> list[dict[str, Any]]:
    """The calls that wait for a word."""
    return [entry for entry in turn.approvals if entry["approve"] is None]


def words(turn: Turn) -> list[Approval]:
    """What is to be told to the backend: nothing while calls wait, or none ever did."""
    entries = last_round(turn.approvals)
    if any(entry["approve"] is None for entry in entries):
        return []
    return [Approval(entry["id"], entry["approve"], entry["reason"]) for entry in entries]


def is_unheard(turn: Turn) -> bool:
    """Whether the server has not been given the message yet: all calls that waited were others'."""
    return bool(turn.approvals) and all(entry["foreign"] for entry in turn.approvals)


def stood(turn: Turn) -> tuple[str, list[dict[str, Any]]]:
    """Text and parts of the answer up to its last stop; parts of text are put together again from the gaps between the others."""
    entries = last_round(turn.approvals)
    if not entries:
        return "", []
    text_end, parts_end = entries[0]["text_end"], entries[0]["parts_end"]
    beside = {part["index"]: part for part in turn.partial_parts if part["index"] < parts_end}
    parts: list[dict[str, Any]] = []
    place = 0
    for index in range(parts_end):
        part = beside.get(index)
        if part is not None:
            parts.append({name: value for name, value in part.items() if name != "index"})
            place = part["end"]
            continue
        following = [later["start"] for number, later in beside.items() if number > index]
        end = min(following, default=text_end)
        parts.append({"type": "text", "start": place, "end": end})
        place = end
    return turn.partial[:text_end], parts


def sentence(turn: Turn, calls: Sequence[dict[str, Any]]) -> str:
    """What a room is told: what waits, and how to answer it there."""
    told = [f"`{_plain(entry['name'])}({_arguments(entry['arguments'])})`" for entry in calls]
    what = " and ".join(told) if len(told) < 3 else "; ".join(told)
    hours = settings.APPROVAL_TIMEOUT / 3600
    within = f"{hours:.0f} h" if hours >= 1 else f"{settings.APPROVAL_TIMEOUT / 60:.0f} min"
    return (
        f"{turn.agent.name} asks for permission to call {what}. Answer `!approve`, or `!deny` and a reason; "
        f"without an answer within {within} it counts as denied."
    )


def _arguments(text: str) -> str:
    """Arguments for people: ``name: value``, shortened."""
    try:
        found = json.loads(text)
        shown = ", ".join(f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in found.items())
    except (ValueError, AttributeError):
        shown = text
    shown = _plain(" ".join(shown.split()))
    return shown if len(shown) <= ARGUMENTS_SHOWN else f"{shown[:ARGUMENTS_SHOWN]}…"


def _plain(text: str) -> str:
    return text.replace("`", "'")
