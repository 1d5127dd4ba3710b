"""Is the database file whole? SQLite says so itself; PostgreSQL has checksums and amcheck."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections
from django.utils import timezone

from ops.doctor.guides import Guide, GuideStep, register_guide
from ops.doctor_data import sqlite
from ops.models import CheckState
from ops.registry import CheckOutcome, register_check
from ops.words import counted, verb

CHECK = "db.corrupt"
FULL_EVERY = timedelta(days=7)
# Within so many seconds a check ends, since others wait for it; a database that needs longer is checked by hand (see the guide).
PATIENCE = 100.0
_BEFORE_BACKUP = 20.0
_INDEXES = """
    SELECT c.oid::regclass::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE a.amname = 'btree' AND n.nspname = current_schema() AND i.indisvalid AND i.indisready
    ORDER BY pg_relation_size(c.oid)
"""


@register_check(
    CHECK,
    title="The database is whole",
    tags=("database", "data"),
    interval=86400,
    severity="critical",
    timeout=120,
    repairs=("db.recover",),
)
def corrupt() -> CheckOutcome:
    """Daily a quick check, weekly the full one, which also compares indexes with their tables.

    It does not depend on ``db.reachable``: a file that is damaged badly enough is what makes the database unreachable.
    """
    last = _last_full()
    full = last is None or timezone.now() - last >= FULL_EVERY
    if sqlite.is_sqlite():
        return _sqlite(full, last)
    return _postgresql(full, last)


def _sqlite(full: bool, last: datetime | None) -> CheckOutcome:
    path, started = sqlite.database_file(), time.monotonic()
    try:
        found = sqlite.damage(full=full, seconds=PATIENCE)
    except TimeoutError as error:
        return CheckOutcome("warn", f"{error} Run it by hand; the guide says how.", {"file": str(path)})
    evidence: dict[str, Any] = {
        "file": str(path),
        "bytes": path.stat().st_size,
        "kind": "integrity_check" if full else "quick_check",
        "seconds": round(time.monotonic() - started, 2),
        "full_at": (timezone.now() if full else last or timezone.now()).isoformat(),
    }
    if found:
        # Until it is whole again every check is a full one.
        evidence |= {"damage": found, "full_at": None}
        return CheckOutcome(
            "fail",
            f"SQLite finds {path.name} damaged ({found[0]}). What lies on the damaged pages cannot be read. Recover the file "
            f"before more is written, and look at the disk it lies on. {_last_good(evidence)}",
            evidence,
        )
    return CheckOutcome("pass", f"{path.name} is whole ({evidence['kind']}, {evidence['seconds']} s).", evidence)


def _postgresql(full: bool, last: datetime | None) -> CheckOutcome:
    with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        cursor.execute("SHOW data_checksums")
        checksums = cursor.fetchone()[0] == "on"
        cursor.execute("SELECT COALESCE(checksum_failures, 0) FROM pg_stat_database WHERE datname = current_database()")
        failures = int(cursor.fetchone()[0])
        cursor.execute("SELECT 1 FROM pg_extension WHERE extname = 'amcheck'")
        amcheck = cursor.fetchone() is not None
    evidence: dict[str, Any] = {"checksums": checksums, "checksum_failures": failures, "amcheck": amcheck}
    if failures:
        return CheckOutcome(
            "fail",
            f"PostgreSQL read {counted(failures, 'page')} whose checksum was wrong: the disk gave back something else than was written. "
            f"Look at the server's log for the relations, and restore them from a backup. {_last_good(evidence)}",
            evidence,
        )
    if amcheck:
        evidence["full_at"] = (timezone.now() if full else last or timezone.now()).isoformat()
        if full:
            damaged = _damaged_indexes(evidence)
            if damaged:
                evidence |= {"damage": damaged, "full_at": None}
                sentence = f"amcheck finds {counted(len(damaged), 'damaged index', 'damaged indexes')} ({damaged[0]}). Rebuild {verb(len(damaged), 'it', 'them')}; the guide says how."
                return CheckOutcome("fail", sentence, evidence)
    if not checksums and not amcheck:
        return CheckOutcome(
            "skip",
            "This PostgreSQL has neither checksums nor amcheck: damage shows when it is read. See the guide.",
            evidence,
        )
    word = "checksums" if not amcheck else "amcheck" if not checksums else "checksums and amcheck"
    return CheckOutcome("pass", f"PostgreSQL reports no damage ({word}).", evidence)


def _last_good(evidence: dict[str, Any]) -> str:
    """What there is to fall back on: the last backup that a drill restored. Adds ``last_good`` to the evidence."""
    from ops.html import relative
    from ops.services import backups

    try:
        good = backups.last_good()
    except Exception:
        # The database is what is broken.
        return "manage.py backup list shows what there is to fall back on."
    evidence["last_good"] = {"name": good.name, "made_at": good.made_at.isoformat()} if good is not None else None
    if good is None:
        return "No backup is known to restore."
    return f"The last good backup was made {relative(good.made_at, timezone.now())} ({good.name})."


def damage_now() -> str:
    """A quick look before a backup: what SQLite complains of, "" when nothing (PostgreSQL looks at its checksums as it reads). Finding
    something has the check asked at once, so that somebody is told."""
    if not sqlite.is_sqlite():
        return ""
    try:
        found = sqlite.damage(full=False, seconds=_BEFORE_BACKUP)
    except TimeoutError:
        return ""
    if not found:
        return ""
    from ops.runner import run_checks

    run_checks([CHECK])
    return found[0]


def _damaged_indexes(evidence: dict[str, Any]) -> list[str]:
    """Indexes that amcheck complains of; the smallest first, for as long as there is time."""
    until, damaged, looked = time.monotonic() + PATIENCE, [], 0
    connection = connections[DEFAULT_DB_ALIAS]
    with connection.cursor() as cursor:
        cursor.execute(_INDEXES)
        names = [row[0] for row in cursor.fetchall()]
        for name in names:
            if time.monotonic() > until:
                break
            looked += 1
            try:
                cursor.execute("SELECT bt_index_check(%s::regclass)", [name])
            except Exception as error:
                damaged.append(f"{name}: {' '.join(str(error).split())[:200]}")
    evidence |= {"indexes": len(names), "indexes_checked": looked}
    return damaged[:20]


def _last_full() -> datetime | None:
    """When the last full check that found nothing ended: kept in the check's own evidence."""
    try:
        state = CheckState.objects.filter(check_id=CHECK).first()
        return datetime.fromisoformat(state.evidence["full_at"]) if state is not None else None
    except Exception:
        # Never, or the database is what is broken.
        return None


