"""A backup into an empty database: that of a machine on which nothing is yet, or one that an operator names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from ops.backup import scratch
from ops.backup.apply import fence_in
from ops.backup.components import Putting
from ops.backup.errors import BackupError
from ops.backup.files import KEYS_COMPONENT, Looked, look_through, put_files_of, put_keys
from ops.backup.load import LoadReport, load_into, refuse_unless_empty
from ops.backup.read import BackupReader, open_backup
from ops.backup.sealed import SealedRows
from ops.findings import Finding
from ops.models.restore import Restore, RestoreState
from ops.services import audit
from ops.services.reconciling import reconcile
from ops.services.restore_planning import Progress, RestoreRefused, silent
from ops.services.restores import note_files
from ops.words import counted, verb


def is_fresh(alias: str = DEFAULT_DB_ALIAS) -> bool:
    """Whether nothing of ours is in the database: no tables, or none with a row of somebody's."""
    if not connections[alias].introspection.table_names():
        return True
    try:
        refuse_unless_empty(alias)
    except (BackupError, DatabaseError):
        return False
    return True


def prepare(alias: str = DEFAULT_DB_ALIAS) -> None:
    """Make the tables of an empty database. Raises ``RestoreRefused`` for one with another schema."""
    connection = connections[alias]
    if not connection.introspection.table_names():
        scratch.migrate(alias)
        return
    executor = MigrationExecutor(connection)
    if executor.migration_plan(executor.loader.graph.leaf_nodes()):
        raise RestoreRefused(
            "The tables of this database are of another version. Bring it up to date first: manage.py migrate."
        )


def restore_fresh(*, path: Path, identities: Sequence[str] | None, actor: str, progress: Progress = silent) -> Restore:
    """Bring a backup to life on a machine on which nothing is yet: tables, keys, rows, files; then it is brought together with the outside.

    Nothing else of this installation may run. Raises ``BackupError`` with a sentence; then the database is as empty as before.
    """
    prepare()
    refuse_unless_empty(DEFAULT_DB_ALIAS)
    # Two passes, over one and the same opened file: nothing is put anywhere before all of it was verified, and the keys without which the rows
    # cannot be written stand behind them.
    with path.open("rb") as file:
        looked = look_through(file, identities, progress)
        file.seek(0)
        with open_backup(file, identities=identities) as reader:
            restore = _fill(path, looked, reader, actor, progress)
    return reconcile(restore, actor=actor, fresh=True, progress=progress)


def _fill(path: Path, looked: Looked, reader: BackupReader, actor: str, progress: Progress) -> Restore:
    """The second pass: keys, rows, and the files behind them."""
    findings: list[Finding] = []
    putting = Putting(
        Path(settings.DATA_DIR),
        DEFAULT_DB_ALIAS,
        drill=False,
        say=findings.append,
        keys=looked.keys,
        extra={"fresh": True},
    )
    # First, so that whatever looks at rows can read what is sealed.
    files = put_keys(looked, putting)
    sealed = SealedRows(looked.keys)
    cut_at = datetime.fromisoformat(looked.header.made_at)
    restored: list[Restore] = []

    def in_transaction(report: LoadReport) -> None:
        restore = Restore(
            source=str(path)[:500],
            made_at=cut_at,
            state=RestoreState.RECONCILING,
            actor=actor[:255],
            applied_at=timezone.now(),
            plan={"models": [], "kinds": {}, "added": report.total, "changed": 0, "removed": 0, "kept": 0, "same": 0},
        )
        restore.report = {
            "rows": {"label": "Rows", "sentence": f"{counted(report.total, 'row')} loaded.", "fresh": True}
        }
        restore.save(force_insert=True)
        fence_in(DEFAULT_DB_ALIAS, cut_at=cut_at, kinds=(), fresh=True, restore_id=restore.pk, say=findings.append)
        findings.extend(findings_of_load(report, sealed))
        audit.record(
            actor=actor,
            action="restore.applied",
            target=restore,
            message=restore.report["rows"]["sentence"],
            after={"source": restore.source, "fresh": True},
        )
        restored.append(restore)

    with _taken():
        load_into(
            DEFAULT_DB_ALIAS, reader, progress=progress, sealed=sealed, in_transaction=in_transaction, whole=False
        )
    restore = restored[0]
    files |= put_files_of(
        reader, putting, wanted=lambda one: one.name != KEYS_COMPONENT, progress=lambda text: progress(0, 0, text)
    )
    note_files(restore, files, findings)
    return restore


