"""Makes staged rows fit into a database that keeps some of its own rows: references to what is not restored, and present rows that others need."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson
from django.apps import apps
from django.db import connections, models

from ops.backup.identity import live_rows, needs_identity, opening_rows
from ops.backup.rows import read_rows
from ops.backup.scopes import scope_of, tables
from ops.backup.sealed import SealedRows
from ops.backup.shapes import Column, TableShape
from ops.backup.staging import Staging, quoted

_EXAMPLES = 20


@dataclass(slots=True)
class Resolution:
    """What had to be done to staged rows. Counts by ``model.field``; ``left_out``, ``kept`` and ``opening`` name some of the rows as well.

    ``kept``: present rows that the backup lacks and that others need; ``opening``: those with a secret that is known nowhere else.
    """

    emptied: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)
    opening: Counter[str] = field(default_factory=Counter)
    renumbered: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[list[Any]]] = field(default_factory=dict)

    def remember(self, what: str, label: str, row: list[Any]) -> None:
        """Keep a row as an example of ``what``."""
        rows = self.examples.setdefault(f"{what}:{label}", [])
        if len(rows) < _EXAMPLES:
            rows.append(row)


@dataclass(frozen=True, slots=True)
class Reference:
    """A column of a table (of any model, backed up or not) that refers to another model's rows."""

    model: type[models.Model]
    column: str
    null: bool
    to: str
    on_delete: Any

    @property
    def label(self) -> str:
        return self.model._meta.label


def references() -> Iterator[Reference]:
    """All references of all tables."""
    for model in tables():
        for one in model._meta.local_concrete_fields:
            if isinstance(one, models.ForeignKey):
                assert one.column is not None
                to = one.related_model._meta.label
                yield Reference(model, one.column, one.null, to, one.remote_field.on_delete)


def resolve(staging: Staging, alias: str, chosen: set[str], resolution: Resolution) -> None:
    """Point references of chosen rows to what is not restored to the rows that are here. What refers to nothing is emptied or, where it must
    refer to something, left out, and so on with whatever refers to that."""
    staging.sql.execute("CREATE TABLE _here (label TEXT, pk, PRIMARY KEY (label, pk)) WITHOUT ROWID")
    known: set[str] = set()
    for label in _in_order(staging, chosen):
        shape = staging.shapes[label]
        for column in shape.columns:
            if column.ref and column.ref not in chosen:
                _to_present(staging, alias, shape, column, known, resolution)
    before = -1
    while resolution.left_out.total() != before:
        before = resolution.left_out.total()
        if before == 0:
            return  # a cut is whole: only what was left out can be missing
        for label in _in_order(staging, chosen):
            shape = staging.shapes[label]
            for column in shape.columns:
                if (
                    column.ref in chosen
                    and column.ref in staging.shapes
                    and staging.shapes[column.ref].policy != "added"
                ):
                    there = staging.shapes[column.ref]
                    _drop(
                        staging,
                        shape,
                        column,
                        f"NOT EXISTS (SELECT 1 FROM {quoted(there.label)} there WHERE there.{quoted(there.pk)} = one.{quoted(column.name)})",
                        resolution,
                    )


def _in_order(staging: Staging, chosen: set[str]) -> list[str]:
    return [label for label in staging.shapes if label in chosen]


def _to_present(
    staging: Staging, alias: str, shape: TableShape, column: Column, known: set[str], resolution: Resolution
) -> None:
    ref, name, run = column.ref, quoted(column.name), staging.sql.execute
    if ref in staging.shapes and needs_identity(staging.shapes[ref]):
        _drop(
            staging,
            shape,
            column,
            f"NOT EXISTS (SELECT 1 FROM _same WHERE label = '{ref}' AND there = one.{name})",
            resolution,
        )
        run(
            f"UPDATE {quoted(shape.label)} SET {name} = "
            f"(SELECT here FROM _same WHERE label = ?1 AND there = {name}) WHERE {name} IS NOT NULL "
            f"AND {name} IS NOT (SELECT here FROM _same WHERE label = ?1 AND there = {name})",
            (ref,),
        )
        return
    if ref not in known:
        known.add(ref)
        run("BEGIN")
        staging.sql.executemany(
            "INSERT OR IGNORE INTO _here VALUES (?, ?)",
            ((ref, pk) for pk in _present_numbers(alias, apps.get_model(ref))),
        )
        run("COMMIT")
    _drop(
        staging,
        shape,
        column,
        f"NOT EXISTS (SELECT 1 FROM _here WHERE label = '{ref}' AND pk = one.{name})",
        resolution,
    )


def _present_numbers(alias: str, model: type[models.Model]) -> Iterator[Any]:
    for pk in model._base_manager.using(alias).order_by().values_list("pk", flat=True).iterator(chunk_size=5000):
        yield pk if isinstance(pk, int) else str(pk)


