"""Reads whose SQL is composed once: for the few queries of the message path.

Django composes and compiles a queryset for every call, which takes several times longer than the database needs to answer it by
primary key. A prepared read keeps the compiled text and what turns its rows into objects (``select_related`` included); only
the values change from call to call.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from django.db import connection, models
from django.db.models.query import QuerySet, get_related_populators

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A query's text, where its arguments stand among the parameters, and how its rows become objects."""

    text: str
    parameters: tuple[Any, ...]
    places: dict[int, int]
    model: type[models.Model] | None
    start: int
    end: int
    names: list[str]
    populators: list[Any]
    converters: list[tuple[int, Any, Any]]


class PreparedRead(Generic[Row]):
    """``PreparedRead(lambda pk: Turn.objects.select_related("message").filter(pk=pk), 1)``, or of one column with
    ``values_list(…, flat=True)``.

    ``make`` builds the queryset from its arguments; the examples are one value for each (int, text or time), so that the query
    can be compiled. The arguments must be compared for equality or order: what changes the text (``None``, a list) must not vary.
    """

    def __init__(self, make: Callable[..., QuerySet[Any, Row]], *examples: Any) -> None:
        self._make = make
        self._examples = examples
        self._compiled: dict[str, _Compiled] = {}
        self._lock = threading.Lock()

    def all(self, *arguments: Any) -> list[Row]:
        """The rows, as the queryset would give them."""
        compiled = self._compiled.get(connection.vendor) or self._compile()
        values = list(compiled.parameters)
        for place, number in compiled.places.items():
            values[place] = _plain(arguments[number])
        with connection.cursor() as cursor:
            cursor.execute(compiled.text, values)
            rows = cursor.fetchall()
        return [self._object(compiled, row) for row in rows]

    def first(self, *arguments: Any) -> Row | None:
        """The first row, or None."""
        return next(iter(self.all(*arguments)), None)

    def _object(self, compiled: _Compiled, row: Any) -> Row:
        if compiled.converters:
            row = list(row)
            for place, converters, expression in compiled.converters:
                for convert in converters:
                    row[place] = convert(row[place], expression, connection)
        if compiled.model is None:
            return row[0]
        found: Any = compiled.model.from_db(connection.alias, compiled.names, row[compiled.start : compiled.end])
        for populator in compiled.populators:
            populator.populate(row, found)
        return found

    def _compile(self) -> _Compiled:
        with self._lock:
            queryset = self._make(*self._examples)
            compiler = queryset.query.get_compiler(connection=connection)
            text, parameters = compiler.as_sql()
            places: dict[int, int] = {}
            # Another value for one argument at a time: the parameters that follow are its own.
            for number in range(len(self._examples)):
                others = [_other(value) if place == number else value for place, value in enumerate(self._examples)]
                other_text, changed = self._make(*others).query.get_compiler(connection=connection).as_sql()
                moved = [
                    place for place, pair in enumerate(zip(parameters, changed, strict=True)) if pair[0] != pair[1]
                ]
                if other_text != text or not moved:
                    raise ValueError(f"Argument {number} of this prepared read is no plain value of its query.")
                places |= dict.fromkeys(moved, number)
            select = compiler.select
            info = compiler.klass_info if getattr(queryset, "_fields", None) is None else None
            if info is None and len(select) != 1:
                raise ValueError("A prepared read returns rows of a model, or one column.")
            fields = info["select_fields"] if info is not None else [0]
            start, end = fields[0], fields[-1] + 1
            converters = compiler.get_converters([column[0] for column in select])
            compiled = _Compiled(
                text=text,
                parameters=tuple(parameters),
                places=places,
                model=info["model"] if info is not None else None,
                start=start,
                end=end,
                names=[column[0].target.attname for column in select[start:end]] if info is not None else [],
                populators=_populators(info, select),
                converters=[(place, *pair) for place, pair in converters.items()],
            )
            self._compiled[connection.vendor] = compiled
        return compiled


def _plain(value: Any) -> Any:
    """As the backend wants it; what a field would do to an int or a text is nothing."""
    return connection.ops.adapt_datetimefield_value(value) if isinstance(value, datetime) else value


def _other(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.replace(year=value.year - 1)
    return value + 1 if isinstance(value, int) else f"{value}~"


def _populators(info: Any, select: Any) -> list[Any]:
    # The stubs describe a newer Django than the one that is pinned.
    return list(get_related_populators(info, select, connection.alias)) if info is not None else []  # type: ignore[call-arg]
