"""Recovers a damaged SQLite file while everything runs: copy aside, read what can be read into a new file, compare, put it in.

The new content goes into the file through SQLite's own backup interface, that is as one transaction: other processes see the old pages
or the new ones, never a mixture, and none of them writes into a file that has been replaced. Had anybody written meanwhile, it stops.
"""

from __future__ import annotations

import shutil
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connections
from django.db.models import Max

from ops.doctor.repairs import Change, Plan, RepairFailed, RepairRefused, RepairWork, register_repair
from ops.doctor_data import sqlite
from ops.doctor_data.salvage import Salvage, derived_tables, salvage
from ops.models import AuditEvent, NamedLock
from ops.words import counted, verb

WORD = "recover"
_TRIES = 5
PATIENCE = 900.0
# What operating writes all by itself; rows of these do not speak against taking a recovery back.
_OWN = ("ops_", "django_session", "sqlite_")


def plan(work: RepairWork) -> Plan:
    """What can be read now, found out on a copy of a copy; changes nothing but files beside the database."""
    if not sqlite.is_sqlite():
        raise RepairRefused(
            "PostgreSQL mends its files itself or by its administrator; the guide of db.corrupt says how."
        )
    path = sqlite.database_file()
    try:
        found = sqlite.damage(full=True, seconds=PATIENCE)
    except TimeoutError as error:
        raise RepairRefused(f"{error} Recover it by hand; the guide of db.corrupt says how.") from None
    if not found:
        return Plan("SQLite finds nothing wrong with the database.")
    _need_room(path)
    folder = _folder()
    try:
        copy, fresh = folder / "rehearsal-damaged.sqlite3", folder / "rehearsal.sqlite3"
        with sqlite.raw(timeout=20) as guard:
            guard.execute("BEGIN IMMEDIATE")
            try:
                _copy_aside(copy)
            finally:
                guard.execute("ROLLBACK")
        done = _salvage(copy, fresh)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    changes = [Change("database", "damage", before="; ".join(found[:3]), after="none")]
    changes += [
        Change(f"table {name}", "rows", before="not all can be read", after=f"{done.rows.get(name, 0):,} ({why})")
        for name, why in sorted(done.incomplete.items())
    ]
    lost = (
        f" Of {counted(len(done.incomplete), 'table')} not every row can be read."
        if done.incomplete
        else " Every row can be read."
    )
    return Plan(
        f"{counted(done.total, 'row')} in {counted(len(done.rows), 'table')} {verb(done.total, 'is', 'are')} written into a new file, "
        f"which takes the place of the damaged one.{lost} "
        "The damaged file is kept.",
        tuple(changes),
    )


def apply(work: RepairWork) -> dict[str, Any]:
    """Copy aside, recover, compare, put in. Nothing is changed before the new file has been found whole."""
    folder = _folder()
    damaged, fresh = folder / "damaged.sqlite3", folder / "recovered.sqlite3"
    work.remember(folder=str(folder))
    connections.close_all()
    for _ in range(_TRIES):
        with sqlite.raw() as eye, sqlite.raw(timeout=20) as writer:
            writer.execute("BEGIN IMMEDIATE")
            try:
                # Others wait to write until it is done: whatever they wrote now would be lost.
                mark = sqlite.pragma(eye, "data_version")
                _copy_aside(damaged)
                done = _salvage(damaged, fresh)
                wrong = sqlite.damage(fresh, full=True, seconds=PATIENCE)
            finally:
                writer.execute("ROLLBACK")
            if wrong:
                raise RepairFailed(
                    f"The recovered file is not whole either ({wrong[0]}). The database was not touched."
                )
            if _put_in(fresh, writer, eye, mark):
                break
    else:
        raise RepairFailed(
            "Somebody wrote to the database at every try. Stop the workers, or recover it by hand (guide)."
        )
    counts = _counts()
    fresh.unlink(missing_ok=True)
    work.remember(
        counts={name: n for name, n in counts.items() if not name.startswith(_OWN)},
        audit=AuditEvent.objects.aggregate(last=Max("pk"))["last"] or 0,
    )
    return {
        "rows": {name: [rows, counts.get(name)] for name, rows in sorted(done.rows.items())},
        "incomplete": done.incomplete,
        "kept": str(damaged),
    }


