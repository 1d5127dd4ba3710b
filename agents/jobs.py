"""Long actions about agents."""

from __future__ import annotations

from typing import Any

from agents.matrix.errors import MatrixError
from agents.models import Mapping
from agents.services.rooms import mapping_recreate
from agents.services.sync import SyncBusy, UnknownService, sync_agents
from ops.locks import LockHeld
from ops.services.jobs import JobFailed, JobHandle, job_kind


@job_kind("agents.sync", label="Sync agents", resumable=True)
def sync_job(job: JobHandle, *, service: str = "", force: bool = False) -> dict[str, Any]:
    """One pass of sync with progress, started by an operator."""
    try:
        report = sync_agents(
            actor=job.actor,
            trigger="job",
            service_name=service,
            force=force,
            progress=lambda done, total, text: job.progress(done, total, text),
            should_stop=job.should_stop,
        )
    except (UnknownService, SyncBusy) as error:
        raise JobFailed(str(error)) from error
    for finding in report.findings[:200]:
        job.log("warning" if finding.severity in {"info", "warning"} else "error", finding.sentence)
    if report.error:
        raise JobFailed(report.error)
    return {"run": report.run_id, "state": str(report.state), "applied": report.applied, "stopped": report.plan.stopped}


@job_kind("agents.recreate", label="Put an account and a room back on the homeserver", resumable=True)
def recreate_job(job: JobHandle, *, mapping: int) -> dict[str, Any]:
    """Account, profile, room and place in the space of one agent, made again where they are missing."""
    row = Mapping.objects.select_related("agent").filter(pk=mapping).first()
    if row is None:
        raise JobFailed("This mapping no longer exists.")
    job.progress(0, 1, f"Asking the homeserver about {row.agent}")
    try:
        done = mapping_recreate(mapping=row, actor=job.actor)
    except MatrixError as error:
        raise JobFailed(error.sentence) from error
    except LockHeld as error:
        raise JobFailed(str(error)) from error
    job.progress(1, 1, done.sentence)
    job.log("info", done.sentence)
    return done.to_dict()
