"""Restores as jobs: comparing, applying, taking back. A worker that dies has its work gone on with: what was committed is not done twice."""

from __future__ import annotations

from typing import Any

from ops.backup.errors import BackupError
from ops.job_kinds import JobFailed, JobHandle, job_kind
from ops.models.restore import Restore, RestoreState

# Seconds that a second run waits for a first one that was taken for dead.
_WAIT = 1800.0


@job_kind("restore.plan", label="Compare a backup with what is here", resumable=True)
def plan(job: JobHandle, *, restore: str) -> dict[str, Any]:
    """Nothing is changed by it."""
    from ops.services.restores import plan_now

    row = _row(restore)
    if row.state != RestoreState.PLANNING:
        return {"restore": restore, "state": row.state}
    try:
        plan_now(row, progress=job.progress)
    except BackupError as error:
        raise JobFailed(str(error)) from error
    return {"restore": restore, "changes": sum(row.plan[what] for what in ("added", "changed", "removed"))}


@job_kind("restore.apply", label="Restore a backup", resumable=True)
def apply(job: JobHandle, *, restore: str) -> dict[str, Any]:
    """Safety backup, rows, files, reconciliation."""
    from ops.services.restores import restore_apply

    row = _row(restore)
    if row.state == RestoreState.DONE:
        return {"restore": restore, "state": row.state}
    try:
        restore_apply(restore=row, actor=job.actor, progress=job.progress, wait=_WAIT if job.job.attempts > 1 else 0.0)
    except BackupError as error:
        row.refresh_from_db()
        if row.state == RestoreState.DONE:
            return {"restore": restore, "state": row.state}
        raise JobFailed(str(error)) from error
    return {"restore": restore, "state": row.state}


@job_kind("restore.undo", label="Take back a restore", resumable=True)
def undo(job: JobHandle, *, restore: str) -> dict[str, Any]:
    """Restores the safety backup."""
    from ops.services.restores import finish_undo

    row = _row(restore)
    try:
        finish_undo(row, actor=job.actor, progress=job.progress, wait=_WAIT if job.job.attempts > 1 else 0.0)
    except BackupError as error:
        raise JobFailed(str(error)) from error
    return {"restore": restore, "state": row.state}


def _row(id: str) -> Restore:
    row = Restore.objects.filter(pk=id).first()
    if row is None:
        raise JobFailed("This restore is not known any more.")
    return row
