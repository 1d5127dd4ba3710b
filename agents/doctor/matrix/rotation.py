"""Which of many rows a check asks the homeserver about in this run: bounded, so that ten thousand agents stay cheap.

Each run asks about those that were red the last time, about those that somebody has noticed something with, and about a slice of
all others. Where the slice ended is kept in the evidence of the check's last outcome, so the next run goes on from there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet

from ops.models import CheckState

MOST_RED = 300


@dataclass(frozen=True, slots=True)
class Slice:
    """The keys to ask about now. ``cursor`` is the last key of the slice (0: it came round), ``total`` how many rows there are."""

    keys: tuple[int, ...]
    cursor: int
    total: int

    def evidence(self, red: Iterable[int]) -> dict[str, Any]:
        """What the next run needs: ``{cursor, asked, total, red}``."""
        return {
            "cursor": self.cursor,
            "asked": len(self.keys),
            "total": self.total,
            "red": sorted(red)[:MOST_RED],
        }


def next_slice(
    check_id: str, target: str, rows: QuerySet[Any], *, size: int, first: Iterable[int] = (), column: str = "pk"
) -> Slice:
    """The next keys of ``rows``. ``first`` are keys that come before the slice (rows with a problem), whatever its size."""
    state = CheckState.objects.filter(check_id=check_id, target=target).values_list("evidence", flat=True).first()
    last = state if isinstance(state, dict) else {}
    cursor = last.get("cursor") if isinstance(last.get("cursor"), int) else 0
    red = [key for key in last.get("red") or () if isinstance(key, int)][:MOST_RED]
    plain = rows.order_by(column)
    slice_keys = list(plain.filter(**{f"{column}__gt": cursor}).values_list(column, flat=True)[:size])
    ended = slice_keys[-1] if len(slice_keys) == size else 0
    if not slice_keys and cursor:
        # It ended exactly at the last row: begin again.
        slice_keys = list(plain.values_list(column, flat=True)[:size])
        ended = slice_keys[-1] if len(slice_keys) == size else 0
    wanted = [*red, *first]
    still = set(rows.filter(**{f"{column}__in": wanted}).values_list(column, flat=True)) if wanted else set()
    keys = tuple(dict.fromkeys([*(key for key in wanted if key in still), *slice_keys]))
    return Slice(keys, ended, rows.count())
