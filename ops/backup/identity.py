"""Which row of a backup is which row here: by what names it (``natural``) before its number."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import orjson
from django.apps import apps

from ops.backup.rows import read_rows
from ops.backup.scopes import Scope, scope_of
from ops.backup.sealed import SealedRows
from ops.backup.shapes import TableShape
from ops.backup.staging import Staging, quoted

# Fields that say when a thing began to exist, besides those that Django fills by itself.
_BIRTHS = frozenset({"date_joined"})


def needs_identity(shape: TableShape) -> bool:
    """Whether rows of this table are told apart by more than their number."""
    scope = _scope(shape)
    return bool(shape.policy == "lookup" or scope.natural or scope.observed or scope.revoked or scope.opens)


def pair(staging: Staging, alias: str, shapes: Iterable[TableShape]) -> None:
    """Fill the staging's ``_same`` (label, there, here): numbers of the same thing in the backup and here; ``_live`` (label, pk, row) holds
    the present rows of these tables. ``shapes`` in an order in which what is referred to comes first."""
    run = staging.sql.execute
    run("CREATE TABLE _same (label TEXT, there, here, PRIMARY KEY (label, there)) WITHOUT ROWID")
    run("CREATE TABLE _live (label TEXT, pk, row TEXT, PRIMARY KEY (label, pk)) WITHOUT ROWID")
    run("CREATE TABLE _names (label TEXT, side TEXT, pk, name TEXT, birth TEXT)")
    run("CREATE INDEX _names_name ON _names (label, side, name)")
    run("CREATE INDEX _names_pk ON _names (label, side, pk)")
    for shape in shapes:
        if shape.label in staging.shapes and needs_identity(shape):
            _pair_one(staging, alias, shape)
    run("CREATE INDEX _same_here ON _same (label, here)")
    run("DROP TABLE _names")


def _pair_one(staging: Staging, alias: str, shape: TableShape) -> None:
    run, label = staging.sql.execute, shape.label
    names = _Names(staging, shape)
    run("BEGIN")
    for row in read_rows(alias, shape):
        pk = row[shape.pk_index]
        run("INSERT INTO _live VALUES (?, ?, ?)", (label, pk, orjson.dumps(row)))
        run("INSERT INTO _names VALUES (?, 'here', ?, ?, ?)", (label, pk, names.name(row), names.birth(row)))
    for row in staging.rows(label):
        run(
            "INSERT INTO _names VALUES (?, 'there', ?, ?, ?)",
            (label, row[shape.pk_index], names.name(row, there=True), names.birth(row)),
        )
    run(
        "INSERT OR IGNORE INTO _same SELECT there.label, there.pk, here.pk FROM _names there JOIN _names here "
        "ON here.label = there.label AND here.side = 'here' AND here.name = there.name "
        "WHERE there.label = ? AND there.side = 'there' AND there.name IS NOT NULL",
        (label,),
    )
    if shape.policy != "lookup":
        # Renamed since, or without a name: the same number, and born at the same time.
        run(
            "INSERT OR IGNORE INTO _same SELECT there.label, there.pk, here.pk FROM _names there JOIN _names here "
            "ON here.label = there.label AND here.side = 'here' AND here.pk = there.pk AND here.birth IS there.birth "
            "WHERE there.label = ?1 AND there.side = 'there' "
            "AND NOT EXISTS (SELECT 1 FROM _same WHERE label = ?1 AND there = there.pk) "
            "AND here.pk NOT IN (SELECT here FROM _same WHERE label = ?1)",
            (label,),
        )
    run("COMMIT")


class _Names:
    """What names a row, with references as they are here."""

    def __init__(self, staging: Staging, shape: TableShape) -> None:
        scope = _scope(shape)
        self._staging = staging
        self._places = [
            (place, column.ref) for place, column in enumerate(shape.columns) if column.field in scope.natural
        ]
        self._births = [place for place, column in enumerate(shape.columns) if column.field in births(shape)]

    def name(self, row: list[Any], *, there: bool = False) -> str | None:
        """None for a row that nothing names (yet)."""
        if not self._places:
            return None
        values = [self._here(ref, row[place]) if there and ref else row[place] for place, ref in self._places]
        return None if any(value is None for value in values) else orjson.dumps(values).decode()

    def birth(self, row: list[Any]) -> str | None:
        return orjson.dumps([row[place] for place in self._births]).decode() if self._births else None

    def _here(self, ref: str, there: Any) -> Any:
        return self._staging.one("SELECT here FROM _same WHERE label = ? AND there = ?", (ref, there))


def births(shape: TableShape) -> frozenset[str]:
    """Fields that say when a thing began to exist."""
    fields = apps.get_model(shape.label)._meta.local_fields
    return frozenset(field.name for field in fields if getattr(field, "auto_now_add", False) or field.name in _BIRTHS)


def live_rows(staging: Staging, label: str) -> Iterator[list[Any]]:
    """The present rows of a table that needs identities."""
    for (row,) in staging.sql.execute("SELECT row FROM _live WHERE label = ? ORDER BY pk", (label,)):
        yield orjson.loads(row)


def opening_rows(staging: Staging, shape: TableShape, sealed: SealedRows) -> set[Any]:
    """Numbers of the present rows with a secret that opens something outside (``opens``) and that can be read."""
    scope = _scope(shape)
    if not scope.opens:
        return set()
    return {row[shape.pk_index] for row in live_rows(staging, shape.label) if _opens(scope, shape, row, sealed)}


def carry(staging: Staging, shapes: Iterable[TableShape], sealed: SealedRows) -> int:
    """Give the staged rows what has to survive a restore: what was last seen outside (``observed``), what opens something there (``opens``),
    and what was revoked since. Returns how many rows stay revoked although the backup knows them as valid."""
    revoked = 0
    for shape in shapes:
        scope = _scope(shape)
        if shape.label not in staging.shapes or not (scope.observed or scope.revoked or scope.opens):
            continue
        staging.sql.execute("BEGIN")
        pairs = staging.sql.execute(
            "SELECT same.there, live.row FROM _same same JOIN _live live ON live.label = same.label AND live.pk = same.here "
            "WHERE same.label = ?",
            (shape.label,),
        )
        for there, text in pairs:
            row = orjson.loads(text)
            fields = {*scope.observed, *(scope.opens if _opens(scope, shape, row, sealed) else ())}
            stays = {column.name: row[place] for place, column in enumerate(shape.columns) if column.field in fields}
            for place, column in enumerate(shape.columns):
                if column.field not in scope.revoked or not _is_revoked(column.type, row[place]):
                    continue
                before = staging.one(
                    f"SELECT {quoted(column.name)} FROM {quoted(shape.label)} WHERE {quoted(shape.pk)} = ?", (there,)
                )
                revoked += not _is_revoked(column.type, before)
                stays[column.name] = row[place]
            if stays:
                sets = ", ".join(f"{quoted(name)} = ?" for name in stays)
                staging.sql.execute(
                    f"UPDATE {quoted(shape.label)} SET {sets} WHERE {quoted(shape.pk)} = ?", (*stays.values(), there)
                )
        staging.sql.execute("COMMIT")
    return revoked


def _opens(scope: Scope, shape: TableShape, row: list[Any], sealed: SealedRows) -> bool:
    places = [place for place, column in enumerate(shape.columns) if column.field in scope.opens[:1]]
    return any(sealed.reads(row[place]) for place in places)


def _is_revoked(type: str, value: Any) -> bool:
    return value is not None and not value if type == "bool" else value not in (None, "")


def _scope(shape: TableShape) -> Scope:
    return scope_of(shape.label) or Scope(shape.label, "kept")
