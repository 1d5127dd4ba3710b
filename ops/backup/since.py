"""What was made here since a backup's cut, and stays although the backup does not know it.

A restore makes rows equal to those of the backup. Functions of the apps (``hooks.register_since``) may add present rows to what is wanted
before the two are compared: those rows stay, in the restore's own transaction, and count as kept. Everything is worked out in the staging:
memory stays flat, and nothing is changed by looking.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.apps import apps
from django.db import connections, models

from ops.backup import hooks
from ops.backup.rows import read_rows
from ops.backup.shapes import TableShape
from ops.backup.staging import Staging, quoted
from ops.findings import Finding

# A transaction that was open when the cut was made wrote down the time a little before it, and is not in it.
OPEN_FOR = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Choice:
    """From when on rows are of the time since the cut, and whether they are kept."""

    at: datetime
    kept: bool = True


@dataclass(slots=True)
class Since:
    """What such a function gets in hand. Tables of the staging hold what is wanted; ``load`` puts present rows beside them.

    ``kept`` counts rows by model that were added to what is wanted; ``report`` is JSON for people by the function's name.
    """

    staging: Staging
    alias: str
    chosen: Collection[str]
    at: datetime
    wanted: bool
    kept: Counter[str] = field(default_factory=Counter)
    report: dict[str, Any] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def moment(self) -> Any:
        """The time as a parameter of the database's own statements."""
        return connections[self.alias].ops.adapt_datetimefield_value(self.at)

    @property
    def text(self) -> str:
        """The time as rows of the staging hold times."""
        return self.at.strftime("%Y-%m-%d %H:%M:%S.%fZ")

    def run(self, statement: str, parameters: Iterable[Any] = ()) -> int:
        """Run a statement in the staging; returns how many rows it changed."""
        return self.staging.sql.execute(statement, tuple(parameters)).rowcount

    def one(self, statement: str, parameters: Iterable[Any] = ()) -> Any:
        """The first value of the first row; None without one."""
        return self.staging.one(statement, parameters)

    def load(self, label: str, where: str, parameters: Iterable[Any] = (), *, table: str = "") -> int:
        """Put the present rows that meet a condition (of the database's own) into the staging's ``since.<label>``, or ``table``; returns how
        many."""
        shape, table = self.staging.shapes[label], table or here(label)
        columns = ", ".join(
            f"{quoted(column.name)} {'INTEGER' if column.type in ('int', 'bool') else 'TEXT'}"
            f"{' PRIMARY KEY' if column.name == shape.pk else ''}"
            for column in shape.columns
        )
        self.run(f"CREATE TABLE {table} ({columns})")
        rows = read_rows(self.alias, shape, where=(f"({where})", list(parameters)))
        return sum(self.staging.add(shape, rows, into=table))

    def there(self, label: str, number: str) -> str:
        """SQL: the number that a present row (``number`` is an expression) has after the restore; NULL when it is not there then."""
        if label not in self.chosen or label not in self.staging.shapes:
            return number
        shape = self.staging.shapes[label]
        moved = f"SELECT new FROM _moved WHERE label = '{label}' AND old = {number}"
        now = f"CASE WHEN EXISTS ({moved}) THEN ({moved}) ELSE {number} END"
        return f"(SELECT {quoted(shape.pk)} FROM {quoted(label)} WHERE {quoted(shape.pk)} = {now})"

    def add(self, label: str, *, later: Collection[str] = ()) -> int:
        """Add what ``since.<label>`` holds to what is wanted; returns how many rows that were.

        References are those of afterwards: what refers to nothing then is emptied, or its row left out. ``later`` names columns whose targets
        are not there yet (``refer``). A number that the backup uses for something else is replaced.
        """
        shape = self.staging.shapes[label]
        self._renumber(shape)
        for column in shape.columns:
            if column.ref and column.name not in later:
                name = quoted(column.name)
                self.run(f"UPDATE {here(label)} SET {name} = {self.there(column.ref, name)} WHERE {name} IS NOT NULL")
                if not column.null:
                    self.run(f"DELETE FROM {here(label)} WHERE {name} IS NULL")
        added = self.run(f"INSERT INTO {quoted(label)} SELECT * FROM {here(label)}")
        self.kept[label] += added
        return added

    def refer(self, label: str, column: str, also: str = "1") -> None:
        """Point a column that was left for ``later`` to where its target is; it is emptied where the target (``target``) is not there, or
        does not meet the condition ``also``, which may name the row ``one``."""
        shape = self.staging.shapes[label]
        ref, name = shape.column(column).ref, quoted(column)
        target = self.staging.shapes[ref]
        self.run(
            f"UPDATE {quoted(label)} AS one SET {name} = (SELECT target.{quoted(target.pk)} FROM {quoted(ref)} target "
            f"WHERE target.{quoted(target.pk)} = {self.there(ref, f'one.{name}')} AND {also}) "
            f"WHERE one.{quoted(shape.pk)} IN (SELECT {quoted(shape.pk)} FROM {here(label)}) AND one.{name} IS NOT NULL"
        )

    def _renumber(self, shape: TableShape) -> None:
        if shape.column(shape.pk).type != "int":
            self.run(
                f"DELETE FROM {here(shape.label)} WHERE {quoted(shape.pk)} IN (SELECT {quoted(shape.pk)} FROM {quoted(shape.label)})"
            )
            return
        table, pk = here(shape.label), quoted(shape.pk)
        taken = f"SELECT {pk} FROM {table} WHERE {pk} IN (SELECT {pk} FROM {quoted(shape.label)})"
        if not self.one(f"SELECT EXISTS ({taken})"):
            return
        model = apps.get_model(shape.label)
        highest = model._base_manager.using(self.alias).aggregate(highest=models.Max("pk"))["highest"] or 0
        highest = max(highest, int(self.one(f"SELECT coalesce(max({pk}), 0) FROM {quoted(shape.label)}")))
        self.run(
            f"INSERT OR REPLACE INTO _moved SELECT ?, {pk}, ? + row_number() OVER (ORDER BY {pk}) FROM ({taken})",
            (shape.label, highest),
        )
        self.run(
            f"UPDATE {table} SET {pk} = (SELECT new FROM _moved WHERE label = ?1 AND old = {table}.{pk}) "
            f"WHERE {pk} IN (SELECT old FROM _moved WHERE label = ?1)",
            (shape.label,),
        )


def here(label: str) -> str:
    """The staging's table of present rows, as a statement wants it."""
    return quoted(f"since.{label}")


def look_since(staging: Staging, alias: str, chosen: Collection[str], choice: Choice) -> Since:
    """Have every function look, and take into what is wanted whatever stays."""
    since = Since(staging, alias, chosen, choice.at, choice.kept)
    for function in hooks.since_steps().values():
        function(since)
    return since
