"""Secrets whose key is lost: which they are, by name; taking them away, so that the rest works; and putting them back if the key turns up.

What is encrypted is known to ``ops.secrets``: model fields, and what apps register for rotation. Apps say here what they call it and what has to be
entered again; without a word of theirs a field is emptied and its rows are called by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.fernet import InvalidToken
from django.db import connections, models, router

from ops.secrets import MARK, EncryptedField, cipher, encrypted_fields, rotations

# So many names of a kind are told; the number says how many there are.
NAMED = 200
_PORTION = 200

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
    found = [_of_field(model, field) for model, field in encrypted_fields()]
    found += [_loss(kind_of(count.label), count.broken) for count in rotations(dry_run=True)]
    return [loss for loss in found if loss.keys]


def some_loss(*, newest: int = 200) -> dict[str, int]:
    """As ``losses``, looking at the newest rows of each field only: ``{what: how many of those}``. For a check."""
    found: dict[str, int] = {}
    for model, field in encrypted_fields():
        count = len(_broken(_stored(model, field, newest=newest)))
        if count:
            found[kind_of(f"{model._meta.label}.{field.name}").what] = count
    return found


def clear(loss: Loss, *, actor: str) -> dict[str, Any]:
    """Take lost secrets away; returns what ``put_back`` needs (JSON). The caller's transaction."""
    rows = loss.kind.clear(loss.keys) if loss.kind.clear is not None else _empty(loss)
    if loss.kind.settle is not None:
        loss.kind.settle(loss.keys, actor)
    return {"label": loss.kind.label, "rows": rows}


def _empty(loss: Loss) -> list[dict[str, Any]]:
    model, field = _field(loss.kind.label)
    rows = []
    connection, table, column, pk = _places(model, field)
    with connection.cursor() as cursor:
        for start in range(0, len(loss.keys), _PORTION):
            part = set(loss.keys[start : start + _PORTION])
            for key, stored in _stored(model, field, keys=part):
                # Names come from the model, never from input; values are parameters.
                cursor.execute(
                    f"UPDATE {table} SET {column} = %s WHERE {pk} = %s AND {column} = %s",  # noqa: S608
                    ["", key, stored],
                )
                rows.append({"pk": str(key), "stored": stored})
    return rows


def put_back(kept: dict[str, Any]) -> int:
    """Put secrets back that ``clear`` took away, where nothing was entered meanwhile; returns how many. The caller's transaction."""
    kind = kind_of(kept["label"])
    if kind.put_back is not None:
        return kind.put_back(kept["rows"])
    model, field = _field(kept["label"])
    connection, table, column, pk = _places(model, field)
    key_field = model._meta.pk
    assert key_field is not None
    count = 0
    with connection.cursor() as cursor:
        for row in kept["rows"]:
            key = key_field.get_db_prep_value(key_field.to_python(row["pk"]), connection, prepared=False)
            cursor.execute(
                f"UPDATE {table} SET {column} = %s WHERE {pk} = %s AND {column} = %s",  # noqa: S608
                [row["stored"], key, ""],
            )
            count += cursor.rowcount
    return count


def _of_field(model: type[models.Model], field: EncryptedField) -> Loss:
    label = f"{model._meta.label}.{field.name}"
    keys = [str(key) for key in _broken(_stored(model, field))]
    kind = kind_of(label)
    if keys and kind.names is None:
        rows = model._base_manager.filter(pk__in=keys[:NAMED]).defer(field.name)
        named = {str(row.pk): str(row) for row in rows}
        return Loss(kind, tuple(keys), tuple(named.get(key, key) for key in keys[:NAMED]))
    return _loss(kind, keys)


def _loss(kind: LossKind, keys: Sequence[str]) -> Loss:
    first = list(keys)[:NAMED]
    named = kind.names(first) if kind.names is not None and first else {}
    return Loss(kind, tuple(keys), tuple(named.get(key, key) for key in first))


def _broken(rows: Iterator[tuple[Any, str]]) -> list[Any]:
    box = cipher()
    found = []
    for key, stored in rows:
        try:
            box.decrypt(stored.removeprefix(MARK).encode())
        except InvalidToken:
            found.append(key)
    return found


def _stored(
    model: type[models.Model], field: EncryptedField, *, keys: set[str] | None = None, newest: int = 0
) -> Iterator[tuple[Any, str]]:
    """(primary key, stored text) of the rows that have one, in portions, without opening any."""
    connection, table, column, pk = _places(model, field)
    key_field = model._meta.pk
    assert key_field is not None
    if keys is not None:
        wanted = [key_field.get_db_prep_value(key_field.to_python(key), connection) for key in keys]
        marks = ", ".join(["%s"] * len(wanted))
        with connection.cursor() as cursor:
            cursor.execute(
                f"SELECT {pk}, {column} FROM {table} WHERE {pk} IN ({marks}) AND {column} <> ''",  # noqa: S608
                wanted,
            )
            yield from cursor.fetchall()
        return
    order = "DESC" if newest else "ASC"
    last: Any = None
    while True:
        after = f"AND {pk} > %s" if last is not None else ""
        with connection.cursor() as cursor:
            cursor.execute(
                f"SELECT {pk}, {column} FROM {table} WHERE {column} <> '' {after} "  # noqa: S608
                f"ORDER BY {pk} {order} LIMIT {int(newest or _PORTION)}",
                [last] if last is not None else [],
            )
            rows = cursor.fetchall()
        yield from rows
        if newest or len(rows) < _PORTION:
            return
        last = rows[-1][0]


def _field(label: str) -> tuple[type[models.Model], EncryptedField]:
    for model, field in encrypted_fields():
        if f"{model._meta.label}.{field.name}" == label:
            return model, field
    raise ValueError(f"There is no encrypted field {label}.")


def _places(model: type[models.Model], field: EncryptedField) -> tuple[Any, str, str, str]:
    connection = connections[router.db_for_write(model)]
    quote = connection.ops.quote_name
    key_field = model._meta.pk
    assert key_field is not None
    assert key_field.column is not None
    assert field.column is not None
    return connection, quote(model._meta.db_table), quote(field.column), quote(key_field.column)
