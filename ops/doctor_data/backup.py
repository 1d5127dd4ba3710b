"""Is there a backup that is young enough, whole, known to restore, where it should be, and can somebody open it?"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Min
from django.utils import timezone

from ops.choices import JobState
from ops.doctor_data.usage import text
from ops.html import relative
from ops.models import Job
from ops.models.backup import (
    Backup,
    BackupCopy,
    BackupDestination,
    BackupDrill,
    BackupPlan,
    BackupReason,
    BackupState,
    CopyState,
)
from ops.registry import CheckOutcome, Fix, register_check
from ops.services import backup_keys, backup_schedule, backups
from ops.words import counted

STALE, COPIES, KEYS = "backup.stale", "backup.copies", "backup.keys"
# A new installation may be without a recovery key for so long; whoever tries it out needs none.
KEYLESS = timedelta(days=7)
# Copies of a new backup may be on their way for so long.
ON_ITS_WAY = timedelta(hours=1)
_DRILL_GRACE = timedelta(days=2)
# Below this a halving says nothing.
_WORTH = 256 * 1024


@dataclass(slots=True)
class State:
    """What is wrong (``problems``), what to look at (``doubts``), and what supports it."""

    problems: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    well: str = ""
    evidence: dict[str, Any] = field(default_factory=dict)


def look(now: datetime | None = None) -> State:
    """How backups stand. Reads rows only, a few of them: pages may ask as well."""
    now = now or timezone.now()
    plan = backup_schedule.plan()
    newest, good = backups.newest(), backups.last_good()
    limit = backup_schedule.overdue_after(plan)
    state = State(
        evidence={
            "planned": plan.enabled,
            "next_at": plan.next_at.isoformat() if plan.next_at else None,
            "limit_hours": round(limit.total_seconds() / 3600, 1),
            "newest": newest.name if newest else None,
            "age_hours": round((now - newest.made_at).total_seconds() / 3600, 1) if newest else None,
            "good": good.name if good else None,
            "good_age_hours": round((now - good.made_at).total_seconds() / 3600, 1) if good else None,
        }
    )
    why = _last_failure(newest)
    if newest is None:
        _none_yet(state, plan, now, why)
        return state
    age = now - newest.made_at
    if age > limit:
        planned = "" if plan.enabled else " None are made by themselves: the plan is switched off."
        state.problems.append(
            f"The newest backup was made {relative(newest.made_at, now)}; what was written since is in none.{why}{planned}"
        )
    _damage(state, newest)
    _drills(state, newest, good, plan, now)
    _contents(state, newest)
    when = f"{relative(good.made_at, now)} ({good.name})" if good else "not drilled yet"
    state.well = f"The newest backup was made {relative(newest.made_at, now)}; the last good one {when}."
    return state


def _last_failure(newest: Backup | None) -> str:
    """Why the last try failed, when it came after the newest one: of a run, or of a job that did not come so far."""
    tries = [
        (row.made_at, row.error) for row in Backup.objects.filter(state=BackupState.FAILED).order_by("-made_at")[:1]
    ]
    jobs = Job.objects.filter(kind="backup.create", state=JobState.FAILED, finished_at__isnull=False)
    tries += [(row.finished_at, row.error) for row in jobs.order_by("-finished_at")[:1] if row.finished_at is not None]
    later = [one for one in tries if one[1] and (newest is None or one[0] > newest.made_at)]
    return f" The last try failed: {max(later)[1]}" if later else ""


def _none_yet(state: State, plan: BackupPlan, now: datetime, why: str) -> None:
    lost = BackupCopy.objects.filter(state=CopyState.MISSING).exists()
    if lost:
        state.problems.append(
            "No copy of any backup is where it was put. If the data is lost now, it is lost for good."
        )
    elif not plan.enabled:
        state.problems.append(
            "There is no backup, and none are made by themselves. If the data is lost now, it is lost for good."
        )
    elif why or (plan.next_at is not None and plan.next_at < now - timedelta(hours=1)):
        state.problems.append(f"There is no backup yet. If the data is lost now, it is lost for good.{why}")
    elif plan.next_at is not None:
        state.well = f"The first backup is made {relative(plan.next_at, now)}."
    else:
        state.well = "The first backup is planned as soon as a worker runs."


def _damage(state: State, newest: Backup) -> None:
    damaged = (
        Backup.objects.filter(made_at__gt=newest.made_at).exclude(verify_error="").exclude(reason=BackupReason.FOUND)
    )
    if worse := damaged.first():
        state.problems.append(f"A newer backup ({worse.name}) is damaged: {worse.verify_error}")


def _drills(state: State, newest: Backup, good: Backup | None, plan: BackupPlan, now: datetime) -> None:
    """Whether anybody knows that it restores."""
    patience = timedelta(days=plan.drill_every_days) + _DRILL_GRACE
    last = BackupDrill.objects.order_by("-id").first()
    said = f" The last drill failed: {last.error}" if last is not None and last.state == "failed" and last.error else ""
    if good is None:
        stored = Backup.objects.filter(copies__state=CopyState.STORED).exclude(reason=BackupReason.FOUND)
        first = stored.aggregate(at=Min("made_at"))["at"]
        if said or (first is not None and now - first > _DRILL_GRACE):
            state.problems.append(f"No backup is known to restore: none has passed a drill.{said}")
    elif now - good.made_at > patience + timedelta(hours=plan.every_hours):
        state.problems.append(
            f"The last backup that is known to restore was made {relative(good.made_at, now)}; later ones passed no drill.{said}"
        )


def _contents(state: State, newest: Backup) -> None:
    if newest.missing:
        part, reason = next(iter(newest.missing.items()))
        more = f" So it is with {counted(len(newest.missing) - 1, 'other part')}." if len(newest.missing) > 1 else ""
        state.doubts.append(f"In the newest backup {part} is missing: {reason.rstrip('.')}.{more}")
        state.evidence["missing"] = newest.missing
    before = (
        Backup.objects.filter(
            made_at__lt=newest.made_at, state__in=[BackupState.COMPLETE, BackupState.PARTIAL], size__gt=_WORTH
        )
        .exclude(reason=BackupReason.FOUND)
        .order_by("-made_at")
        .first()
    )
    if before is not None and newest.size < before.size / 2 and set(before.parts) == set(newest.parts):
        state.doubts.append(
            f"The newest backup has {text(newest.size)}, the one before had {text(before.size)}. If nobody removed that much, something is missing."
        )
        state.evidence |= {"size": newest.size, "size_before": before.size}


@register_check(
    STALE,
    title="There is a fresh backup that is known to restore",
    tags=("backup", "data"),
    interval=300,
    severity="critical",
    depends_on=("db.reachable",),
    repairs=("backup.create",),
)
def stale() -> CheckOutcome:
    """Red: the newest is too old, damaged, or none passed a drill lately. Amber: a part is missing, or it has shrunk by half."""
    state = look()
    if state.problems:
        return CheckOutcome("fail", " ".join(state.problems), state.evidence, fix=Fix("backup.create"))
    if state.doubts:
        return CheckOutcome("warn", " ".join(state.doubts), state.evidence, fix=Fix("backup.create"))
    return CheckOutcome("pass", state.well, state.evidence)


def absent(now: datetime | None = None) -> list[BackupCopy]:
    """Copies of the newest backup and the last good one that are not where they should be by now."""
    now = now or timezone.now()
    wanted = {row.pk for row in (backups.newest(), backups.last_good()) if row is not None}
    # One whose every copy is gone is no longer the newest that there is, and is what has to be told of.
    latest = (
        Backup.objects.filter(state__in=[BackupState.COMPLETE, BackupState.PARTIAL])
        .exclude(reason=BackupReason.FOUND)
        .order_by("-made_at")
        .first()
    )
    if latest is not None:
        wanted.add(latest.pk)
    rows = BackupCopy.objects.filter(backup__in=wanted, destination__enabled=True).select_related(
        "backup", "destination"
    )
    late = now - ON_ITS_WAY
    return [
        copy
        for copy in rows
        if copy.state == CopyState.MISSING
        or (
            copy.state in (CopyState.FAILED, CopyState.WAITING)
            and (copy.attempts > 1 or (copy.backup.finished_at or copy.backup.made_at) < late)
        )
    ]


@register_check(
    COPIES,
    title="Copies of backups lie at every destination",
    tags=("backup", "data"),
    interval=300,
    severity="warning",
    depends_on=("db.reachable",),
    repairs=("backup.copy",),
)
def copies() -> CheckOutcome:
    """Each enabled destination should have the newest backup and the last good one."""
    rows = BackupDestination.objects.filter(enabled=True)
    found = absent()
    evidence: dict[str, Any] = {
        "destinations": {row.name: row.last_error or "well" for row in rows},
        "absent": [
            {"backup": one.backup.name, "destination": one.destination.name, "state": one.state, "error": one.error}
            for one in found[:50]
        ],
    }
    if not found:
        return CheckOutcome(
            "pass", f"{counted(len(rows), 'destination has', 'destinations have')} what they should.", evidence
        )
    first = found[0]
    more = f" So it is with {counted(len(found) - 1, 'other copy', 'other copies')}." if len(found) > 1 else ""
    sentence = f"{first.destination.name} does not have the backup {first.backup.name}: {(first.error or 'it has not arrived').rstrip('.')}.{more}"
    return CheckOutcome("fail", sentence, evidence, fix=Fix("backup.copy"))


@register_check(
    KEYS,
    title="Somebody can open the backups without this machine",
    tags=("backup", "data"),
    interval=3600,
    severity="warning",
    depends_on=("db.reachable",),
)
def keys() -> CheckOutcome:
    """Backups that only this machine can open are lost with it. New installations are given a week."""
    usable = backup_keys.usable_keys()
    newest = backups.newest()
    known = {key.fingerprint for key in usable}
    evidence: dict[str, Any] = {
        "keys": len(usable),
        "newest": newest.name if newest else None,
        "newest_opened_by": sorted(known & set(newest.recipients)) if newest else [],
    }
    if usable:
        return CheckOutcome(
            "pass",
            f"{counted(len(usable), 'recovery key opens', 'recovery keys open')} what is made from now on.",
            evidence,
        )
    first = Backup.objects.aggregate(at=Min("made_at"))["at"]
    if first is None or timezone.now() - first < KEYLESS:
        return CheckOutcome("pass", f"{backup_keys.warning()} There is time for that in the first week.", evidence)
    return CheckOutcome("warn", backup_keys.warning(), evidence)