@dataclass(slots=True)
class Loaded:
    """What was put into another database."""

    report: LoadReport
    findings: list[Finding] = field(default_factory=list)


def restore_elsewhere(*, path: Path, url: str, identities: Sequence[str] | None, progress: Progress = silent) -> Loaded:
    """Put a backup's rows into the empty database that ``url`` names. Secrets are written with this installation's keys; files stay in the
    backup. Raises ``BackupError`` with a sentence; then that database is as empty as before."""
    findings: list[Finding] = []
    # Before the rows, because the keys for their secrets stand behind them.
    looked = look_through(path, identities, progress)
    sealed = SealedRows(looked.keys)
    with scratch.database_at(url) as alias, _taken():
        if not is_fresh(alias):
            with suppress(DatabaseError):
                refuse_unless_empty(alias)
            raise RestoreRefused(
                "The database holds tables that are not ours, or of another version. Name an empty one."
            )
        prepare(alias)
        cut_at = datetime.fromisoformat(looked.header.made_at)
        with open_backup(path, identities=identities) as again:
            report = load_into(
                alias,
                again,
                progress=progress,
                sealed=sealed,
                in_transaction=lambda report: _fenced(alias, cut_at, findings),
            )
    return Loaded(report, [*findings, *findings_of_load(report, sealed)])


@contextmanager
def _taken() -> Iterator[None]:
    """What the database has against it, as a sentence: rights, room, limits, its end. One transaction: it is as empty then as before."""
    try:
        yield
    except DatabaseError as error:
        raise BackupError(
            f"The database did not take it: {' '.join(str(error).split())[:300]}. Nothing of it is there."
        ) from error


def _fenced(alias: str, cut_at: datetime, findings: list[Finding]) -> None:
    fence_in(alias, cut_at=cut_at, kinds=(), fresh=True, restore_id=None, say=findings.append)


def findings_of_load(report: LoadReport, sealed: SealedRows) -> list[Finding]:
    """What was not loaded as it lay in the backup."""
    found = []
    for what, number in report.left_out.items():
        found.append(
            Finding(
                "warning",
                "restore.left_out",
                f"{counted(number, 'row')} left out: {what} refers to what no backup holds.",
                what,
            )
        )
    for what, number in report.emptied.items():
        found.append(
            Finding(
                "info",
                "restore.emptied",
                f"{counted(number, 'reference')} of {what} emptied: it refers to what no backup holds.",
                what,
            )
        )
    if report.nuls:
        found.append(
            Finding(
                "warning",
                "restore.nul",
                f"{counted(report.nuls, 'text')} held a NUL character, which PostgreSQL cannot; U+FFFD stands there now.",
            )
        )
    for where, number in sealed.unreadable.items():
        found.append(
            Finding(
                "warning",
                "restore.secret_unreadable",
                f"{counted(number, 'secret')} of {where} cannot be opened with any key at hand: enter {verb(number, 'it', 'them')} again.",
                where,
            )
        )
    return found


def as_json(restore: Restore) -> dict[str, Any]:
    """A restore as commands and programs see it."""
    return {
        "id": str(restore.pk),
        "source": restore.source,
        "state": restore.state,
        "made_at": restore.made_at.isoformat() if restore.made_at else None,
        "kinds": restore.kinds,
        "plan": restore.plan,
        "parts": restore.parts,
        "findings": restore.findings,
        "report": restore.report,
        "safety": restore.safety.name if restore.safety else None,
        "error": restore.error,
    }
