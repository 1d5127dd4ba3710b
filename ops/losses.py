"""Secrets whose key is lost: which they are, by name; taking them away, so that the rest works; and putting them back if the key turns up.

What is encrypted is known: columns of models (``ops.secret_columns``), and what apps register for rotation. Apps say here what they call it and what has to be
entered again; without a word of theirs a field is emptied and its rows are called by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ops.secret_columns import SecretColumn, Stored, secret_columns
from ops.secret_rotation import rotations
from ops.secrets import can_open

# So many names of a kind are told; the number says how many there are.
NAMED = 200

Names = Callable[[Sequence[str]], "dict[str, str]"]
Clear = Callable[[Sequence[str]], "list[dict[str, Any]]"]
PutBack = Callable[[Sequence["dict[str, Any]"]], int]
Settle = Callable[[Sequence[str], str], None]


@dataclass(frozen=True, slots=True)
class LossKind:
    """How one kind of secrets is spoken of and taken away.

    ``what``: what is lost, in the plural; ``advice``: what to do so that it works again. ``names(keys)``: what people call these rows.
    ``clear(keys)`` takes them away and returns what ``put_back`` needs; ``settle(keys, actor)`` does what follows from that.
    ``matters`` False: nobody has to enter anything again.
    """

    label: str
    what: str
    advice: str
    names: Names | None = None
    clear: Clear | None = None
    put_back: PutBack | None = None
    settle: Settle | None = None
    matters: bool = True


@dataclass(frozen=True, slots=True)
class Loss:
    """Secrets of one kind that no present key opens: how many, their rows' keys, and their names (of the first ``NAMED``)."""

    kind: LossKind
    keys: tuple[str, ...]
    names: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON shape: ``{label, what, count, names, advice, matters}``."""
        kind = self.kind
        return {
            "label": kind.label,
            "what": kind.what,
            "count": len(self.keys),
            "names": list(self.names),
            "advice": kind.advice,
            "matters": kind.matters,
        }


_kinds: dict[str, LossKind] = {}


def register_loss(
    label: str,
    *,
    what: str,
    advice: str,
    names: Names | None = None,
    clear: Clear | None = None,
    put_back: PutBack | None = None,
    settle: Settle | None = None,
    matters: bool = True,
) -> None:
    """Say how lost secrets of a kind are called. ``label`` is that of their ``RotationCount`` (``ops.Service.credentials``)."""
    if (clear is None) != (put_back is None):
        raise ValueError(f"{label}: what takes secrets away has to be able to put them back.")
    _kinds[label] = LossKind(label, what, advice, names, clear, put_back, settle, matters)


def kind_of(label: str) -> LossKind:
    """How secrets of this label are spoken of."""
    return _kinds.get(label) or LossKind(label, f"secrets ({label})", "Enter them again where they are used.")


def losses() -> list[Loss]:
    """Every secret that no present key opens. Reads all of them; writes nothing."""
    found = [_of_column(column) for column in secret_columns()]
    found += [_loss(kind_of(count.label), count.broken) for count in rotations(dry_run=True)]
    return [loss for loss in found if loss.keys]


def some_loss(*, newest: int = 200) -> dict[str, int]:
    """As ``losses``, looking at the newest rows of each field only: ``{what: how many of those}``. For a check."""
    found: dict[str, int] = {}
    for column in secret_columns():
        count = len(_broken(column.newest(newest)))
        if count:
            found[kind_of(column.label).what] = count
    return found


def clear(loss: Loss, *, actor: str) -> dict[str, Any]:
    """Take lost secrets away; returns what ``put_back`` needs (JSON). The caller's transaction."""
    rows = loss.kind.clear(loss.keys) if loss.kind.clear is not None else _empty(loss)
    if loss.kind.settle is not None:
        loss.kind.settle(loss.keys, actor)
    return {"label": loss.kind.label, "rows": rows}


def _empty(loss: Loss) -> list[dict[str, Any]]:
    column = _column(loss.kind.label)
    rows = list(column.of(loss.keys))
    column.write((key, stored, "") for key, stored in rows)
    return [{"pk": str(key), "stored": stored} for key, stored in rows]


def put_back(kept: dict[str, Any]) -> int:
    """Put secrets back that ``clear`` took away, where nothing was entered meanwhile; returns how many. The caller's transaction."""
    kind = kind_of(kept["label"])
    if kind.put_back is not None:
        return kind.put_back(kept["rows"])
    return _column(kept["label"]).write((row["pk"], "", row["stored"]) for row in kept["rows"])


def _of_column(column: SecretColumn) -> Loss:
    keys = [str(key) for rows in column.portions() for key in _broken(rows)]
    kind = kind_of(column.label)
    if keys and kind.names is None:
        rows = column.model._base_manager.filter(pk__in=keys[:NAMED]).defer(column.field.name)
        named = {str(row.pk): str(row) for row in rows}
        return Loss(kind, tuple(keys), tuple(named.get(key, key) for key in keys[:NAMED]))
    return _loss(kind, keys)


def _loss(kind: LossKind, keys: Sequence[str]) -> Loss:
    first = list(keys)[:NAMED]
    named = kind.names(first) if kind.names is not None and first else {}
    return Loss(kind, tuple(keys), tuple(named.get(key, key) for key in first))


def _broken(rows: Iterable[Stored]) -> list[Any]:
    return [key for key, stored in rows if not can_open(stored)]


def _column(label: str) -> SecretColumn:
    for column in secret_columns():
        if column.label == label:
            return column
    raise ValueError(f"There is no encrypted field {label}.")
