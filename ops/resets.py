"""What can be begun anew by itself. Each app says what of its rows goes, what becomes of it outside, and how it is found again.

The rows of a scope go in one transaction (``remove``), after a backup that was read to its end; what the outside still has is found again
afterwards (``find_again``), so that nothing is made there a second time. ``ops.services.resets`` runs it all; nobody else calls these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from django.db import DEFAULT_DB_ALIAS, models

from ops.findings import Finding

ALL = "all"


@dataclass(frozen=True, slots=True)
class ResetLine:
    """So many rows of one kind would go. ``label`` is the plural, for people."""

    model: str
    label: str
    count: int

    def to_dict(self) -> dict[str, Any]:
        """JSON shape: ``{model, label, count}``."""
        return {"model": self.model, "label": self.label, "count": self.count}


@dataclass(frozen=True, slots=True)
class Instead:
    """What may help already, and removes nothing: a sentence, and the command for it."""

    sentence: str
    command: str

    def to_dict(self) -> dict[str, str]:
        """JSON shape: ``{sentence, command}``."""
        return {"sentence": self.sentence, "command": self.command}


@dataclass(slots=True)
class ResetWork:
    """What the functions of a scope get in hand. ``scopes`` are all that are reset together; ``memory`` passes from ``remove`` to
    ``find_again`` and ``afterwards`` while all run in one process (it is empty when a reset is finished later)."""

    actor: str
    scopes: tuple[str, ...]
    say: Callable[[Finding], None]
    progress: Callable[[str], None] = lambda text: None
    memory: dict[str, Any] = field(default_factory=dict)


def _no_findings() -> Iterable[Finding]:
    return ()


def _no_advice() -> Iterable[Instead]:
    return ()


@dataclass(frozen=True, slots=True)
class ResetScope:
    """A registered scope. ``kind`` is the kind of rows of a backup that brings it back (``ops.backup.scopes``).

    ``lines()`` counts what would go; ``outside()`` says what stays outside without us knowing of it, and what is lost for good;
    ``instead()`` what to try first. ``remove(work)`` runs in the reset's transaction and returns how many rows of each model went.
    ``find_again(work)`` runs after the commit, may ask other servers, and returns what still is not found, in sentences; it may be
    repeated. ``afterwards(work)`` runs once everybody works again: what may take its time, and changes no rows. ``alone``: it can be asked
    for by its name; the others go with ``all``.
    """

    name: str
    label: str
    sentence: str
    kind: str
    lines: Callable[[], list[ResetLine]]
    remove: Callable[[ResetWork], dict[str, int]]
    outside: Callable[[], Iterable[Finding]] = _no_findings
    instead: Callable[[], Iterable[Instead]] = _no_advice
    find_again: Callable[[ResetWork], list[str]] | None = None
    afterwards: Callable[[ResetWork], None] | None = None
    alone: bool = True
    order: int = 50


_scopes: dict[str, ResetScope] = {}


def register_reset(scope: ResetScope) -> ResetScope:
    """Make a scope known. Lower ``order`` is removed first: what refers to others goes before them."""
    _scopes[scope.name] = scope
    return scope


def reset_scopes() -> list[ResetScope]:
    """All scopes, in the order in which they are removed."""
    return sorted(_scopes.values(), key=lambda scope: scope.order)


def reset_names() -> list[str]:
    """What can be asked for: the scopes by name, and ``all``."""
    return [*(scope.name for scope in reset_scopes() if scope.alone), ALL]


def chosen(names: Iterable[str]) -> list[ResetScope]:
    """The scopes that are meant, in the order in which they are removed. Raises ``ValueError`` with a sentence for what is none."""
    wanted = {name.strip() for name in names if name.strip()}
    known = reset_names()
    if unknown := sorted(wanted - set(known)):
        raise ValueError(f"There is no scope {', '.join(unknown)}; choose of {', '.join(known)}.")
    if not wanted:
        raise ValueError(f"Say what is to be reset: {', '.join(known)}.")
    return [scope for scope in reset_scopes() if ALL in wanted or scope.name in wanted]


def line_of(rows: models.QuerySet[Any], label: str) -> ResetLine:
    """How many there are of something."""
    return ResetLine(rows.model._meta.label, label, rows.order_by().count())


def delete_rows(*each: models.QuerySet[Any]) -> dict[str, int]:
    """Delete rows with what hangs on them, in this order and in the caller's transaction. Returns how many of each model went that was named."""
    gone: dict[str, int] = {}
    for rows in each:
        label = rows.model._meta.label
        gone[label] = gone.get(label, 0) + rows.delete()[1].get(label, 0)
    return gone


def remove_rows(rows: models.QuerySet[Any]) -> int:
    """Delete rows in one statement, in the caller's transaction; whatever refers to them has to be gone, or to go before the commit."""
    return int(rows.order_by()._raw_delete(DEFAULT_DB_ALIAS) or 0)
