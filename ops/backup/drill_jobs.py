"""A drill as a job."""

from __future__ import annotations

from typing import Any

from ops.backup.errors import BackupError
from ops.job_kinds import JobFailed, JobHandle, JobStopped, job_kind
from ops.models.backup import Backup, BackupDestination, BackupState, DrillState


@job_kind("backup.drill", label="Restore a backup into a scratch place", resumable=True)
def drill(job: JobHandle, *, backup: str, destination: int | None = None) -> dict[str, Any]:
    """Begun anew when its worker died: it leaves nothing behind."""
    from ops.backup.drill import DrillStopped
    from ops.services.drills import drill_now

    row = Backup.objects.filter(pk=backup).first()
    if row is None:
        raise JobFailed("This backup is not known any more.")
    if row.state in (BackupState.RUNNING, BackupState.FAILED):
        raise JobFailed(f"{row.name} is not complete, so there is nothing to restore.")
    place = BackupDestination.objects.filter(pk=destination).first() if destination is not None else None
    if destination is not None and place is None:
        raise JobFailed("This destination is not known any more.")
    try:
        done = drill_now(
            backup=row, destination=place, actor=job.actor, progress=job.progress, should_stop=job.should_stop
        )
    except DrillStopped as error:
        raise JobStopped(str(error)) from error
    except BackupError as error:
        raise JobFailed(str(error)) from error
    for step in done.steps:
        job.log("info" if step["ok"] else "error", f"{step['step']}: {step['sentence']}")
    if done.state != DrillState.PASSED:
        raise JobFailed(done.error or "The drill failed.")
    return {"drill": done.pk, "state": str(done.state), "backup": row.name, "rows": done.rows}
