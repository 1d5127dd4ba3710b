"""Small readers of values that hand-edited files may hold in any shape."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from agents.matrix.markdown import clean_text

_ROOM_ID = re.compile(r"![\x21-\x7e]{1,254}")
_MOST_NAMES = 8


def text(value: Any) -> str:
    """A text without spaces around it; "" for what is none."""
    return clean_text(value).strip() if isinstance(value, str) else ""


def valid_room_id(value: str) -> bool:
    """Whether it is a room id. They are opaque: room version 12 has no server part."""
    return bool(_ROOM_ID.fullmatch(value)) and '"' not in value and "," not in value


def moment(value: Any) -> datetime | None:
    """A time from an ISO text, from seconds or from milliseconds since 1970. A time without a zone is UTC."""
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = value / 1000 if value > 1e11 else value
        try:
            return datetime.fromtimestamp(seconds, tz=UTC)
        except (ValueError, OverflowError, OSError):
            return None
    try:
        found = datetime.fromisoformat(text(value))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def unknown_fields(value: Mapping[str, Any], known: Iterable[str]) -> tuple[str, ...]:
    """A note that names fields of which nothing is known, none when there are none. Their values stay with the record."""
    names = sorted(str(name)[:40] for name in value if name not in set(known))
    if not names:
        return ()
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return (f"Fields that mean nothing here: {', '.join(names[:_MOST_NAMES])}{more}.",)
