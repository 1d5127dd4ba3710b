"""Many repairs in one job: each is planned and applied as if somebody had pressed its own button."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ops.choices import RepairClass, RepairRunState
from ops.doctor.queries import Offer, offer_of
from ops.doctor.repairs import RepairRefused
from ops.job_kinds import JobHandle, job_kind
from ops.locks import LockHeld
from ops.models import Issue, Job, JobTrigger
from ops.services.jobs import job_start
from ops.services.repairs import repair_start
from ops.words import counted

MOST_AT_ONCE = 50
_JOB = "ops.repair_many"
_GOOD = (RepairRunState.SUCCEEDED, RepairRunState.UNNEEDED)


def batch_offer(issue: Issue) -> Offer | None:
    """The repair of an issue that may be one of many: of class A or C, and asking nothing that the issue does not say."""
    offer = offer_of(issue) if issue.is_open else None
    if offer is None or offer.repair.repair_class not in (RepairClass.AUTOMATIC, RepairClass.CONFIRM):
        return None
    asked = [field for field in offer.repair.fields if field.required and field.default in ("", None)]
    return None if any(not offer.params.get(field.name) for field in asked) else offer


def repair_many(*, issues: Sequence[Issue], actor: str, trigger: str = JobTrigger.ADMIN) -> Job:
    """Start a job that runs the proposed repairs of these issues, the first of each place only.

    Raises ``RepairRefused`` when none of them can be one of many, or when there are too many.
    """
    chosen = [issue.pk for issue in issues if batch_offer(issue) is not None]
    if not chosen:
        raise RepairRefused("None of these issues has a repair that can be run together with others.")
    if len(chosen) > MOST_AT_ONCE:
        raise RepairRefused(f"At most {MOST_AT_ONCE} at once, not {len(chosen)}.")
    return job_start(
        kind=_JOB,
        title=f"Repair {counted(len(chosen), 'issue')}",
        actor=actor,
        trigger=trigger,
        params={"issues": chosen},
    )


@job_kind(_JOB, label="Repairs")
def _run(job: JobHandle, *, issues: list[int]) -> dict[str, Any]:
    done: set[tuple[str, str]] = set()
    runs: list[dict[str, str]] = []
    counts = {"mended": 0, "failed": 0, "skipped": 0}
    for number, pk in enumerate(issues, start=1):
        if job.should_stop():
            break
        issue = Issue.objects.filter(pk=pk).first()
        offer = batch_offer(issue) if issue is not None else None
        place = (offer.repair.id, offer.target) if offer is not None else ("", "")
        if issue is None or offer is None or place in done:
            counts["skipped"] += 1
            job.log("info", f"Issue {pk}: nothing left to do.")
            continue
        done.add(place)
        job.progress(number - 1, len(issues), offer.repair.title)
        try:
            # Within this job already: a long repair must not start another one and be waited for by nobody.
            run = repair_start(
                repair_id=offer.repair.id,
                target=offer.target,
                params=offer.params,
                actor=job.actor,
                trigger=JobTrigger.COMMAND,
                issue=issue,
            )
        except (RepairRefused, LockHeld) as error:
            counts["failed"] += 1
            job.log("warning", f"{offer.repair.title}: {error}")
            continue
        good = run.state in _GOOD
        counts["mended" if good else "failed"] += 1
        runs.append({"id": str(run.pk), "title": offer.repair.title, "state": str(run.state)})
        word = RepairRunState(run.state).label
        job.log("info" if good else "error", f"{offer.repair.title}: {word}. {run.error or run.sentence}")
    job.progress(len(issues), len(issues), "Done")
    parts = [f"{counts['mended']} mended"] + [
        f"{counts[word]} {word}" for word in ("failed", "skipped") if counts[word]
    ]
    return {"sentence": f"{', '.join(parts)}.", "repair_runs": runs, **counts}