def undo(work: RepairWork) -> None:
    """Put the damaged file's content back. Only while nothing was written since but what operating writes by itself."""
    folder = work.snapshot.get("folder")
    before = work.snapshot.get("counts")
    if before is None:
        # It failed before anything was put in.
        return
    damaged = Path(str(folder)) / "damaged.sqlite3"
    if not damaged.is_file():
        raise RepairRefused(f"{damaged} is gone; there is nothing to put back.")
    connections.close_all()
    for _ in range(_TRIES):
        with sqlite.raw() as eye, sqlite.raw(timeout=20) as writer:
            mark = sqlite.pragma(eye, "data_version")
            now = {name: n for name, n in _counts().items() if not name.startswith(_OWN)}
            changed = sorted(name for name in {*now, *before} if now.get(name) != before.get(name))
            done = AuditEvent.objects.filter(pk__gt=work.snapshot.get("audit", 0)).exclude(action__startswith="repair.")
            changed += sorted(set(done.values_list("action", flat=True)[:20]))
            if changed:
                raise RepairRefused(
                    f"Rows were written since ({', '.join(changed[:5])}); they would be lost. What was there before lies in "
                    f"{damaged}: read it with sqlite3."
                )
            locks = list(NamedLock.objects.values_list("name", "holder", "fence", "expires_at"))
            if _put_in(damaged, writer, eye, mark):
                # Locks that are held are of the present, not of then.
                for name, holder, fence, expires_at in locks:
                    NamedLock.objects.update_or_create(
                        name=name, defaults={"holder": holder, "fence": fence, "expires_at": expires_at}
                    )
                return
    raise RepairRefused("Somebody wrote to the database at every try. Stop the workers first.")


def _folder() -> Path:
    folder = Path(settings.DATA_DIR) / "recovered" / f"{datetime.now(UTC):%Y%m%d-%H%M%S-%f}"
    folder.mkdir(parents=True, mode=0o700)
    return folder


def _need_room(path: Path) -> None:
    size = path.stat().st_size + (sqlite.beside("-wal").stat().st_size if sqlite.beside("-wal").exists() else 0)
    free = shutil.disk_usage(settings.DATA_DIR).free
    if free < 4 * size:
        raise RepairRefused(
            f"Recovering needs {4 * size // 2**20 + 1:,} MB, and {free // 2**20:,} MB are free where the data directory lies."
        )


def _copy_aside(target: Path) -> None:
    """Copy the file with what still lies in its WAL. The caller holds the write lock, or takes what it gets."""
    for old in target.parent.glob(f"{target.name}*"):
        old.unlink()
    for source, copy in (
        (sqlite.database_file(), target),
        (sqlite.beside("-wal"), target.with_name(f"{target.name}-wal")),
    ):
        if source.exists():
            shutil.copyfile(source, copy)
            copy.chmod(0o600)


def _salvage(damaged: Path, fresh: Path) -> Salvage:
    try:
        return salvage(damaged, fresh)
    except sqlite3.DatabaseError as error:
        raise RepairRefused(
            f"Not even the list of tables can be read ({error}). Restore a backup, or try the guide's way by hand."
        ) from None


class _WrittenMeanwhileError(Exception):
    """Somebody committed between our reading and our writing."""


def _put_in(source: Path, writer: sqlite3.Connection, eye: sqlite3.Connection, mark: int | str) -> bool:
    """Write the pages of ``source`` over the database, in one transaction. False: somebody had written, nothing was done.

    ``eye`` is a connection that only watches: its data version is still ``mark`` when no other has committed. From the first page on
    SQLite holds the write lock, so what it sees then stays true until the end.
    """
    first = True

    def watch(status: int, remaining: int, total: int) -> None:
        nonlocal first
        if first and sqlite.pragma(eye, "data_version") != mark:
            raise _WrittenMeanwhileError
        first = False

    with sqlite.raw(source) as pages:
        try:
            pages.backup(writer, pages=1, progress=watch)
        except _WrittenMeanwhileError:
            return False
        except sqlite3.OperationalError as error:
            if "locked" in str(error) or "busy" in str(error):
                return False
            raise
    return True


def _counts() -> dict[str, int]:
    """Rows by table, of tables that can be read."""
    found: dict[str, int] = {}
    with sqlite.raw(read_only=True) as connection:
        derived = derived_tables(connection)
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for name in names:
            if name in derived:
                continue
            try:
                # The name comes from the database itself, and is quoted.
                found[name] = int(connection.execute(f'SELECT count(*) FROM "{name}" NOT INDEXED').fetchone()[0])  # noqa: S608
            except sqlite3.DatabaseError:
                continue
    return found


register_repair(
    "db.recover",
    title="Recover the damaged database",
    repair_class="D",
    button="Recover it",
    explain="Reads whatever can be read of the damaged SQLite file into a new one, compares the rows, and puts the new content in "
    "the old one's place in one step. Writing waits meanwhile. The damaged file is kept.",
    plan=plan,
    apply=apply,
    undo=undo,
    long=True,
    confirm_word=lambda work: WORD,
)
