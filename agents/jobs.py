"""Long actions about agents."""

from __future__ import annotations

from typing import Any

from django.db.models import Count

from agents.matrix.errors import MatrixError
from agents.models import Mapping, MappingImport, MappingImportRow
from agents.services.backends import NoHomeserver, open_homeserver
from agents.services.import_applying import import_apply
from agents.services.imports import ImportRefused
from agents.services.rebuild import rebuild_apply, rebuild_plan
from agents.services.rooms import mapping_recreate
from agents.services.sync import SyncBusy, UnknownService, sync_agents
from ops.locks import LockHeld
from ops.services.jobs import JobFailed, JobHandle, job_kind
from ops.words import counted


@job_kind("agents.sync", label="Sync agents", resumable=True)
def sync_job(job: JobHandle, *, service: str = "", force: bool = False, verify: bool = False) -> dict[str, Any]:
    """One pass of sync with progress, started by an operator."""
    try:
        report = sync_agents(
            actor=job.actor,
            trigger="job",
            service_name=service,
            force=force,
            verify=verify,
            progress=lambda done, total, text: job.progress(done, total, text),
            should_stop=job.should_stop,
        )
    except (UnknownService, SyncBusy) as error:
        raise JobFailed(str(error)) from error
    for finding in report.findings[:200]:
        job.log("warning" if finding.severity in {"info", "warning"} else "error", finding.sentence)
    if report.error:
        raise JobFailed(report.error)
    return {
        "run": report.run_id,
        "state": str(report.state),
        "applied": report.applied,
        "stopped": report.plan.stopped,
        "looked": report.looked,
    }


@job_kind("agents.rebuild", label="Rebuild mappings from the homeserver", resumable=True)
def rebuild_job(job: JobHandle, *, service: str = "") -> dict[str, Any]:
    """Looks for accounts and rooms that our rows have lost, and writes the rows. Creates nothing on the homeserver."""

    def progress(done: int, total: int, text: str) -> None:
        job.progress(done, total, text)

    try:
        plan = rebuild_plan(homeserver=open_homeserver(), service_name=service, progress=progress)
        job.log("info", f"{counted(len(plan.search.claims), 'agent')} found on the homeserver.")
        report = rebuild_apply(plan=plan, actor=job.actor, progress=progress, should_stop=job.should_stop)
    except (UnknownService, SyncBusy) as error:
        raise JobFailed(str(error)) from error
    except (MatrixError, NoHomeserver) as error:
        raise JobFailed(error.sentence) from error
    for finding in report.findings[:200]:
        job.log("warning" if finding.severity in {"info", "warning"} else "error", finding.sentence)
    return {**report.to_dict(), "doubts": [doubt.to_dict() for doubt in plan.search.doubts[:200]]}


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


@job_kind("agents.import", label="Apply an import of mappings", resumable=True)
def import_job(job: JobHandle, *, run: int) -> dict[str, Any]:
    """Row by row; what is done is not done twice, so it may be stopped, resumed and repeated."""
    row = MappingImport.objects.filter(pk=run).first()
    if row is None:
        raise JobFailed("This import no longer exists.")
    try:
        import_apply(run=row, actor=job.actor, progress=job.progress, should_stop=job.should_stop)
    except MatrixError as error:
        raise JobFailed(error.sentence) from error
    except (ImportRefused, NoHomeserver, LockHeld) as error:
        raise JobFailed(str(error)) from error
    rows = MappingImportRow.objects.filter(run=row).order_by().values_list("result").annotate(count=Count("pk"))
    results = {result: count for result, count in rows if result}
    for failed in row.rows.filter(result="failed").only("label", "key", "result_sentence")[:200]:
        job.log("warning", f"{failed.label or failed.key}: {failed.result_sentence}")
    done, failures = results.get("done", 0), results.get("failed", 0)
    sentence = f"{counted(done, 'record')} taken over" + (f", {failures:,} failed." if failures else ".")
    return {"import": row.pk, "results": results, "sentence": sentence}
