"""The long work of backups as jobs: making, copying, reading again, looking at destinations, removing."""

from __future__ import annotations

from typing import Any

from ops.backup.errors import BackupError, BackupStopped
from ops.job_kinds import JobFailed, JobHandle, JobStopped, job_kind
from ops.models.backup import Backup, BackupDestination, BackupReason, BackupState, CopyState
from ops.words import counted


@job_kind("backup.create", label="Make a backup")
def create(
    job: JobHandle, *, reason: str = "manual", note: str = "", optional: list[str] | None = None, drill: bool = False
) -> dict[str, Any]:
    """Make one, bring copies to the destinations, and remove what the rules keep no longer."""
    from ops.services.backup_pruning import prune
    from ops.services.backup_schedule import after_run, drill_if_due
    from ops.services.backups import backup_now

    scheduled = reason == BackupReason.SCHEDULE
    try:
        backup = backup_now(
            actor=job.actor,
            reason=reason,
            note=note,
            optional=optional or (),
            job=job.job,
            progress=job.progress,
            should_stop=job.should_stop,
        )
    except BackupStopped as error:
        raise JobStopped(str(error)) from error
    except BackupError as error:
        if scheduled:
            after_run(complete=False)
        raise JobFailed(str(error)) from error
    except BaseException:
        if scheduled:
            after_run(complete=False)
        raise
    if scheduled:
        after_run(complete=True)
    backup = Backup.objects.prefetch_related("copies__destination").get(pk=backup.pk)
    for copy in backup.copies.all():
        if copy.error:
            job.log("error", f"{copy.destination.name}: {copy.error}")
    for part, why in backup.missing.items():
        job.log("warning", f"{part} is not in it: {why}")
    pruned = prune(dry_run=False, actor=job.actor)
    if pruned.removed:
        job.log("info", f"{counted(pruned.removed, 'older copy was', 'older copies were')} removed.")
    result: dict[str, Any] = {
        "backup": str(backup.pk),
        "name": backup.name,
        "state": backup.state,
        "size": backup.size,
        "sentence": _sentence(backup),
    }
    if drill:
        from ops.services.drills import drill_start

        result["drill_job"] = str(drill_start(backup=backup, actor=job.actor).pk)
    elif scheduled:
        drill_if_due()
    return result


def _sentence(backup: Backup) -> str:
    """What came of it, for whoever waited."""
    there = [copy.destination.name for copy in backup.copies.all() if copy.state == CopyState.STORED]
    gone = [copy.destination.name for copy in backup.copies.all() if copy.error]
    said = f"The backup is made. Copies lie at: {', '.join(there)}." if there else "The backup is made."
    if gone:
        said += f" It could not be brought to {', '.join(gone)}; that is tried again by itself."
    if backup.missing:
        said += f" {counted(len(backup.missing), 'part is', 'parts are')} not in it; its page says why."
    return said


@job_kind("backup.copy", label="Bring copies of backups to their destinations", resumable=True)
def copy(job: JobHandle, *, backup: str = "") -> dict[str, Any]:
    """Those that wait or failed: of one backup at once, of all as far as they are due."""
    from django.utils import timezone

    from ops.services.backup_copies import copies_store, due_copies

    if backup:
        wanted = [_backup(backup)]
    else:
        wanted = list({one.backup_id: one.backup for one in due_copies(timezone.now())}.values())
    missing = 0
    for number, one in enumerate(wanted):
        if job.should_stop():
            break
        job.progress(number, len(wanted), one.name)
        missing += not copies_store(backup=one, actor=job.actor)
    if backup and missing:
        first = _backup(backup).copies.exclude(error="").first()
        raise JobFailed(
            first.error if first is not None else "Another backup is being brought there; it is tried again."
        )
    return {"backups": len(wanted), "not_everywhere": missing}


@job_kind("backup.verify", label="Read a backup again", resumable=True)
def verify(job: JobHandle, *, backup: str, destination: int | None = None) -> dict[str, Any]:
    """Every checksum in it, to the end."""
    from ops.services.backups import backup_verify

    row = _backup(backup)
    place = BackupDestination.objects.filter(pk=destination).first() if destination is not None else None
    try:
        findings = backup_verify(backup=row, destination=place, actor=job.actor, progress=job.progress)
    except BackupError as error:
        raise JobFailed(str(error)) from error
    if row.verify_error:
        raise JobFailed(row.verify_error)
    return {"backup": row.name, "findings": findings}


@job_kind("backup.look", label="Look what lies at the destinations", resumable=True)
def look(job: JobHandle) -> dict[str, Any]:
    """Files that nobody knew, copies that are gone."""
    from ops.services.backup_looking import backup_sync_list

    findings = backup_sync_list(actor=job.actor)
    for finding in findings:
        job.log(finding.severity if finding.severity in ("info", "warning", "error") else "error", finding.sentence)
    return {"findings": [finding.to_dict() for finding in findings]}


@job_kind("backup.prune", label="Remove backups that need not be kept", resumable=True)
def prune_job(job: JobHandle) -> dict[str, Any]:
    """By the rules of each destination."""
    from ops.services.backup_pruning import prune

    return prune(dry_run=False, actor=job.actor).to_dict()


def _backup(id: str) -> Backup:
    row = Backup.objects.filter(pk=id).first()
    if row is None:
        raise JobFailed("This backup is not known any more.")
    if row.state == BackupState.RUNNING:
        raise JobFailed(f"{row.name} is being made.")
    return row
