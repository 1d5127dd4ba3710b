"""SQLite's file seen from outside of Django: what it says of itself, whether it is whole, who holds its write lock."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from django.db import DEFAULT_DB_ALIAS, connections

# Where the locks lie: the WAL's write lock in the -shm file, the reserved byte in the file itself (sqlite.org/walformat.html,
# section 2.3.3; sqlite.org/lockingv3.html and os.h).
_WAL_WRITE_LOCK = 120
_RESERVED_BYTE = 0x40000001
# Both keep at most so many complaints.
_MOST = 20


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that holds the write lock."""

    pid: int
    program: str
    is_us: bool


def is_sqlite() -> bool:
    """Whether our database is SQLite."""
    return connections[DEFAULT_DB_ALIAS].vendor == "sqlite"


def database_file() -> Path:
    """The file of our database."""
    return Path(str(connections[DEFAULT_DB_ALIAS].settings_dict["NAME"]))


def beside(ending: str) -> Path:
    """``-wal`` or ``-shm`` of our database."""
    path = database_file()
    return path.with_name(path.name + ending)


@contextmanager
def raw(path: Path | None = None, *, read_only: bool = False, timeout: float = 5.0) -> Iterator[sqlite3.Connection]:
    """A connection of its own, without Django and without implicit transactions; closed at the end."""
    mode = "ro" if read_only else "rw"
    uri = f"{(path or database_file()).resolve().as_uri()}?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, timeout=timeout, isolation_level=None, check_same_thread=False)
    try:
        yield connection
    finally:
        connection.close()


def pragma(connection: sqlite3.Connection, name: str) -> int | str:
    """The first value of a pragma. ``name`` is ours, never input."""
    row = connection.execute(f"PRAGMA {name}").fetchone()
    value: int | str = row[0] if row else ""
    return value


def damage(path: Path | None = None, *, full: bool, seconds: float) -> list[str]:
    """What SQLite finds wrong with the file; nothing: it is whole. ``full`` also compares indexes with their tables.

    Reads all of the file. Raises ``TimeoutError`` when it takes longer than ``seconds``.
    """
    until = time.monotonic() + seconds
    try:
        with raw(path, read_only=True) as connection:
            connection.set_progress_handler(lambda: int(time.monotonic() > until), 10_000)
            rows = connection.execute(f"PRAGMA {'integrity_check' if full else 'quick_check'}({_MOST})").fetchall()
    except sqlite3.DatabaseError as error:
        if "interrupted" in str(error):
            raise TimeoutError(f"Checking the database file takes longer than {seconds:.0f} s.") from None
        return [str(error)]
    # One row may hold several complaints, a line each.
    said = [line for row in rows for line in str(row[0]).splitlines()]
    return [] if said == ["ok"] else said[:_MOST]


def wait_for_write_lock(seconds: float) -> float | None:
    """How long it takes to get the write lock, in seconds; None: not within ``seconds``. Writes nothing."""
    started = time.monotonic()
    with raw(timeout=seconds) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if "locked" in str(error) or "busy" in str(error):
                return None
            raise
        waited = time.monotonic() - started
        connection.execute("ROLLBACK")
    return waited


def holders(locks: Path = Path("/proc/locks")) -> list[Holder]:
    """Processes of this machine that hold the write lock now; nothing where the kernel does not tell (Linux does)."""
    wanted: dict[int, int] = {}
    for path, place in ((beside("-shm"), _WAL_WRITE_LOCK), (database_file(), _RESERVED_BYTE)):
        try:
            wanted[os.stat(path).st_ino] = place
        except OSError:
            continue
    try:
        lines = locks.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []
    found: dict[int, Holder] = {}
    for line in lines:
        # "12: POSIX  ADVISORY  WRITE 4711 08:01:131099 120 120"; one that waits has "->" behind the number.
        parts = line.split()
        if len(parts) != 8 or parts[1] not in ("POSIX", "OFDLCK") or parts[3] != "WRITE":
            continue
        inode = int(parts[5].rpartition(":")[2])
        byte = wanted.get(inode)
        first, last = int(parts[6]), int(parts[7]) if parts[7].isdigit() else 1 << 62
        pid = int(parts[4])
        if byte is not None and first <= byte <= last and pid > 0:
            found[pid] = Holder(pid, _program(pid), pid == os.getpid())
    return list(found.values())


def _program(pid: int) -> str:
    """The program's name alone: arguments may hold secrets."""
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "?"
