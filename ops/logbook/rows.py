"""Turns one redacted log record into a row."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.utils import timezone

from ops.choices import LogLevel
from ops.models import LogLine

# A keeper says here how it fares; readers leave these lines out. See ``ops.logbook.status``.
STATUS_LOGGER = "ops.logbook.status"

RANKS: dict[str, int] = {"debug": 10, "info": 20, "warning": 30, "error": 40}
LONGEST_TEXT = 4000
LONGEST_TRACE = 20_000
MOST_EXTRA = 40

_ALIASES = {"warn": "warning", "critical": "error", "exception": "error", "fatal": "error", "notset": "debug"}
_OWN = frozenset(
    {"event", "level", "logger", "timestamp", "service", "agent", "message_id", "request_id", "exception", "stack"}
)


def level_of(event: Mapping[str, Any]) -> str:
    """debug, info, warning or error."""
    level = str(event.get("level", "info")).lower()
    level = _ALIASES.get(level, level)
    return level if level in RANKS else "info"


def to_row(event: Mapping[str, Any], *, role: str, process: str) -> LogLine:
    """``event`` is what the log's pipeline made: redacted, with the traceback as text in ``exception``."""
    text = clean(event.get("event", ""))
    extra = {str(name)[:100]: _value(value) for name, value in list(event.items())[:MOST_EXTRA] if name not in _OWN}
    if len(text) > 300:
        extra["whole"] = text[:LONGEST_TEXT]
    return LogLine(
        at=_when(event.get("timestamp")),
        level=LogLevel(level_of(event)),
        role=role[:8],
        process=process[:150],
        logger=clean(event.get("logger", ""))[:150],
        event=text[:300],
        service=clean(event.get("service", ""))[:64],
        agent=clean(event.get("agent", ""))[:200],
        message_id=clean(event.get("message_id", ""))[:64],
        request_id=clean(event.get("request_id", ""))[:64],
        extra=extra,
        # The end of a traceback says what happened.
        trace="\n".join(part for part in (clean(event.get("stack")), clean(event.get("exception"))) if part)[
            -LONGEST_TRACE:
        ],
    )


def clean(value: Any) -> str:
    """Text that every database can hold: PostgreSQL refuses NUL, and half of a surrogate pair is no UTF-8."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else str(value)
    return text.replace("\x00", "�").encode("utf-8", "replace").decode("utf-8")


def _value(value: Any, depth: int = 0) -> Any:
    if isinstance(value, (bool, int, type(None))):
        return value if not isinstance(value, int) or abs(value) < 2**53 else str(value)
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else str(value)
    if depth < 4 and isinstance(value, Mapping):
        return {clean(name)[:100]: _value(inner, depth + 1) for name, inner in list(value.items())[:MOST_EXTRA]}
    if depth < 4 and isinstance(value, (list, tuple)):
        return [_value(inner, depth + 1) for inner in list(value)[:MOST_EXTRA]]
    return clean(value)[:LONGEST_TEXT]


def _when(stamp: Any) -> datetime:
    try:
        found = datetime.fromisoformat(str(stamp).replace("Z", "+00:00"))
    except ValueError:
        return timezone.now()
    return found if found.tzinfo else timezone.now()
