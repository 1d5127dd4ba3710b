"""Reads what can still be read of a damaged SQLite file into a new one, table by table, around the pages that are gone."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ops.doctor_data.sqlite import pragma, raw

_BATCH = 500
_LAST = 2**63 - 1


@dataclass(slots=True)
class Salvage:
    """What was read: rows by table, and the tables of which something is missing, with what SQLite said."""

    rows: dict[str, int] = field(default_factory=dict)
    incomplete: dict[str, str] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return sum(self.rows.values())


def salvage(damaged: Path, target: Path, *, progress: Callable[[int, int, str], None] | None = None) -> Salvage:
    """Write all rows that can be read of ``damaged`` into the new file ``target``. Indexes are made anew.

    Raises ``sqlite3.DatabaseError`` when not even the list of tables can be read.
    """
    done = Salvage()
    target.unlink(missing_ok=True)
    with raw(damaged) as old, sqlite3.connect(target, isolation_level=None) as new:
        # Text may not be UTF-8 any more; a row with a few wrong letters is better than none.
        old.text_factory = lambda data: data.decode("utf-8", "replace")
        for name in ("page_size", "auto_vacuum", "application_id", "user_version"):
            new.execute(f"PRAGMA {name}={int(pragma(old, name))}")
        new.execute("PRAGMA foreign_keys=OFF")
        new.execute("PRAGMA synchronous=OFF")
        schema = old.execute("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
        derived = derived_tables(old)
        tables = [
            (name, sql)
            for kind, name, sql in schema
            if kind == "table" and not name.startswith("sqlite_") and name not in derived
        ]
        new.execute("BEGIN")
        for number, (name, sql) in enumerate(tables):
            new.execute(sql)
            _copy(old, new, name, done)
            if progress is not None:
                progress(number + 1, len(tables), f"{name}: {done.rows[name]:,} rows")
        _sequences(old, new)
        for name, sql in derived.items():
            if sql:
                # A search index: made anew from the rows that it is about.
                new.execute(sql)
                new.execute(f"INSERT INTO {_quote(name)} ({_quote(name)}) VALUES ('rebuild')")  # noqa: S608
        for wanted in ("index", "trigger", "view"):
            for kind, _, sql in schema:
                if kind == wanted:
                    new.execute(sql)
        new.execute("COMMIT")
        new.execute("PRAGMA synchronous=FULL")
    new.close()
    return done


def derived_tables(connection: sqlite3.Connection) -> dict[str, str]:
    """Search indexes (FTS5 over another table's content) with the statement that makes them, and the tables in which they keep themselves
    ("" for those): nothing that they hold is theirs alone."""
    rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table' AND sql IS NOT NULL").fetchall()
    virtual = {name: sql for name, sql in rows if sql.upper().startswith("CREATE VIRTUAL TABLE")}
    own = {f"{name}_{part}" for name in virtual for part in ("data", "idx", "content", "docsize", "config")}
    return {name: virtual.get(name, "") for name, _ in rows if name in virtual or name in own}


def _copy(old: sqlite3.Connection, new: sqlite3.Connection, table: str, done: Salvage) -> None:
    columns = [row[1] for row in old.execute(f"PRAGMA table_info({_quote(table)})")]
    names = ", ".join(_quote(one) for one in columns)
    insert = f"INSERT OR IGNORE INTO {_quote(table)} (rowid, {names}) VALUES ({', '.join('?' * (len(columns) + 1))})"  # noqa: S608
    count = 0
    for batch in _batches(_rows(old, table, names, done)):
        new.executemany(insert, batch)
        count += len(batch)
    done.rows[table] = int(new.execute(f"SELECT count(*) FROM {_quote(table)}").fetchone()[0])  # noqa: S608
    if done.rows[table] < count:
        done.incomplete.setdefault(table, "some rows break the table's own rules")


def _rows(old: sqlite3.Connection, table: str, names: str, done: Salvage) -> Iterator[tuple[Any, ...]]:
    """Rows in order of their number; over a gap by looking for the next number that can be read."""
    after, seen = -(2**63), set[int]()
    ask = f"SELECT rowid, {names} FROM {_quote(table)} NOT INDEXED WHERE rowid > ? ORDER BY rowid"  # noqa: S608
    while True:
        try:
            for row in old.execute(ask, (after,)):
                after = row[0]
                seen.add(after)
                yield row
            break
        except sqlite3.DatabaseError as error:
            done.incomplete[table] = str(error)
            following = _next_readable(old, table, after)
            if following is None:
                break
            after = following - 1
    if table in done.incomplete:
        yield from _from_the_end(old, table, names, seen)


def _next_readable(old: sqlite3.Connection, table: str, after: int) -> int | None:
    """The next row number that can be read behind a gap: asked for with growing steps, then narrowed down."""

    def probe(number: int) -> tuple[bool, int | None]:
        try:
            row = old.execute(ask, (number,)).fetchone()
        except sqlite3.DatabaseError:
            return False, None
        return True, int(row[0]) if row is not None else None

    ask = f"SELECT rowid FROM {_quote(table)} NOT INDEXED WHERE rowid >= ? ORDER BY rowid LIMIT 1"  # noqa: S608
    bad, step = max(after + 1, 0), 1
    while not probe(bad + step)[0]:
        bad, step = bad + step, step * 2
        if bad > _LAST - 2 * step:
            return None
    good = bad + step
    while good - bad > 1:
        middle = (good + bad) // 2
        if probe(middle)[0]:
            good = middle
        else:
            bad = middle
    return probe(good)[1]


def _from_the_end(old: sqlite3.Connection, table: str, names: str, seen: set[int]) -> Iterator[tuple[Any, ...]]:
    """What lies behind the last gap, read backwards."""
    ask = f"SELECT rowid, {names} FROM {_quote(table)} NOT INDEXED ORDER BY rowid DESC"  # noqa: S608
    try:
        for row in old.execute(ask):
            if row[0] in seen:
                return
            yield row
    except sqlite3.DatabaseError:
        return


def _sequences(old: sqlite3.Connection, new: sqlite3.Connection) -> None:
    """The highest numbers that were ever given, so that none is given twice."""
    try:
        for name, number in old.execute("SELECT name, seq FROM sqlite_sequence"):
            if not new.execute("UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = ?", (number, name)).rowcount:
                new.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (name, number))
    except sqlite3.DatabaseError:
        return


def _batches(rows: Iterator[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    batch: list[tuple[Any, ...]] = []
    for row in rows:
        batch.append(row)
        if len(batch) >= _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
