"""Compares a backup with what is here, and keeps what was found as a restore that can be applied."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.core.cache import cache
from django.db import transaction

from ops.backup.components import component
from ops.backup.cut import consistent_cut
from ops.backup.diff import Difference, compare
from ops.backup.errors import BackupError
from ops.backup.files import encryption_keys
from ops.backup.plan import findings_of, plan_json
from ops.backup.read import Member, open_backup, read_header
from ops.backup.said import called
from ops.backup.scopes import kinds as all_kinds
from ops.backup.sealed import SealedRows
from ops.backup.since import OPEN_FOR, Choice
from ops.backup.source import rows_in_present_shape
from ops.backup.staging import Staging, staging
from ops.database_away import when_back
from ops.job_kinds import JobLost, JobStopped
from ops.locks import LockHeld
from ops.logs import get_logger
from ops.models import JobTrigger
from ops.models.backup import Backup
from ops.models.restore import UNCHANGED_STATES, Restore, RestoreState
from ops.quiet import StillBusy
from ops.redaction import redact_text
from ops.secrets import seal_text, unseal_text
from ops.services import audit
from ops.services.jobs import job_start, sentence_of
from ops.services.restore_settling import end, settle
from ops.words import counted

logger = get_logger(__name__)

Progress = Callable[[int, int, str], None]
LOCK = "restore.applying"
# A key that somebody typed is kept (encrypted, outside of the database) until the restore that it opens is applied, at most so long.
_KEY_SECONDS = 2 * 3600
# Rows of the backup are in a scratch file while they are compared: about so much larger than the backup, which is compressed.
_SCRATCH_FACTOR = 12


class RestoreRefused(BackupError):
    """It cannot be restored as things stand. The text says why, and what to do."""


def silent(done: int, total: int, text: str) -> None:
    """For whoever does not watch."""


def restore_plan_start(
    *,
    actor: str,
    backup: Backup | None = None,
    path: Path | str | None = None,
    identities: Sequence[str] | None = None,
    kinds: Collection[str] = (),
    trigger: str = JobTrigger.SYSTEM,
    undoes: Restore | None = None,
    words_since: bool = True,
) -> Restore:
    """Begin to compare a backup with what is here, as a job; returns its row at once. ``identities`` None: the installation's own key.
    ``words_since``: what was said here since the backup's cut is kept as history.

    Raises ``WrongKey``, ``NotABackup``, ``NewerVersion`` or ``RestoreRefused`` for what can be seen at once.
    """
    restore = new_restore(actor, backup, path, identities, kinds, undoes, words_since)
    return give_to_job(restore, "restore.plan", f"Compare {restore.source}", actor=actor, trigger=trigger)


def give_to_job(restore: Restore, kind: str, title: str, *, actor: str, trigger: str, once: bool = False) -> Restore:
    """Have a worker go on with a restore; its row names the job."""
    with transaction.atomic():
        job = job_start(
            kind=kind, title=title, actor=actor, trigger=trigger, params={"restore": str(restore.pk)}, once=once
        )
        Restore.objects.filter(pk=restore.pk).update(job=job)
    restore.refresh_from_db()
    return restore


def restore_plan(
    *,
    actor: str,
    backup: Backup | None = None,
    path: Path | str | None = None,
    identities: Sequence[str] | None = None,
    kinds: Collection[str] = (),
    undoes: Restore | None = None,
    words_since: bool = True,
    progress: Progress = silent,
) -> Restore:
    """Compare a backup with what is here, in this process. Returns the row, planned. Raises ``BackupError``."""
    restore = new_restore(actor, backup, path, identities, kinds, undoes, words_since)
    return plan_now(restore, progress=progress)


def new_restore(
    actor: str,
    backup: Backup | None,
    path: Path | str | None,
    identities: Sequence[str] | None,
    kinds: Collection[str],
    undoes: Restore | None,
    words_since: bool = True,
) -> Restore:
    if (backup is None) == (path is None):
        raise ValueError("Name a backup or a file.")
    known = [kind.name for kind in all_kinds()]
    chosen = [name for name in known if name in kinds]
    if unknown := sorted(set(kinds) - set(known)):
        raise RestoreRefused(f"There is no part {unknown[0]!r} to restore; choose among {', '.join(known)}.")
    settle_dead()
    source = backup.name if backup is not None else str(path)
    file = Path(path) if path is not None else _fetch(backup)
    if not file.is_file():
        raise RestoreRefused(f"There is no file {file}.")
    header = read_header(file)
    with open_backup(file, identities=identities):
        pass  # a wrong key and a newer version are told at once
    with transaction.atomic():
        restore = Restore.objects.create(
            backup=backup,
            source=source[:500],
            made_at=datetime.fromisoformat(header.made_at),
            kinds=[] if set(chosen) == set(known) else chosen,
            actor=actor[:255],
            undoes=undoes,
            plan={"words_since": words_since},
        )
        after = {"source": source, "kinds": restore.kinds, "words_since": words_since}
        audit.record(actor=actor, action="restore.planned", target=restore, after=after)
    remember_key(restore, identities)
    return restore


def _fetch(backup: Backup | None) -> Path:
    from ops.services.backups import backup_fetch

    if backup is None:
        raise RestoreRefused("The backup of this restore is not listed any more.")
    return backup_fetch(backup)


def file_of(restore: Restore) -> Path:
    """Where the restore's backup can be read. Raises ``BackupError``."""
    if restore.backup_id is not None:
        return _fetch(restore.backup)
    path = Path(restore.source)
    if not path.is_file():
        raise RestoreRefused(f"The file {path} is gone. Nothing was changed.")
    return path