@register_guide(CHECK)
def guide(target: str, evidence: dict[str, Any]) -> Guide:
    """By hand: for a file that is too damaged for Switchboard to start, and for PostgreSQL."""
    if not sqlite.is_sqlite():
        return Guide(
            "Mend PostgreSQL's data",
            "Pages of the server's files do not hold what was written. Only its administrator can mend that.",
            (
                GuideStep("Rebuild damaged indexes: tables are not touched.", "REINDEX DATABASE CONCURRENTLY;", "sql"),
                GuideStep(
                    "Let PostgreSQL check itself from now on.", "CREATE EXTENSION IF NOT EXISTS amcheck;", "sql", "psql"
                ),
                GuideStep(
                    "Checksums find what the disk gets wrong. They are switched on while the server is stopped.",
                    'pg_checksums --enable -D "$PGDATA"',
                ),
                GuideStep("Damaged tables are restored from the last good backup; look at the disk first."),
            ),
        )
    path = sqlite.database_file()
    aside = path.with_name(f"{path.name}.damaged")
    return Guide(
        "Recover the database by hand",
        "For when Switchboard does not start any more. While it runs, the repair does the same and compares the rows.",
        (
            GuideStep(
                "A large file that the check has no time for: while nothing runs.",
                f"sqlite3 '{path}' 'PRAGMA integrity_check'",
            ),
            GuideStep("To recover it, stop Switchboard, so that nothing writes."),
            GuideStep("Put the file aside, with what has not been written into it yet.", _aside(path, aside)),
            GuideStep(
                "Recover what can be read into a new file.",
                f"sqlite3 '{aside}' .recover | sqlite3 '{path}'\nsqlite3 '{path}' 'PRAGMA integrity_check'",
            ),
            GuideStep("Start Switchboard again.", f"cd '{settings.BASE_DIR}' && make up"),
            GuideStep(
                "What could not be read comes back from the last good backup, or instead of recovering: all of it.",
                "python manage.py backup list\npython manage.py restore NAME --dry-run",
            ),
            GuideStep("Look for errors of the disk that it lies on.", "dmesg | grep -iE 'i/o error|ext4|xfs|nvme|ata'"),
        ),
    )


def _aside(path: Path, aside: Path) -> str:
    return f"mv '{path}' '{aside}'\n[ -e '{path}-wal' ] && mv '{path}-wal' '{aside}-wal'\nrm -f '{path}-shm'"
