"""What a backup would change: its rows beside the present ones, both read once in the order of their numbers.

``compare`` works the staged rows out into what they are to be (``references``, ``identity``), counts what differs, keeps examples, and
writes into the staging what has to be done. It changes nothing else.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from django.apps import apps
from django.db import models

from ops.backup.identity import births, carry, pair
from ops.backup.references import Resolution, counts, resolve, settle_present, take_kept
from ops.backup.rows import read_rows
from ops.backup.scopes import kinds as all_kinds
from ops.backup.sealed import SealedRows
from ops.backup.shapes import TableShape, table_shapes
from ops.backup.since import Choice, Since, look_since
from ops.backup.staging import Operation, Staging

_EXAMPLES = 5


@dataclass(slots=True)
class TableDifference:
    """What would change in one table. ``examples``: (what, row before, row after), a few of each."""

    shape: TableShape
    added: int = 0
    changed: int = 0
    removed: int = 0
    kept: int = 0
    same: int = 0
    examples: list[tuple[str, list[Any] | None, list[Any] | None]] = field(default_factory=list)

    @property
    def differs(self) -> bool:
        return bool(self.added or self.changed or self.removed)

    def note(self, what: str, before: list[Any] | None, after: list[Any] | None) -> None:
        """Count it, and keep it while there are few of its sort."""
        setattr(self, what, getattr(self, what) + 1)
        if sum(1 for one in self.examples if one[0] == what) < _EXAMPLES:
            self.examples.append((what, before, after))


@dataclass(slots=True)
class Difference:
    """What would change in all chosen tables. ``untouched``: chosen tables that the backup is too old to know."""

    tables: list[TableDifference]
    resolution: Resolution
    revoked: int
    sealed: SealedRows
    untouched: list[str]
    chosen: set[str]
    since: Since | None = None

    @property
    def changes(self) -> int:
        return sum(one.added + one.changed + one.removed for one in self.tables)


def chosen_labels(kinds: Collection[str]) -> set[str]:
    """The tables that these kinds of rows lie in; all when no kind is named. Raises ``ValueError`` for an unknown one."""
    known = [kind.name for kind in all_kinds()]
    if unknown := sorted(set(kinds) - set(known)):
        raise ValueError(f"There is no kind of rows {unknown[0]!r}; known are {', '.join(known)}.")
    return {shape.label for shape in table_shapes() if shape.policy != "lookup" and (not kinds or shape.kind in kinds)}


def compare(
    staging: Staging, alias: str, kinds: Collection[str], sealed: SealedRows, choice: Choice | None = None
) -> Difference:
    """Compare what was staged with the rows of a database. The staging is used up by it: it holds then what has to be done.

    ``choice``: what becomes of what was made since the cut and may stay; None: nobody looks, and it goes.
    """
    shapes = table_shapes()
    wanted = chosen_labels(kinds)
    chosen = wanted & set(staging.shapes)
    ordered = [shape for shape in shapes if shape.label in staging.shapes]
    staging.shapes = {shape.label: shape for shape in ordered}
    resolution = Resolution()
    pair(staging, alias, ordered)
    resolve(staging, alias, chosen, resolution)
    settle_present(staging, alias, chosen, resolution, sealed)
    revoked = carry(staging, [shape for shape in ordered if shape.label in chosen], sealed)
    take_kept(staging)
    since = look_since(staging, alias, chosen, choice) if choice is not None else None
    found = []
    for shape in ordered:
        if shape.label in chosen:
            kept = resolution.kept[shape.label] + resolution.opening[shape.label]
            table = TableDifference(shape, kept=kept + (since.kept[shape.label] if since else 0))
            changes = _added_only if shape.policy == "added" else _equal
            staging.plan(_sealed(changes(staging, alias, table, sealed), shape, sealed))
            table.same -= min(table.same, table.kept)
            found.append(table)
    return Difference(found, resolution, revoked, sealed, sorted(wanted - chosen), chosen, since)


Change = tuple[str, Operation, Any, "list[Any] | None"]


def _merged(
    staging: Staging, alias: str, shape: TableShape
) -> Iterator[tuple[Any, list[Any] | None, list[Any] | None]]:
    """(number, the wanted row, the present row), by number."""
    place = shape.pk_index
    there, here = staging.rows(shape.label), read_rows(alias, shape)
    wanted, present = next(there, None), next(here, None)
    while wanted is not None or present is not None:
        if present is None or (wanted is not None and wanted[place] < present[place]):
            assert wanted is not None
            yield wanted[place], wanted, None
            wanted = next(there, None)
        elif wanted is None or present[place] < wanted[place]:
            yield present[place], None, present
            present = next(here, None)
        else:
            yield present[place], wanted, present
            wanted, present = next(there, None), next(here, None)


def _equal(staging: Staging, alias: str, table: TableDifference, sealed: SealedRows) -> Iterator[Change]:
    """What makes the present rows equal to the wanted ones."""
    shape = table.shape
    secrets = [place for place, column in enumerate(shape.columns) if column.type == "secret"]
    for pk, wanted, present in _merged(staging, alias, shape):
        if wanted is None:
            table.note("removed", present, None)
            yield shape.label, "remove", pk, None
        elif present is None:
            table.note("added", None, wanted)
            yield shape.label, "insert", pk, wanted
        else:
            if wanted != present:
                for place in secrets:
                    if sealed.same(wanted[place], present[place]):
                        wanted[place] = present[place]
            if wanted == present:
                table.same += 1
                continue
            table.note("changed", present, wanted)
            yield shape.label, "remove", pk, None
            yield shape.label, "insert", pk, wanted


def _added_only(staging: Staging, alias: str, table: TableDifference, sealed: SealedRows) -> Iterator[Change]:
    """What adds the rows that are missing. One whose number something else has here gets another; nobody refers to them by number."""
    shape = table.shape
    born = [place for place, column in enumerate(shape.columns) if column.field in births(shape)]
    # What does not say when it began is known by what it must be alone with.
    known_by = born or [place for place, column in enumerate(shape.columns) if column.field in _alone(shape)]
    highest = 0
    others = []
    for pk, wanted, present in _merged(staging, alias, shape):
        highest = max(highest, pk)
        if wanted is None:
            continue
        if present is not None:
            if wanted == present or all(wanted[place] == present[place] for place in known_by):
                table.same += 1
            else:
                others.append(wanted)
        elif _stands_already(alias, shape, wanted):
            table.same += 1
        else:
            table.note("added", None, wanted)
            yield shape.label, "insert", pk, wanted
    for wanted in others:
        if _stands_already(alias, shape, wanted, born):
            table.same += 1
            continue
        highest += 1
        wanted[shape.pk_index] = highest
        table.note("added", None, wanted)
        yield shape.label, "insert", highest, wanted


def _alone(shape: TableShape) -> set[str]:
    """Fields of which a table has each combination once."""
    constraints = apps.get_model(shape.label)._meta.constraints
    return {name for one in constraints if isinstance(one, models.UniqueConstraint) for name in one.fields}


def _stands_already(alias: str, shape: TableShape, row: list[Any], born: Collection[int] = ()) -> bool:
    """Whether a row that is the same thing, or that must be alone, is here under another number."""
    model = apps.get_model(shape.label)
    rows = model._base_manager.using(alias)
    values = {column.name: value for column, value in zip(shape.columns, row, strict=True)}
    by_field = {column.field: column.name for column in shape.columns}
    for constraint in model._meta.constraints:
        if not isinstance(constraint, models.UniqueConstraint) or not constraint.fields:
            continue
        same = {by_field[name]: values[by_field[name]] for name in constraint.fields}
        if constraint.condition is not None:
            if not counts(constraint.condition, shape, row):
                continue
            rows_that_count = rows.filter(constraint.condition)
        else:
            rows_that_count = rows
        if None not in same.values() and rows_that_count.filter(**same).exists():
            return True
    if not born:
        return False
    # Everything but the number and JSON, which databases compare in their own ways.
    plain = {
        column.name: values[column.name]
        for place, column in enumerate(shape.columns)
        if place != shape.pk_index and column.type not in ("json", "secret") and values[column.name] is not None
    }
    return rows.filter(**plain).exists()


def _sealed(changes: Iterator[Change], shape: TableShape, sealed: SealedRows) -> Iterator[Change]:
    """The changes with secrets that this installation can read."""
    secrets = [(place, column) for place, column in enumerate(shape.columns) if column.type == "secret"]
    for label, op, pk, row in changes:
        if row is not None and secrets:
            row = list(row)
            for place, column in secrets:
                row[place] = sealed.ours(row[place], f"{label}.{column.field}")
        yield label, op, pk, row
