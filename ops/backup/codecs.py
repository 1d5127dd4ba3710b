"""Portable values: what a value of each portable type looks like in a row of a backup, and how databases read and take it.

The same content gives the same values on SQLite and PostgreSQL: integers, ``true``/``false``, texts; times in UTC as
``2026-11-28 03:15:00.000000Z`` (dates ``2026-11-28``, times of day ``03:15:00.000000``); UUIDs with dashes. A JSON value is a text that
holds canonical JSON, so that no value (SQL's NULL) and JSON's ``null`` stay different. Encrypted values are texts, as stored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson

from ops.backup.shapes import Column

# What orjson writes for numbers beyond 16 digits, which PostgreSQL writes out, and a zero whose sign PostgreSQL drops.
_ODD_NUMBER = re.compile(rb"\de\+\d|-0\.0")
_NO_MICROSECONDS = ".000000"
# A NUL in JSON text. The backslash before it may itself be escaped.
ESCAPED_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")


def canonical_json(text: str) -> str:
    """One text for one JSON value: keys sorted, no spaces, numbers without an exponent as PostgreSQL keeps them."""
    if text in ("{}", "[]", '""', "null"):
        return text
    try:
        written = orjson.dumps(orjson.loads(text), option=orjson.OPT_SORT_KEYS)
    except (orjson.JSONDecodeError, TypeError):
        return _slowly(text)
    return _slowly(text) if _ODD_NUMBER.search(written) else written.decode()


def _slowly(text: str) -> str:
    """For what orjson does not keep: numbers beyond 64 bits, halves of surrogate pairs, NaN (which is no JSON and becomes null)."""
    value = json.loads(text, parse_constant=lambda name: None, parse_float=_number)
    written = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return written.encode("utf-8", "replace").decode()


def _number(text: str) -> float | int:
    number = float(text)
    if number == 0:
        return 0.0
    if abs(number) >= 1e16 and abs(number) != float("inf"):
        return int(Decimal(repr(number)))
    return number


def _sqlite_expression(column: Column, quoted: str) -> str:
    """SQL that gives a column's portable value on SQLite (booleans as 0 and 1, JSON as it is stored)."""
    match column.type:
        case "datetime":
            return (
                f"CASE length({quoted}) WHEN 26 THEN {quoted}||'Z' WHEN 19 THEN {quoted}||'.000000Z' "
                f"ELSE portable_time({quoted}) END"
            )
        case "time":
            return f"CASE length({quoted}) WHEN 8 THEN {quoted}||'.000000' ELSE {quoted}||'' END"
        case "uuid":
            parts = "||'-'||".join(f"substr({quoted},{start},{length})" for start, length in _UUID)
            return f"CASE length({quoted}) WHEN 32 THEN {parts} ELSE {quoted}||'' END"
        case "date" | "json":
            return f"{quoted}||''"  # an expression has no declared type: nothing is converted on the way
        case "bool":
            return f"{quoted}+0"
    return quoted


_UUID = ((1, 8), (9, 4), (13, 4), (17, 4), (21, 12))


def _postgresql_expression(column: Column, quoted: str) -> str:
    match column.type:
        case "datetime":
            return f"""to_char({quoted} AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US"Z"')"""
        case "time":
            return f"to_char({quoted}::interval, 'HH24:MI:SS.US')"
        case "date":
            return f"to_char({quoted}, 'YYYY-MM-DD')"
        case "uuid" | "json":
            return f"{quoted}::text"
    return quoted


def select_expression(vendor: str, column: Column, quoted: str) -> str:
    """SQL for a column's portable value; ``finishers`` say what is left to do."""
    return _postgresql_expression(column, quoted) if vendor == "postgresql" else _sqlite_expression(column, quoted)


def finishers(vendor: str, columns: tuple[Column, ...]) -> list[tuple[int, Callable[[Any], Any]]]:
    """(place in the row, function) for the columns whose values from ``select_expression`` are not portable yet."""
    found: list[tuple[int, Callable[[Any], Any]]] = []
    for place, column in enumerate(columns):
        if column.type == "json":
            found.append((place, canonical_json))
        elif column.type == "bool" and vendor != "postgresql":
            found.append((place, bool))
    return found


def portable_time(stored: str | None) -> str | None:
    """A stored time that is neither of the two usual lengths (written by hand, with an offset) as a portable value."""
    if stored is None:
        return None
    moment = datetime.fromisoformat(stored)
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment.replace(tzinfo=None).isoformat(" ", timespec="microseconds") + "Z"


def _sqlite_time(value: str) -> str:
    return value[:-1].removesuffix(_NO_MICROSECONDS)


def _sqlite_clock(value: str) -> str:
    return value.removesuffix(_NO_MICROSECONDS)


def _sqlite_uuid(value: str) -> str:
    return value.replace("-", "")


_TO_SQLITE: dict[str, Callable[[Any], Any]] = {
    "datetime": _sqlite_time,
    "time": _sqlite_clock,
    "uuid": _sqlite_uuid,
}


def storers(vendor: str, columns: tuple[Column, ...]) -> list[tuple[int, Callable[[Any], Any]]]:
    """(place, function) for the columns whose portable values the database wants otherwise. PostgreSQL takes all of them as they are."""
    if vendor == "postgresql":
        return []
    return [(place, _TO_SQLITE[column.type]) for place, column in enumerate(columns) if column.type in _TO_SQLITE]
