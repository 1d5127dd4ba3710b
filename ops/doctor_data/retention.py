"""Rows that have had their time: counted, shown before they go, exported, removed, and brought back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import DatabaseError, transaction

from ops.choices import FINAL_JOB_STATES, IssueState
from ops.doctor.repairs import Change, Plan, RepairRefused, RepairWork, register_repair
from ops.doctor_data.exports import Writer, bring_files_back, keep_files, read_back
from ops.doctor_data.usage import text
from ops.models import AlertMessage, AlertState, CheckResult, Issue, Job, LogLine
from ops.registry import CheckOutcome, Fix, ServiceField, register_check
from ops.retention import Due, due, on_hold, register_retention, retention_kinds
from ops.services.audit import record
from ops.words import counted, verb

CHECK = "data.retention"
WORD = "purge"
_BATCH = 200
# Pruning runs hourly; what is a day late was forgotten.
_LATE = timedelta(days=1)

register_retention(
    "alert_messages",
    label="alerts that were sent",
    rows=lambda before: AlertMessage.objects.filter(
        created_at__lt=before, state__in=(AlertState.SENT, AlertState.SUPPRESSED, AlertState.FAILED)
    ),
    time_field="created_at",
    default_days=90,
    automatic=True,
)
register_retention(
    "issues",
    label="issues that are over",
    rows=lambda before: Issue.objects.filter(state=IssueState.RESOLVED, resolved_at__lt=before),
    time_field="resolved_at",
    default_days=180,
    automatic=True,
)
register_retention(
    "results",
    label="results of checks",
    rows=lambda before: CheckResult.objects.filter(at__lt=before),
    time_field="at",
    # The board's longest window is made from them.
    default_days=92,
    automatic=True,
)
register_retention(
    "logs",
    label="lines of the log",
    rows=lambda before: LogLine.objects.filter(at__lt=before),
    time_field="at",
    default_days=7,
    automatic=True,
)
register_retention(
    "jobs",
    label="jobs that ended",
    rows=lambda before: Job.objects.filter(state__in=FINAL_JOB_STATES, finished_at__lt=before),
    time_field="finished_at",
    default_days=30,
    automatic=True,
)


@register_check(
    CHECK,
    title="Nothing is kept longer than it should be",
    tags=("data", "disk"),
    interval=3600,
    severity="warning",
    timeout=60,
    depends_on=("db.reachable",),
    repairs=("retention.run",),
)
def retention() -> CheckOutcome:
    """Counts rows that are older than the days set for their kind. Kinds that go by themselves are given a day."""
    policy = {kind.kind: kind.days() for kind in retention_kinds()}
    if on_hold():
        return CheckOutcome(
            "pass", "Legal hold: nothing is removed for its age.", {"policy_days": policy, "hold": True}
        )
    found = [one for kind in retention_kinds() if (one := due(kind, grace=_LATE if kind.automatic else timedelta(0)))]
    evidence: dict[str, Any] = {"policy_days": policy, "due": {one.kind.kind: _facts(one) for one in found}}
    if not found:
        kept = sum(1 for days in policy.values() if not days)
        more = f" {counted(kept, 'kind is', 'kinds are')} kept for ever." if kept else ""
        return CheckOutcome("pass", f"Nothing is older than it may be.{more}", evidence)
    return CheckOutcome(
        "fail",
        f"{' '.join(_sentence(one) for one in found)} Removing them exports them first.",
        evidence,
        fix=Fix("retention.run"),
    )


def _facts(one: Due) -> dict[str, Any]:
    oldest = one.oldest.isoformat() if one.oldest else None
    return {"rows": one.count, "oldest": oldest, "days": one.kind.days(), "before": one.before.isoformat()}


def _sentence(one: Due) -> str:
    oldest = f", the oldest from {one.oldest:%Y-%m-%d}" if one.oldest else ""
    told = verb(one.count, f"1 of the {one.kind.label} is", f"{one.count:,} {one.kind.label} are")
    return f"{told} older than {counted(one.kind.days(), 'day')}{oldest}."


def plan(work: RepairWork) -> Plan:
    """How many rows of which kind, and the oldest."""
    if on_hold():
        raise RepairRefused(
            "Legal hold is on: nothing may be removed. End it in the live settings (retention.hold) first."
        )
    wanted = str(work.params.get("kind") or "")
    kinds = [kind for kind in retention_kinds() if not wanted or kind.kind == wanted]
    if not kinds:
        raise RepairRefused(
            f"No kind is called {wanted}; there are {', '.join(kind.kind for kind in retention_kinds())}."
        )
    found = [one for kind in kinds if (one := due(kind, measure=True))]
    if not found:
        return Plan("Nothing is older than it may be.")
    return Plan(
        "Would remove " + " and ".join(_words(one) for one in found) + ". They are exported first.",
        tuple(
            Change(one.kind.kind, f"rows from before {one.before:%Y-%m-%d %H:%M}", before=one.count, after=0)
            for one in found
        ),
        data={
            "before": {one.kind.kind: one.before.isoformat() for one in found},
            "rows": sum(one.count for one in found),
        },
    )


def _words(one: Due) -> str:
    oldest = f" (oldest {one.oldest:%Y-%m-%d})" if one.oldest else ""
    size = f", about {text(one.size)}" if one.size else ""
    return f"{one.count:,} {one.kind.label}{oldest}{size}"


def apply(work: RepairWork) -> dict[str, Any]:
    """Kind by kind and batch by batch: written to a file, then removed, both or neither."""
    folder = Path(settings.DATA_DIR) / "exports"
    stamp = f"{datetime.now(UTC):%Y%m%d-%H%M%S-%f}"
    counts: dict[str, int] = {}
    files: list[str] = []
    done = 0
    for kind in retention_kinds():
        before = work.plan.data["before"].get(kind.kind)
        if before is None:
            continue
        rows = kind.rows(datetime.fromisoformat(before)).order_by("pk")
        path = folder / f"retention-{stamp}-{kind.kind}.jsonl"
        files.append(str(path))
        work.remember(files=files)
        with Writer(path) as writer:
            while batch := list(rows[:_BATCH]):
                if kind.files is not None:
                    keep_files(kind.files(batch), folder)
                writer.remove(batch)
                done += len(batch)
                work.progress(done, work.plan.data["rows"], kind.label)
        for label, count in writer.counts.items():
            counts[label] = counts.get(label, 0) + count
    record(
        actor=work.actor,
        action="retention.purged",
        message=f"{counted(done, 'row')} exported and removed.",
        after={"rows": counts},
    )
    return {"rows": counts, "files": files}


def undo(work: RepairWork) -> None:
    """Bring the exported rows back, all of them or none."""
    files = [Path(name) for name in work.snapshot.get("files", [])]
    missing = [path for path in files if not path.is_file()]
    if missing:
        raise RepairRefused(f"The export {missing[0]} is gone; without it nothing can be brought back.")
    bring_files_back(files[0].parent)
    try:
        with transaction.atomic():
            back = sum(read_back(path) for path in reversed(files))
    except DatabaseError as error:
        raise RepairRefused(
            f"The rows cannot be brought back as they were ({' '.join(str(error).split())[:200]}): what they belonged to was removed "
            f"since, or some of them are there already. The export stays at {files[0].parent}."
        ) from None
    record(actor=work.actor, action="retention.restored", message=f"{counted(back, 'row')} brought back.")


register_repair(
    "retention.run",
    title="Remove what has had its time",
    repair_class="D",
    button="Show what would go",
    explain="Rows that are older than the days set for their kind are written to a file in the data directory (exports), and then removed. "
    "Undoing reads the file back.",
    plan=plan,
    apply=apply,
    undo=undo,
    fields=(ServiceField("kind", "Only this kind", "Empty: all that are due."),),
    long=True,
    confirm_word=lambda work: WORD,
)
