"""Damages the database file for real, in a table that was made for it: one page of it is overwritten."""

from __future__ import annotations

import base64
import os
import sqlite3
import time
from typing import Any

from django.db import connections

from ops.doctor.faults import FaultRefused, register_fault
from ops.doctor_data import sqlite

TABLE = "ops_practice"
_ROWS = 2000


def cause() -> dict[str, Any]:
    """Make the table, find one of its leaf pages, write nonsense over it."""
    if not sqlite.is_sqlite():
        raise FaultRefused("The files of a PostgreSQL server are not ours to damage.")
    connections.close_all()
    with sqlite.raw(timeout=20) as connection:
        connection.execute(f"DROP TABLE IF EXISTS {TABLE}")
        connection.execute(f"CREATE TABLE {TABLE} (id INTEGER PRIMARY KEY, word TEXT)")
        connection.execute("BEGIN IMMEDIATE")
        words = ((f"practice {number} {'x' * 100}",) for number in range(_ROWS))
        connection.executemany(f"INSERT INTO {TABLE} (word) VALUES (?)", words)  # noqa: S608 - our own constant
        connection.execute("COMMIT")
        size = int(sqlite.pragma(connection, "page_size"))
        root = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (TABLE,)).fetchone()[0]
        _checkpoint(connection)
    path = sqlite.database_file()
    with path.open("r+b") as file:
        file.seek((root - 1) * size)
        head = file.read(size)
        # An inner page: type 5, the number of cells at 3, their places from 12 on; a cell begins with the child's page number
        # (sqlite.org/fileformat2.html, section 1.6).
        cells = int.from_bytes(head[3:5], "big")
        if head[0] != 5 or cells < 3:
            raise FaultRefused("The practice table is not as large as it should be.")
        place = int.from_bytes(head[14:16], "big")
        leaf = int.from_bytes(head[place : place + 4], "big")
        file.seek((leaf - 1) * size)
        whole = file.read(size)
        file.seek((leaf - 1) * size)
        file.write(b"\xff" * 64)
        file.flush()
        os.fsync(file.fileno())
    return {"page": leaf, "size": size, "bytes": base64.b64encode(whole).decode()}


def _checkpoint(connection: sqlite3.Connection) -> None:
    """Bring everything from the WAL into the file, so that it is the file that is read."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if not busy:
            return
        time.sleep(0.05)
    raise FaultRefused("Somebody reads the database all the time; the damage would not be seen.")


def heal(memory: dict[str, Any]) -> None:
    """Put the page back if it is still damaged, and remove the table."""
    connections.close_all()
    damaged = any("practice" in line or "age" in line for line in sqlite.damage(full=False, seconds=60))
    if damaged:
        with sqlite.database_file().open("r+b") as file:
            file.seek((memory["page"] - 1) * memory["size"])
            file.write(base64.b64decode(memory["bytes"]))
            file.flush()
            os.fsync(file.fileno())
    with sqlite.raw(timeout=20) as connection:
        connection.execute(f"DROP TABLE IF EXISTS {TABLE}")


register_fault(
    "db.corrupt",
    title="A page of the database file is overwritten",
    cause=cause,
    heal=heal,
    evidence=("damage", "file"),
)
