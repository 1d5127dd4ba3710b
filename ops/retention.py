"""How long rows are kept. Apps register their kinds; an operator sets the days, live; ``data.retention`` sees what is due.

``automatic`` kinds are what machines say among themselves: the hourly pruning removes them. Of all others (what people said) nothing goes
without an operator's word, and not without an export that can be read back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.db import models
from django.db.models import Count, Min
from django.utils import timezone

from ops.live import live, register_live
from ops.secrets import EncryptedField

HOLD = "retention.hold"
_BATCH = 1000


@dataclass(frozen=True, slots=True)
class RetentionKind:
    """A kind of rows. ``rows(before)`` are those from before a time that nothing needs any more; ``time_field`` says from when a row is;
    ``default_days`` 0 keeps them for ever. ``size(rows)`` says about how many bytes go with them, and ``files(rows)`` which files lie
    beside them, so that an export keeps these too."""

    kind: str
    label: str
    rows: Callable[[datetime], models.QuerySet[Any]]
    time_field: str
    default_days: int
    automatic: bool
    size: Callable[[models.QuerySet[Any]], int] | None = None
    files: Callable[[Sequence[Any]], Iterable[Path]] | None = None

    @property
    def key(self) -> str:
        """The name of the live setting."""
        return f"retention.{self.kind}.days"

    def days(self) -> int:
        """How many days they are kept; 0: for ever."""
        return int(live(self.key))


@dataclass(frozen=True, slots=True)
class Due:
    """What of a kind has had its time."""

    kind: RetentionKind
    before: datetime
    count: int
    oldest: datetime | None
    size: int | None = None


_kinds: dict[str, RetentionKind] = {}


def _days(given: Any) -> int:
    try:
        number = int(given)
    except (TypeError, ValueError):
        number = -1
    if isinstance(given, bool) or not 0 <= number <= 36500:
        raise ValueError("Give days as a whole number; 0 keeps them for ever.")
    return number


def _truth(given: Any) -> bool:
    if isinstance(given, bool):
        return given
    if str(given).strip().lower() in ("1", "true", "yes", "on"):
        return True
    if str(given).strip().lower() in ("0", "false", "no", "off", ""):
        return False
    raise ValueError("Give true or false.")


register_live(
    HOLD,
    label="Legal hold",
    help="While it is on, nothing is removed for its age, by nobody.",
    parse=_truth,
    default=lambda: False,
)


def register_retention(
    kind: str,
    *,
    label: str,
    rows: Callable[[datetime], models.QuerySet[Any]],
    time_field: str,
    default_days: int = 0,
    automatic: bool = False,
    size: Callable[[models.QuerySet[Any]], int] | None = None,
    files: Callable[[Sequence[Any]], Iterable[Path]] | None = None,
    sealed: bool = False,
) -> RetentionKind:
    """Make a kind of rows known, and its days a live setting. Models with encrypted fields are refused, unless ``sealed`` says that an
    export with their encrypted texts is what is wanted."""
    model = rows(timezone.now()).model
    if not sealed and any(isinstance(field, EncryptedField) for field in model._meta.fields):
        raise ValueError(f"{model._meta.label} holds secrets; its rows cannot be exported.")
    known = RetentionKind(kind, label, rows, time_field, default_days, automatic, size, files)
    _kinds[kind] = known
    register_live(
        known.key,
        label=f"Days to keep: {label}",
        help=f"Older {label} are removed{' by themselves' if automatic else ' when an operator says so'}. 0 keeps them for ever.",
        parse=_days,
        default=lambda: default_days,
    )
    return known


def retention_kinds() -> list[RetentionKind]:
    """All kinds, by name."""
    return [_kinds[name] for name in sorted(_kinds)]


def on_hold() -> bool:
    """Whether nothing may be removed."""
    return bool(live(HOLD))


def due(
    kind: RetentionKind, *, grace: timedelta = timedelta(0), days: int | None = None, measure: bool = False
) -> Due | None:
    """What of a kind is due, or would be after ``days``; None when nothing is, or when it is kept for ever. ``measure`` asks for the size too."""
    days = kind.days() if days is None else days
    if not days:
        return None
    before = timezone.now() - timedelta(days=days) - grace
    # Without its default order: only the count and the oldest are asked for.
    found = kind.rows(before).order_by().aggregate(count=Count("pk"), oldest=Min(kind.time_field))
    if not found["count"]:
        return None
    size = kind.size(kind.rows(before).order_by()) if measure and kind.size is not None else None
    return Due(kind, before, found["count"], found["oldest"], size)


def purge_automatic() -> dict[str, int]:
    """Remove what is due of the automatic kinds, in batches; returns how many rows of each."""
    gone: dict[str, int] = {}
    for kind in retention_kinds():
        if not kind.automatic or on_hold() or not kind.days():
            continue
        rows = kind.rows(timezone.now() - timedelta(days=kind.days())).order_by("pk")
        label, gone[kind.kind] = rows.model._meta.label, 0
        while batch := list(rows.values_list("pk", flat=True)[:_BATCH]):
            gone[kind.kind] += rows.model._default_manager.filter(pk__in=batch).delete()[1].get(label, 0)
    return gone
