"""Long actions about agents."""

from __future__ import annotations

from typing import Any

from agents.services.sync import SyncBusy, UnknownService, sync_agents
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
