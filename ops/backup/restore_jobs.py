"""Restores as jobs: comparing, applying, taking back. A worker that dies has its work gone on with: what was committed is not done twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ops.backup.errors import BackupError
from ops.job_kinds import JobFailed, JobHandle, JobStopped, job_kind
from ops.models.restore import UNCHANGED_STATES, Restore, RestoreState

# Seconds that a second run waits for a first one that was taken for dead.
_WAIT = 1800.0
_STOPPING = "It stops as long as no row was replaced; then nothing is changed. Afterwards it goes on to its end, and you can take the restore back."


def _watched(job: JobHandle, row: Restore) -> Callable[[int, int, str], None]:
    """The job's progress, which obeys a wish to stop until rows are committed."""

    from ops.services.restore_settling import CANCELLED

    def progress(done: int, total: int, text: str) -> None:
        if row.state in UNCHANGED_STATES and job.should_stop():
            raise JobStopped(CANCELLED)
        job.progress(done, total, text)

    return progress


@job_kind(
    "restore.plan",
    label="Compare a backup with what is here",
    resumable=True,
    stopping="It stops after the step it is in. Comparing changes nothing.",
)
def plan(job: JobHandle, *, restore: str) -> dict[str, Any]:
    """Nothing is changed by it."""
    from ops.services.restores import plan_now

    row = _row(restore)
    if row.state != RestoreState.PLANNING:
        return {"restore": restore, "state": row.state}
    try:
        plan_now(row, progress=_watched(job, row))
    except BackupError as error:
        raise JobFailed(str(error)) from error
    return {"restore": restore, "changes": sum(row.plan[what] for what in ("added", "changed", "removed"))}


@job_kind("restore.apply", label="Restore a backup", resumable=True, stopping=_STOPPING)
def apply(job: JobHandle, *, restore: str) -> dict[str, Any]:
    """Safety backup, rows, files, reconciliation."""
    from ops.services.restores import restore_apply

    row = _row(restore)
    if row.state == RestoreState.DONE:
        return {"restore": restore, "state": row.state}
    try:
        wait = _WAIT if job.job.attempts > 1 else 0.0
        restore_apply(restore=row, actor=job.actor, progress=_watched(job, row), wait=wait)
    except BackupError as error:
        row.refresh_from_db()
        if row.state == RestoreState.DONE:
            return {"restore": restore, "state": row.state}
        raise JobFailed(str(error)) from error
    return {"restore": restore, "state": row.state}


@job_kind("restore.undo", label="Take back a restore", resumable=True, stopping=_STOPPING)
def undo(job: JobHandle, *, restore: str) -> dict[str, Any]:
    """Restores the safety backup."""
    from ops.services.restores import finish_undo

    row = _row(restore)
    try:
        wait = _WAIT if job.job.attempts > 1 else 0.0
        finish_undo(row, actor=job.actor, progress=_watched(job, row), wait=wait)
    except BackupError as error:
        raise JobFailed(str(error)) from error
    return {"restore": restore, "state": row.state}


def _row(id: str) -> Restore:
    row = Restore.objects.filter(pk=id).first()
    if row is None:
        raise JobFailed("This restore is not known any more.")
    return row