def _drop(staging: Staging, shape: TableShape, column: Column, nowhere: str, resolution: Resolution) -> None:
    """Empty the column, or leave the row out, where it refers to nothing."""
    table, name = quoted(shape.label), quoted(column.name)
    condition = f"one.{name} IS NOT NULL AND {nowhere}"
    if not staging.one(f"SELECT EXISTS (SELECT 1 FROM {table} one WHERE {condition})"):
        return
    pks = f"SELECT {quoted(shape.pk)} FROM {table} one WHERE {condition}"
    if column.null:
        changed = staging.sql.execute(f"UPDATE {table} SET {name} = NULL WHERE {quoted(shape.pk)} IN ({pks})").rowcount
        resolution.emptied[f"{shape.label}.{column.field}"] += changed
        return
    for row in staging.rows(shape.label, f"{quoted(shape.pk)} IN ({pks} LIMIT {_EXAMPLES})"):
        resolution.remember("left_out", shape.label, row)
    gone = staging.sql.execute(f"DELETE FROM {table} WHERE {quoted(shape.pk)} IN ({pks})").rowcount
    resolution.left_out[f"{shape.label}.{column.field}"] += gone


def settle_present(staging: Staging, alias: str, chosen: set[str], resolution: Resolution, sealed: SealedRows) -> None:
    """Decide about present rows of the chosen tables that the backup does not know, or knows under another number.

    Fills ``_moved`` (label, old, new): present rows refer to ``new`` from now on; NULL: to nothing. Rows that rows outside of the choice refer
    to become part of what is wanted, and so do those with a secret that opens something outside; with another number when the backup's row
    has theirs.
    """
    run = staging.sql.execute
    run("CREATE TABLE _moved (label TEXT, old, new, PRIMARY KEY (label, old)) WITHOUT ROWID")
    run("CREATE TABLE _needed (label TEXT, pk, PRIMARY KEY (label, pk)) WITHOUT ROWID")
    labels = [label for label in _in_order(staging, chosen) if staging.shapes[label].policy == "kept"]
    for label in labels:
        shape = staging.shapes[label]
        if not needs_identity(shape):
            continue
        table, pk = quoted(label), quoted(shape.pk)
        run("INSERT INTO _moved SELECT label, here, there FROM _same WHERE label = ? AND here IS NOT there", (label,))
        # Another thing gets this number: whoever refers to the present one must not refer to that.
        run(
            f"INSERT INTO _moved SELECT ?1, live.pk, NULL FROM _live live JOIN {table} there ON there.{pk} = live.pk "
            "WHERE live.label = ?1 AND NOT EXISTS (SELECT 1 FROM _same WHERE label = ?1 AND here = live.pk)",
            (label,),
        )
    outside = [one for one in references() if one.to in labels and _stays(one.label, chosen)]
    for one in outside:
        _need(staging, one.to, _referred_to(alias, one))
    opening = {}
    for label in labels:
        if opening_of := opening_rows(staging, staging.shapes[label], sealed):
            opening[label] = opening_of
            _need(staging, label, opening_of)
    for label in reversed(labels):
        _keep(staging, alias, staging.shapes[label], labels, resolution, opening.get(label, set()))


def _stays(label: str, chosen: set[str]) -> bool:
    scope = scope_of(label)
    return scope is not None and scope.policy in ("kept", "added") and label not in chosen


def _referred_to(alias: str, one: Reference) -> Iterator[Any]:
    connection = connections[alias]
    quote = connection.ops.quote_name
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT DISTINCT {quote(one.column)} FROM {quote(one.model._meta.db_table)} WHERE {quote(one.column)} IS NOT NULL"
        )
        while batch := cursor.fetchmany(2000):
            for (pk,) in batch:
                yield pk if isinstance(pk, int) else str(pk)


def _need(staging: Staging, label: str, pks: Iterable[Any]) -> None:
    staging.sql.execute("BEGIN")
    staging.sql.executemany("INSERT OR IGNORE INTO _needed VALUES (?, ?)", ((label, pk) for pk in pks))
    staging.sql.execute("COMMIT")


