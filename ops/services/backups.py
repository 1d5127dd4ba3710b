"""Makes backups, looks after them, removes them. Copies at destinations: ``backup_copies``, ``backup_fetching``, ``backup_looking``."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from ops.backup import spool
from ops.backup.errors import BackupDamaged, BackupError, NewerVersion, WrongKey
from ops.backup.manifest import Manifest
from ops.database_away import when_back
from ops.findings import Finding
from ops.locks import LockHeld, is_held, named_lock
from ops.logs import get_logger
from ops.models import Job, JobTrigger
from ops.models.backup import Backup, BackupDestination, BackupReason, BackupState, CopyState
from ops.redaction import redact_text
from ops.services import audit, backup_keys
from ops.services.backup_copies import copies_begin, copies_store, damaged_copies, remove_everywhere
from ops.services.backup_fetching import backup_fetch
from ops.services.backup_looking import backup_sync_list, backup_upload
from ops.services.jobs import job_start
from ops.words import counted

__all__ = [
    "LOCK",
    "backup_delete",
    "backup_fetch",
    "backup_now",
    "backup_pin",
    "backup_start",
    "backup_sync_list",
    "backup_upload",
    "backup_verify",
    "clear_up",
    "last_good",
    "newest",
    "running",
]

logger = get_logger(__name__)

LOCK = "backup.making"
Progress = Callable[[int, int, str], None]
_VERIFIED = (
    "verify_error",
    "verified_at",
    "sha256",
    "size",
    "manifest",
    "parts",
    "missing",
    "rows",
    "version",
    "made_at",
)


def backup_start(
    *,
    actor: str,
    reason: str = BackupReason.MANUAL,
    note: str = "",
    optional: Collection[str] = (),
    trigger: str = JobTrigger.SYSTEM,
    drill: bool = False,
) -> Job:
    """Have a backup made by a worker: a job of the kind ``backup.create``, whose result is ``{"backup": id, "name", "state"}``.

    ``optional`` names components that are taken along besides; ``drill`` has it restored into a scratch place right afterwards.
    """
    check_optional(optional)
    params = {"reason": str(reason), "note": note[:300], "optional": sorted(optional), "drill": drill}
    return job_start(
        kind="backup.create", title="Make a backup", actor=actor, trigger=trigger, params=params, once=True
    )


def check_optional(optional: Collection[str]) -> None:
    """Raises ``ValueError`` for an optional part that nobody knows."""
    from ops.backup.components import components

    known = {one.name for one in components() if one.optional}
    if unknown := sorted(set(optional) - known):
        raise ValueError(
            f"No optional part is called {', '.join(unknown)}; there are {', '.join(sorted(known)) or 'none'}."
        )


def backup_now(
    *,
    actor: str,
    reason: str = BackupReason.MANUAL,
    note: str = "",
    optional: Collection[str] = (),
    include: Collection[str] | None = None,
    pinned: bool = False,
    job: Job | None = None,
    verify: bool = True,
    wait: float = 600.0,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Backup:
    """Make a backup in this process and bring copies to all destinations. Returns its row, complete or partial.

    ``verify`` reads it back afterwards; what cannot be read raises ``BackupDamaged``. Waits up to ``wait`` seconds for one that is being
    made. Raises ``BackupError`` (``NoRoom``, …) when it could not be made; a destination that fails does not raise: its copy says so.
    """
    try:
        with named_lock(LOCK, wait=wait) as lock:
            clear_up(actor=actor)
            wanted = "" if reason == BackupReason.SCHEDULE else "There is no room for a backup"
            spool.check_room(spool.guess(_last_size()), asked_for=wanted)
            backup = _make(actor, reason, note, optional, include, pinned, job, progress, should_stop, lock.check)
    except LockHeld as error:
        raise BackupError("Another backup is being made at the moment. Try again when it has ended.") from error
    if verify:
        backup_verify(backup=backup, actor=actor, progress=progress)
        if backup.verify_error:
            raise BackupDamaged(f"The backup {backup.name} was written and cannot be read back: {backup.verify_error}")
    copies_store(backup=backup, actor=actor, progress=progress)
    backup.refresh_from_db()
    return backup


def _last_size() -> int:
    return Backup.objects.filter(size__gt=0).order_by("-made_at").values_list("size", flat=True).first() or 0


def _make(
    actor: str,
    reason: str,
    note: str,
    optional: Collection[str],
    include: Collection[str] | None,
    pinned: bool,
    job: Job | None,
    progress: Progress | None,
    should_stop: Callable[[], bool] | None,
    check_lock: Callable[[], None],
) -> Backup:
    from ops.backup import age
    from ops.backup.write import write_backup
    from ops.doctor_data.corrupt import damage_now
    from ops.services.backup_destinations import ensure_one

    # Before the cut: a restore of the first backup would else take away the place in which it lies.
    ensure_one()
    recipients = backup_keys.recipients()
    backup = Backup(
        reason=reason,
        note=note[:300],
        version=settings.VERSION,
        installation=spool.installation(),
        recipients=[age.fingerprint(one) for one in recipients],
        actor=actor[:255],
        job=job,
        pinned=pinned,
        made_at=timezone.now(),
    )
    backup.name = spool.new_name(backup.id, backup.made_at)
    if damage := damage_now():
        # What can be read is worth having all the same; the check of the database raises the alarm.
        backup.note = f"The database was damaged when it was made: {damage}. {backup.note}"[:300]
    backup.save(force_insert=True)
    made_by = {"id": str(backup.id), "installation": backup.installation, "version": backup.version}
    try:
        with spool.writing(backup.name) as file:
            manifest = write_backup(
                target=file,
                made_by=made_by,
                recipients=recipients,
                optional=tuple(optional),
                include=include,
                progress=progress or (lambda done, total, text: None),
                should_stop=should_stop or (lambda: False),
            )
            # Somebody else may be making one since: theirs cleared ours away.
            check_lock()
    except BaseException as error:
        # BaseException: what stops a worker between two steps must not leave the row running either.
        _failed(backup, actor, error)
        raise
    return _complete(backup, manifest, actor)


def _failed(backup: Backup, actor: str, error: BaseException) -> None:
    text = " ".join(redact_text(str(error)).split()) or type(error).__name__
    backup.state, backup.error, backup.finished_at = BackupState.FAILED, text[:1000], timezone.now()

    def say() -> None:
        with transaction.atomic():
            backup.save(update_fields=["state", "error", "finished_at"])
            audit.record(actor=actor, action="backup.failed", target=backup, message=backup.error)

    try:
        when_back(say)
    except Exception:
        # The next run settles the row.
        logger.warning("backup_failure_not_written", backup=backup.name, exc_info=True)


def _complete(backup: Backup, manifest: Manifest, actor: str) -> Backup:
    """The file is there: say so, and give every destination its copy to wait for."""
    for name, value in manifest_facts(manifest).items():
        setattr(backup, name, value)
    backup.size, backup.sha256 = manifest.file_size, manifest.file_sha256
    backup.finished_at, backup.error = timezone.now(), ""
    with transaction.atomic():
        waiting = copies_begin(backup)
        backup.state = BackupState.PARTIAL if waiting else BackupState.COMPLETE
        backup.save()
        audit.record(
            actor=actor,
            action="backup.made",
            target=backup,
            after={
                "size": backup.size,
                "rows": backup.rows,
                "missing": sorted(backup.missing),
                "reason": str(backup.reason),
            },
        )
    return backup


def manifest_facts(manifest: Manifest) -> dict[str, Any]:
    """What of a manifest stands in the row: ``{manifest, parts, missing, rows, version, made_at}``."""
    facts: dict[str, Any] = {
        "manifest": manifest.summary(),
        "parts": {
            name: {
                "label": part["label"],
                "items": part["files"],
                "size": part["size"],
                "sentence": counted(part["files"], "file"),
            }
            for name, part in manifest.parts.items()
        },
        "missing": manifest.missing,
        "rows": manifest.rows,
        "version": manifest.version[:50],
    }
    if (made_at := parse_datetime(manifest.made_at)) is not None:
        facts["made_at"] = made_at
    return facts


def clear_up(*, actor: str) -> int:
    """Settle what a killed run left: rows that still say it runs, files that are half written. Only with ``LOCK`` held.

    A file that had its name already is whole (it gets it last), and is read to find out what it holds. Returns how many rows were settled.
    """
    settled = 0
    for backup in Backup.objects.filter(state=BackupState.RUNNING):
        path = spool.path_of(backup.name)
        if path.is_file() and _adopt(backup, actor):
            settled += 1
            continue
        path.unlink(missing_ok=True)
        _failed(backup, actor, BackupError("Its process ended while it was being made; nothing of it is left."))
        settled += 1
    spool.sweep()
    return settled


def settle_dead(*, actor: str) -> int:
    """``clear_up`` when rows say that they run and nobody makes one. Returns how many rows were settled."""
    if not Backup.objects.filter(state=BackupState.RUNNING).exists() or running():
        return 0
    try:
        with named_lock(LOCK):
            return clear_up(actor=actor)
    except LockHeld:
        return 0


def _adopt(backup: Backup, actor: str) -> bool:
    from ops.backup.verify import verify_backup

    path = spool.path_of(backup.name)
    report = verify_backup(path)
    if not report.ok or report.manifest is None:
        return False
    _complete(backup, report.manifest, actor)
    return True


def backup_verify(
    *, backup: Backup, actor: str, destination: BackupDestination | None = None, progress: Progress | None = None
) -> list[dict[str, Any]]:
    """Read a backup to its end and compare every checksum, at ``destination`` or wherever it is nearest. Returns findings as JSON.

    The row says when it was last well (``verified_at``) and what was wrong (``verify_error``); a copy that is damaged while others are not
    is marked as failed, and is brought there again. A backup that none of this machine's keys opens is compared with the checksum of the
    whole file only. Raises ``BackupError`` when it cannot be fetched, and ``BackupDamaged`` for the copy at ``destination``.
    """
    from ops.backup.verify import verify_backup

    findings = damaged_copies(backup, actor, destination)
    if destination is not None and findings:
        raise BackupDamaged(findings[0].sentence)
    problem = ""
    try:
        path = backup_fetch(backup, destination=destination)
        report = verify_backup(path, progress=progress or (lambda done, total, text: None))
        if any(one.code == "backup.wrong_key" for one in report.findings):
            if not backup.sha256:
                raise WrongKey(report.sentence)
            # The file is what it was, as its checksum says; this machine cannot look inside.
            findings.append(Finding("info", "backup.not_opened", report.sentence))
        elif any(one.code == "backup.newer_version" for one in report.findings):
            raise NewerVersion(report.sentence)
        else:
            problem = report.sentence
            findings += report.findings
        if report.manifest is not None:
            backup.sha256, backup.size = report.sha256, report.manifest.file_size
            if not backup.manifest:
                for name, value in manifest_facts(report.manifest).items():
                    setattr(backup, name, value)
    except BackupDamaged as error:
        if destination is not None:
            raise
        problem = str(error)
        findings.append(Finding("error", "backup.damaged", problem))
    backup.verify_error = redact_text(problem)[:1000]
    if not problem:
        backup.verified_at = timezone.now()
    with transaction.atomic():
        backup.save(update_fields=[*_VERIFIED])
        audit.record(
            actor=actor, action="backup.verified" if not problem else "backup.damaged", target=backup, message=problem
        )
    return [finding.to_dict() for finding in findings]


def backup_pin(*, backup: Backup, pinned: bool, actor: str) -> Backup:
    """Keep a backup whatever retention says, or end that."""
    with transaction.atomic():
        if Backup.objects.filter(pk=backup.pk).exclude(pinned=pinned).update(pinned=pinned):
            audit.record(actor=actor, action="backup.pinned" if pinned else "backup.unpinned", target=backup)
    backup.pinned = pinned
    return backup


def backup_delete(*, backup: Backup, actor: str) -> None:
    """Remove a backup with all its copies. Raises ``ValueError`` for one that is pinned, being made, or the last good one, and
    ``DestinationFailed`` when a place does not let go of its copy (the row stays, so that it can be tried again)."""
    if backup.state == BackupState.RUNNING and running():
        raise ValueError(f"{backup.name} is being made. Cancel its job first.")
    if backup.pinned:
        raise ValueError(f"{backup.name} is pinned. Unpin it first.")
    good = last_good()
    if good is not None and good.pk == backup.pk:
        raise ValueError(f"{backup.name} is the last good backup. Make another one, and let it pass a drill, first.")
    remove_everywhere(backup)
    with transaction.atomic():
        audit.record(
            actor=actor, action="backup.deleted", target=backup, before={"size": backup.size, "made_at": backup.made_at}
        )
        backup.delete()


def last_good() -> Backup | None:
    """The newest backup that passed a drill and of which a copy is where it should be."""
    return (
        Backup.objects.filter(good_at__isnull=False, copies__state=CopyState.STORED, verify_error="")
        # The manifest of a large installation is long, and whoever asks wants to know which one it is.
        .defer("manifest", "parts", "missing")
        .order_by("-made_at")
        .distinct()
        .first()
    )


def newest() -> Backup | None:
    """The newest backup of our own making that is whole, as far as is known, and of which a copy is where it should be."""
    return (
        Backup.objects.filter(
            state__in=[BackupState.COMPLETE, BackupState.PARTIAL], copies__state=CopyState.STORED, verify_error=""
        )
        .exclude(reason=BackupReason.FOUND)
        .order_by("-made_at")
        .distinct()
        .first()
    )


def running() -> bool:
    """Whether a backup is being made at this moment, by a process that lives."""
    return is_held(LOCK)
