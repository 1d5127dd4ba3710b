"""Long actions about what is said, and about people."""

from __future__ import annotations

from typing import Any

from agents.models import Agent
from chat.portagent import folder
from chat.portagent.plan import Wishes
from chat.services.portagent_import import NotPortagent, portagent_import
from ops.findings import Finding
from ops.locks import LockHeld
from ops.services.jobs import JobFailed, JobHandle, job_kind
from ops.words import counted

IMPORT = "chat.import_portagent"
_MOST_LINES = 500
_MOST_TOLD = 200


@job_kind(IMPORT, label="Import from Portagent", resumable=True)
def import_portagent_job(
    job: JobHandle,
    *,
    path: str,
    dry_run: bool = False,
    agent: int | None = None,
    orphans: int | None = None,
    match: bool = False,
    operators: bool = False,
) -> dict[str, Any]:
    """``path`` is below ``DATA_DIR/imports``. Trouble is told in the log; what could not be imported is in the file of rejects."""
    chosen = Agent.objects.filter(pk=agent).first() if agent is not None else None
    if agent is not None and chosen is None:
        raise JobFailed("The agent that was chosen does not exist any more.")
    told = 0

    def tell(finding: Finding) -> None:
        nonlocal told
        if finding.severity == "info":
            return
        told += 1
        if told <= _MOST_LINES:
            job.log("warning" if finding.severity == "warning" else "error", finding.sentence)

    try:
        report = portagent_import(
            path=folder.inside(path),
            dry_run=dry_run,
            agent=chosen,
            wishes=Wishes(match, operators, orphans),
            rejects=folder.rejects_for(str(job.job.pk)),
            on_finding=tell,
            progress=lambda done: job.progress(done, 0, counted(done, "row")),
            should_stop=job.should_stop,
            actor=job.actor,
        )
    except (NotPortagent, LockHeld) as error:
        raise JobFailed(str(error)) from error
    found = report.to_dict()
    found["findings"] = found["findings"][:_MOST_TOLD]
    found["rejects_file"] = f"imports/{folder.rejects_for(str(job.job.pk)).name}" if report.rejects_path else ""
    found["found"] = sorted(report.found.values())
    if not dry_run and not report.stopped:
        folder.forget_upload(path)
    return found
