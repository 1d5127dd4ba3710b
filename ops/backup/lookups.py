"""Rows that migrations make (kinds of content, permissions): their numbers differ between databases, their names do not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ops.backup.rows import read_rows
from ops.backup.scopes import scope_of
from ops.backup.shapes import TableShape


class Lookups:
    """Finds for the number of a lookup row in a backup the number that it has here."""

    def __init__(self, alias: str, shapes: dict[str, TableShape]) -> None:
        self._shapes = {label: shape for label, shape in shapes.items() if shape.policy == "lookup"}
        self._by_name: dict[str, dict[tuple[Any, ...], Any]] = {}
        self._there_to_here: dict[str, dict[Any, Any]] = {}
        for label, shape in self._shapes.items():  # what is referred to comes first
            self._by_name[label] = {self._name(shape, row): row[shape.pk_index] for row in read_rows(alias, shape)}

    def learn(self, shape: TableShape, rows: Iterable[list[Any]]) -> None:
        """Take in the backup's rows of a lookup."""
        here, found = self._by_name[shape.label], self._there_to_here.setdefault(shape.label, {})
        for row in rows:
            name = self._name(shape, [self._moved(shape, place, value) for place, value in enumerate(row)])
            if name in here:
                found[row[shape.pk_index]] = here[name]

    def here(self, label: str, there: Any) -> Any:
        """The number here of what has the number ``there`` in the backup; None when it does not exist here."""
        return self._there_to_here.get(label, {}).get(there)

    def _moved(self, shape: TableShape, place: int, value: Any) -> Any:
        ref = shape.columns[place].ref
        return self.here(ref, value) if ref in self._shapes else value

    def _name(self, shape: TableShape, row: list[Any]) -> tuple[Any, ...]:
        scope = scope_of(shape.label)
        natural = scope.natural if scope is not None else ()
        return tuple(row[place] for place, column in enumerate(shape.columns) if column.field in natural)
