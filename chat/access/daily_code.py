"""Portagent 1's invitation code: the seconds since 1970 of today 00:00:01 in the server's zone. Guessable; for a transition only.

Source: ``auth.ts`` of Portagent 1.9: ``parseInt(code, 10)`` equals that number. People worked it out in zones of their own and were
refused, so here the zone does not matter: 00:00:01 of yesterday, today or tomorrow in any zone counts.
"""

from __future__ import annotations

from datetime import UTC, datetime, time

from django.utils import timezone

_DAY = 86_400
# The zone furthest from UTC, and what all zones' distances from it are multiples of.
_FURTHEST = 14 * 3600
_QUARTER = 900


def is_daily_code(code: str, now: datetime | None = None) -> bool:
    """Whether a text is one of the codes that count now."""
    digits = code.strip()
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 12):
        return False
    midnight = datetime.combine((now or timezone.now()).astimezone(UTC).date(), time(0, 0, 1), tzinfo=UTC)
    seconds = int(digits)
    return seconds % _QUARTER == 1 and abs(seconds - midnight.timestamp()) <= _DAY + _FURTHEST