def remember_key(restore: Restore, identities: Sequence[str] | None) -> None:
    """Keep the key that somebody typed until it is needed: encrypted, for some time, and not in the database."""
    if identities is not None:
        cache.set(f"restore-key:{restore.pk}", seal_text("\n".join(identities)), _KEY_SECONDS)


def key_of(restore: Restore) -> list[str] | None:
    """The key that was given for a restore; None: the installation's own."""
    try:
        kept = cache.get(f"restore-key:{restore.pk}")
    except Exception as error:
        # Redis may be away. Where a key was typed the file does not open without it, and says so.
        logger.warning("restore_key_not_asked", restore=str(restore.pk), error=type(error).__name__)
        return None
    return unseal_text(kept).split("\n") if kept else None


def plan_now(restore: Restore, *, progress: Progress = silent) -> Restore:
    """Compare, and write the plan into the row. Raises ``BackupError``; the row says then that it failed."""
    try:
        path, identities = file_of(restore), key_of(restore)
        with staging() as staged:
            keys, parts = stage(staged, path, identities, progress)
            progress(0, 0, "Comparing")
            with consistent_cut() as alias:
                difference = compare(staged, alias, restore.kinds, SealedRows(keys), choice_of(restore))
        findings = [finding.to_dict() for finding in findings_of(difference)]
        restore.plan, restore.parts = plan_of(restore, difference), _wanted_parts(parts, restore.kinds)
        restore.findings = findings
        to_state(restore, RestoreState.PLANNING, RestoreState.PLANNED, "plan", "parts", "findings")
    except JobLost:
        raise  # another worker has it, and says how it ends
    except JobStopped as stopped:
        put_aside(restore, str(stopped))
        raise
    except Exception as error:
        fail(restore, error)
        raise
    return restore


def choice_of(restore: Restore) -> Choice:
    """What becomes of what was made since the cut. What an undo goes back to was made while nobody wrote."""
    assert restore.made_at is not None
    return Choice(restore.made_at - (OPEN_FOR if restore.undoes_id is None else timedelta()), words_since(restore))


def words_since(restore: Restore) -> bool:
    """Whether what was said since the cut is kept."""
    return bool(restore.plan.get("words_since", True))


def plan_of(restore: Restore, difference: Difference) -> dict[str, Any]:
    """The difference as ``Restore.plan`` holds it, with what was chosen."""
    return plan_json(difference) | {"words_since": words_since(restore)}


def stage(
    staged: Staging, path: Path, identities: Sequence[str] | None, progress: Progress = silent
) -> tuple[tuple[str, ...], dict[str, dict[str, Any]]]:
    """Read a backup to its end into the staging; every part of it is verified then. Gives its keys for secrets, and what files it holds
    (``{component: {"files", "size"}}``)."""
    from ops.backup.spool import check_room

    check_room(path.stat().st_size * _SCRATCH_FACTOR, asked_for="There is no room to compare the backup")
    keys: list[str] = []

    def seen(member: Member) -> None:
        keys.extend(encryption_keys(member) or ())

    with open_backup(path, identities=identities) as reader:
        with rows_in_present_shape(reader, progress=progress, seen=seen) as tables:
            staged.take(tables, lambda label, rows: progress(rows, 0, f"Reading {called(label)}"))
        parts = {name: dict(said) for name, said in reader.manifest.parts.items()}
    return tuple(keys), parts


def _wanted_parts(parts: dict[str, dict[str, Any]], kinds: Collection[str]) -> dict[str, Any]:
    wanted = {}
    for name, said in parts.items():
        known = component(name)
        if known is not None and (not kinds or known.kind in kinds):
            files = int(said.get("files") or 0)
            wanted[name] = {
                "label": known.label,
                "files": files,
                "sentence": f"{counted(files, 'file')}; what is here and not in the backup stays.",
            }
    return wanted


def settle_dead(*, but: Restore | None = None) -> int:
    """Say of restores whose process died before they were committed that they failed; returns how many. Nothing of them was changed."""
    return settle(LOCK, but=but)


def to_state(restore: Restore, before: str, after: str, *fields: str) -> None:
    """From one state to the next with these fields. Raises ``RestoreRefused`` when somebody else was faster."""
    values = {name: getattr(restore, name) for name in fields}
    if not Restore.objects.filter(pk=restore.pk, state=before).update(state=after, error="", **values):
        raise RestoreRefused("Somebody else has gone on with this restore meanwhile. Look at it again.")
    restore.state = after


def put_aside(restore: Restore, sentence: str) -> None:
    """Somebody cancelled it before a row was changed."""
    end(restore, UNCHANGED_STATES, RestoreState.DISCARDED, sentence, actor=restore.actor)
    restore.refresh_from_db()


def fail(restore: Restore, error: BaseException) -> None:
    """Write into the row why it failed, unless it was committed."""
    said = redact_text(str(error)) if isinstance(error, (BackupError, StillBusy, LockHeld)) else sentence_of(error)

    def say() -> None:
        before = (RestoreState.PLANNING, RestoreState.APPLYING)
        if not end(restore, before, RestoreState.FAILED, said, actor=restore.actor):
            Restore.objects.filter(pk=restore.pk).update(error=said[:1000])

    when_back(say)
    restore.refresh_from_db()
    logger.warning("restore_failed", restore=str(restore.pk), error=said[:500])
