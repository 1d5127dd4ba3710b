"""What apps do when rows are put back: a look before, fences in the restore's own transaction, reconciliation after it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ops.findings import Finding

if TYPE_CHECKING:
    from ops.backup.since import Since


@dataclass(slots=True)
class Fence:
    """What a fence gets in hand, inside the transaction, after the rows are in.

    ``alias``: the database (ask every queryset for it: ``using(alias)``); ``cut_at``: when the backup's cut was made; ``now``: one time for
    everything that this restore writes; ``epoch``: the new number of ``RestoreEpoch``; ``kinds``: the kinds of rows that were put back
    (all of them when nothing was chosen); ``fresh``: the database was empty before. ``say`` takes findings for people.
    """

    alias: str
    cut_at: datetime
    now: datetime
    epoch: int
    kinds: tuple[str, ...]
    fresh: bool
    say: Callable[[Finding], None]


class NotYet(Exception):
    """A step of the reconciliation has to wait for something that comes by itself, and is done then. The text says for what, to people."""


@dataclass(slots=True)
class Reconcile:
    """What a step of the reconciliation gets in hand, after the commit. It may take long, and may be done again after a kill.

    ``progress(text)`` says what is being done. A step returns JSON for people (``{"sentence": …}`` at least); what it raises stands in the
    report as its error, and the next step goes on. ``extra``: what the look of the same name had noted (``register_before``).
    """

    cut_at: datetime
    now: datetime
    epoch: int
    kinds: tuple[str, ...]
    fresh: bool
    actor: str
    say: Callable[[Finding], None]
    progress: Callable[[str], None] = lambda text: None
    extra: dict[str, Any] = field(default_factory=dict)


BeforeFunction = Callable[[tuple[str, ...]], "dict[str, Any] | None"]
FenceFunction = Callable[[Fence], None]
ReconcileFunction = Callable[[Reconcile], "dict[str, Any] | None"]
# ``before`` and ``after`` get the connection of the database that is being filled.
BulkFunction = Callable[[Any], Any]

SinceFunction = Callable[["Since"], None]

_before: dict[str, BeforeFunction] = {}
_fences: dict[str, FenceFunction] = {}
_reconciles: dict[str, ReconcileFunction] = {}
_bulk: dict[str, tuple[BulkFunction, BulkFunction]] = {}
_since: dict[str, SinceFunction] = {}


def register_before(name: str, function: BeforeFunction) -> None:
    """Have something noted while everybody holds still, before rows of the given kinds change (not on an empty machine). It returns JSON with a
    ``sentence`` for people, or nothing; the step of the reconciliation with the same name gets it."""
    _before[name] = function


def register_fence(name: str, function: FenceFunction) -> None:
    """Have something done in the transaction of every restore, after its rows are in; in the order of registration."""
    _fences[name] = function


def register_reconcile(name: str, function: ReconcileFunction) -> None:
    """Have something done after every restore, once it is committed; in the order of registration. ``name`` is shown."""
    _reconciles[name] = function


def register_since(name: str, function: SinceFunction) -> None:
    """Have something looked at whenever a backup is compared with what is here: which of the present rows that the backup does not know stay."""
    _since[name] = function


def register_bulk(name: str, *, before: BulkFunction, after: BulkFunction) -> None:
    """Something that the database keeps by row (an index of words) and that is quicker made once, after an empty database was filled."""
    _bulk[name] = (before, after)


def befores() -> dict[str, BeforeFunction]:
    """All looks by name."""
    return dict(_before)


def fences() -> dict[str, FenceFunction]:
    """All fences by name."""
    return dict(_fences)


def reconciles() -> dict[str, ReconcileFunction]:
    """All steps of the reconciliation by name."""
    return dict(_reconciles)


def since_steps() -> dict[str, SinceFunction]:
    """What looks at present rows that the backup does not know, by name."""
    return dict(_since)


def bulk_steps() -> dict[str, tuple[BulkFunction, BulkFunction]]:
    """What to do before and after an empty database is filled, by name."""
    return dict(_bulk)