def _keep(
    staging: Staging, alias: str, shape: TableShape, labels: list[str], resolution: Resolution, opening: set[Any]
) -> None:
    """Take present rows that are needed and that the backup lacks into what is wanted."""
    table, pk = quoted(shape.label), quoted(shape.pk)
    if not staging.one("SELECT EXISTS (SELECT 1 FROM _needed WHERE label = ?)", (shape.label,)):
        return
    lost = f"SELECT pk FROM _needed WHERE label = '{shape.label}' AND pk NOT IN (SELECT {pk} FROM {table})"
    if needs_identity(shape):
        lost = (
            f"SELECT pk FROM _needed needed WHERE label = '{shape.label}' "
            f"AND NOT EXISTS (SELECT 1 FROM _same WHERE label = '{shape.label}' AND here = needed.pk)"
        )
    wanted = {row[0] for row in staging.sql.execute(lost)}
    if not wanted:
        return
    present = live_rows(staging, shape.label) if needs_identity(shape) else read_rows(alias, shape)
    highest = (
        max(int(staging.one(f"SELECT coalesce(max({pk}), 0) FROM {table}") or 0), max(wanted))
        if _numbered(shape)
        else 0
    )
    for row in [row for row in present if row[shape.pk_index] in wanted]:
        old = row[shape.pk_index]
        if other := _same_unique(staging, shape, row):
            staging.sql.execute("INSERT OR REPLACE INTO _moved VALUES (?, ?, ?)", (shape.label, old, other))
            continue
        for column, value in zip(shape.columns, row, strict=True):
            if column.ref in labels and value is not None:
                _need(staging, column.ref, [value])
        if _numbered(shape) and staging.one(f"SELECT EXISTS (SELECT 1 FROM {table} WHERE {pk} = ?)", (old,)):
            highest = max(highest, _highest_here(alias, shape)) + 1
            row[shape.pk_index] = highest
            staging.sql.execute("INSERT OR REPLACE INTO _moved VALUES (?, ?, ?)", (shape.label, old, highest))
            resolution.renumbered[shape.label] += 1
        why, counts = ("opening", resolution.opening) if old in opening else ("kept", resolution.kept)
        counts[shape.label] += 1
        resolution.remember(why, shape.label, row)
        staging.sql.execute("CREATE TABLE IF NOT EXISTS _kept (label TEXT, pk, row TEXT)")
        staging.sql.execute("INSERT INTO _kept VALUES (?, ?, ?)", (shape.label, row[shape.pk_index], orjson.dumps(row)))


def take_kept(staging: Staging) -> None:
    """Put the rows that ``settle_present`` kept among the wanted ones, with references to where things are afterwards."""
    if not staging.one("SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = '_kept')"):
        return
    for label, text in staging.sql.execute("SELECT label, row FROM _kept").fetchall():
        shape, row = staging.shapes[label], orjson.loads(text)
        for place, column in enumerate(shape.columns):
            if column.ref and row[place] is not None:
                moved = staging.sql.execute(
                    "SELECT new FROM _moved WHERE label = ? AND old = ?", (column.ref, row[place])
                ).fetchone()
                row[place] = moved[0] if moved else row[place]
        list(staging.add(shape, [row]))


def _numbered(shape: TableShape) -> bool:
    return shape.column(shape.pk).type == "int"


def _highest_here(alias: str, shape: TableShape) -> int:
    found = apps.get_model(shape.label)._base_manager.using(alias).aggregate(highest=models.Max("pk"))["highest"]
    return int(found or 0)


def unique_sets(shape: TableShape) -> list[tuple[tuple[str, ...], models.Q | None]]:
    """Columns that together are unique, and for which rows; the primary key apart."""
    meta = apps.get_model(shape.label)._meta
    by_field = {column.field: column.name for column in shape.columns}
    found: list[tuple[tuple[str, ...], models.Q | None]] = [
        ((str(one.column),), None) for one in meta.local_concrete_fields if one.unique and not one.primary_key
    ]
    for constraint in meta.constraints:
        if isinstance(constraint, models.UniqueConstraint) and constraint.fields:
            found.append((tuple(by_field[name] for name in constraint.fields), constraint.condition))
    return found + [(tuple(by_field[name] for name in names), None) for names in meta.unique_together]


def _same_unique(staging: Staging, shape: TableShape, row: list[Any]) -> Any:
    """The number of a wanted row that has the same value where it must be unique; None without one."""
    for names, condition in unique_sets(shape):
        values = [row[shape.names.index(name)] for name in names]
        if any(value is None for value in values) or not counts(condition, shape, row):
            continue
        where = " AND ".join(f"{quoted(name)} = ?" for name in names)
        for other in staging.rows(shape.label, where, values):
            if counts(condition, shape, other):
                return other[shape.pk_index]
    return None


def counts(condition: models.Q | None, shape: TableShape, row: list[Any]) -> bool:
    """Whether a constraint with this condition is about this row."""
    if condition is None:
        return True
    meta = apps.get_model(shape.label)._meta
    values: dict[str, Any] = {}
    for column, value in zip(shape.columns, row, strict=True):
        field = meta.get_field(column.field)
        while isinstance(field, models.ForeignKey):
            field = field.target_field
        # Nothing has no type by itself, and a condition on it wants one.
        values[column.field] = models.Value(None, output_field=field) if value is None else value
    return condition.check(values)
