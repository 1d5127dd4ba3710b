"""Backups by themselves: when the next one is due, and what else has to be looked after. Beat asks every minute."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Max
from django.utils import timezone

from ops.choices import FINAL_JOB_STATES
from ops.logs import get_logger
from ops.models import Job, JobTrigger
from ops.models.backup import (
    Backup,
    BackupDestination,
    BackupDrill,
    BackupPlan,
    BackupReason,
    CopyState,
    DrillState,
)
from ops.quiet import is_quiet
from ops.services import audit
from ops.services.jobs import job_start

logger = get_logger(__name__)

ACTOR = "schedule"
# The first backup of a new installation; sooner there is nothing in it yet.
FIRST_AFTER = timedelta(hours=1)
# After a run that failed, so long until it is tried again, as long as the next regular one is not nearer.
RETRY_AFTER = timedelta(minutes=30)
VERIFY_EVERY = timedelta(days=1)
LOOK_EVERY = timedelta(hours=6)
_SHOWN = ("enabled", "every_hours", "at", "timezone", "jitter_minutes", "contents", "drill_every_days")


def plan() -> BackupPlan:
    """The plan: one row, made when it is not there."""
    row = BackupPlan.objects.order_by("pk").first()
    if row is None:
        row, _ = BackupPlan.objects.get_or_create(pk=1)
    return row


def next_run(row: BackupPlan, after: datetime, *, spread: float = 0.0) -> datetime:
    """The first run after a time. ``spread`` from 0 to 1 says how much of the jitter is added.

    Plans of whole days with a time of day run at that time in their time zone: the time is the wall clock's, so that it stays the same over
    a change of the clocks. One that the clocks jump over comes as much later as they jump; one that they show twice counts once.
    """
    jitter = timedelta(minutes=row.jitter_minutes) * min(1.0, max(0.0, spread))
    if row.at is None or row.every_hours % 24:
        return after + timedelta(hours=row.every_hours) + jitter
    zone = ZoneInfo(row.timezone)
    days = row.every_hours // 24
    day = after.astimezone(zone).date()
    candidate = datetime.combine(day, row.at, tzinfo=zone).astimezone(UTC)
    if candidate <= after:
        candidate = datetime.combine(day + timedelta(days=days), row.at, tzinfo=zone).astimezone(UTC)
    return candidate + jitter


def plan_save(
    *,
    actor: str,
    enabled: bool = True,
    every_hours: int = 24,
    at: time | None = None,
    timezone: str = "UTC",
    jitter_minutes: int = 30,
    contents: Sequence[str] = (),
    drill_every_days: int = 7,
) -> BackupPlan:
    """Change when backups are made by themselves. Raises ``ValidationError``, one entry a field."""
    new: dict[str, Any] = {
        "enabled": enabled,
        "every_hours": every_hours,
        "at": at,
        "timezone": timezone.strip() or "UTC",
        "jitter_minutes": jitter_minutes,
        "contents": sorted(set(contents)),
        "drill_every_days": drill_every_days,
    }
    _validate(new)
    with transaction.atomic():
        row = BackupPlan.objects.select_for_update().get(pk=plan().pk)
        before = {key: getattr(row, key) for key in _SHOWN}
        if before == new:
            return row
        for key, value in new.items():
            setattr(row, key, value)
        timing = ("every_hours", "at", "timezone", "jitter_minutes", "enabled")
        if any(before[key] != new[key] for key in timing):
            row.next_at = _next_from_now(row) if row.enabled else None
        row.save()
        old, after = audit.changes(before, new)
        audit.record(actor=actor, action="backupplan.changed", target=row, before=old, after=after)
    return row


def _validate(new: dict[str, Any]) -> None:
    from ops.services.backups import check_optional

    problems: dict[str, list[str]] = {}
    for key, low, high, text in (
        ("every_hours", 1, 24 * 31, "Give hours from 1 to 744."),
        ("jitter_minutes", 0, 24 * 60, "Give minutes from 0 to 1,440."),
        ("drill_every_days", 1, 365, "Give days from 1 to 365."),
    ):
        value = new[key]
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            problems[key] = [text]
    try:
        ZoneInfo(new["timezone"])
    except (ZoneInfoNotFoundError, ValueError, OSError):
        problems["timezone"] = [f"There is no time zone {new['timezone']!r}; write it like Europe/Berlin."]
    if new["at"] is not None and "every_hours" not in problems and new["every_hours"] % 24:
        problems["at"] = ["A time of day fits plans of whole days only (24, 48, …)."]
    try:
        check_optional(new["contents"])
    except ValueError as error:
        problems["contents"] = [str(error)]
    if problems:
        raise ValidationError(problems)


def _next_from_now(row: BackupPlan) -> datetime:
    """For a plan that is new or changed: counted from the last complete one, in the future."""
    now = timezone.now()
    if row.at is not None and not row.every_hours % 24:
        return next_run(row, now, spread=random.random())
    last = row.last_complete_at
    return max(now, next_run(row, last)) if last is not None else now + FIRST_AFTER


def tick(*, now: datetime | None = None, spread: float | None = None) -> dict[str, int]:
    """What is due: the backup, copies that did not arrive, the daily reading, the drill, a look at the destinations. Returns what was begun.

    Several beats at once begin one of each: the time of the next run is moved with a conditional write.
    """
    from ops.services import restore_planning
    from ops.services.backups import settle_dead

    if is_quiet():
        # Rows are being put back: what is due now is due in a moment as well.
        return {}
    now = now or timezone.now()
    spread = random.random() if spread is None else spread
    row = plan()
    steps: dict[str, Callable[[], int]] = {
        "settled": lambda: settle_dead(actor=ACTOR) + restore_planning.settle_dead(),
        "backup": lambda: _backup(row, now, spread),
        "copies": lambda: _copies(now),
        "verify": lambda: _verify(now),
        "drill": lambda: _drill(row, now),
        "look": lambda: _look(now),
    }
    begun = {}
    for name, step in steps.items():
        try:
            begun[name] = step()
        except Exception:
            # The others must not wait for it; the check of backups sees what does not happen.
            logger.exception("backup_step_failed", step=name)
    return {name: count for name, count in begun.items() if count}


def _backup(row: BackupPlan, now: datetime, spread: float) -> int:
    from ops.services.backups import backup_start

    if not row.enabled:
        return 0
    if row.next_at is None:
        at_time = row.at is not None and not row.every_hours % 24
        first = next_run(row, now, spread=spread) if at_time else now + FIRST_AFTER
        BackupPlan.objects.filter(pk=row.pk, next_at=None).update(next_at=first)
        return 0
    if row.next_at > now:
        return 0
    # Of runs that were missed one is made up for: the next one is counted from now.
    with transaction.atomic():
        taken = BackupPlan.objects.filter(pk=row.pk, next_at=row.next_at).update(
            next_at=next_run(row, now, spread=spread), last_attempt_at=now
        )
        if taken:
            backup_start(actor=ACTOR, reason=BackupReason.SCHEDULE, optional=row.contents, trigger=JobTrigger.BEAT)
    return int(bool(taken))


def after_run(*, complete: bool) -> None:
    """Written at the end of a scheduled run. One that failed is tried again soon."""
    row, now = plan(), timezone.now()
    if complete:
        BackupPlan.objects.filter(pk=row.pk).update(last_complete_at=now)
    elif row.next_at is None or row.next_at > now + RETRY_AFTER:
        BackupPlan.objects.filter(pk=row.pk, next_at=row.next_at).update(next_at=now + RETRY_AFTER)


def _open_job(kind: str) -> bool:
    return Job.objects.filter(kind=kind).exclude(state__in=FINAL_JOB_STATES).exists()


def _copies(now: datetime) -> int:
    from ops.services.backup_copies import due_copies

    due = due_copies(now)
    if not due or _open_job("backup.copy") or _open_job("backup.create"):
        return 0
    job_start(kind="backup.copy", title="Bring copies of backups to their destinations", actor=ACTOR, once=True)
    return len(due)


def _verify(now: datetime) -> int:
    """The newest one is read again once a day, and a failed reading is no reason to read it every minute."""
    from ops.services.backups import newest

    backup = newest()
    if backup is None or _open_job("backup.verify") or _open_job("backup.create"):
        return 0
    asked = Job.objects.filter(kind="backup.verify").aggregate(at=Max("created_at"))["at"]
    last = max(filter(None, (backup.verified_at, asked, backup.finished_at)), default=None)
    if last is not None and last > now - VERIFY_EVERY:
        return 0
    job_start(
        kind="backup.verify",
        title=f"Read {backup.name} again",
        actor=ACTOR,
        params={"backup": str(backup.pk)},
        once=True,
    )
    return 1


def drill_due(row: BackupPlan, now: datetime) -> tuple[Backup, BackupDestination | None] | None:
    """What should be drilled now: the newest backup, when the last drill was long ago or there never was one.

    Where several destinations have it, each has its turn, so that copies elsewhere are known to restore as well.
    """
    from ops.services.backups import newest

    last = BackupDrill.objects.filter(state=DrillState.PASSED).aggregate(at=Max("started_at"))["at"]
    if last is not None and last > now - timedelta(days=row.drill_every_days):
        return None
    tried = BackupDrill.objects.aggregate(at=Max("started_at"))["at"]
    # One that failed is tried again after some hours: what was wrong may be mended, and a newer backup may be there.
    if tried is not None and tried > now - LOOK_EVERY:
        return None
    backup = newest()
    if backup is None:
        return None
    having = list(BackupDestination.objects.filter(enabled=True, copies__backup=backup, copies__state=CopyState.STORED))
    if len(having) < 2:
        return backup, None
    turns = {
        one["destination"]: one["at"]
        for one in BackupDrill.objects.exclude(destination=None).values("destination").annotate(at=Max("started_at"))
    }
    never = datetime.min.replace(tzinfo=UTC)
    return backup, min(having, key=lambda place: (turns.get(place.pk, never), place.pk))


def drill_if_due() -> None:
    """At the end of a run: a first backup is good within minutes, not with the next beat."""
    row = plan()
    if row.enabled and not _open_job("backup.drill"):
        _begin_drill(row, timezone.now())


def _drill(row: BackupPlan, now: datetime) -> int:
    if not row.enabled or _open_job("backup.drill") or _open_job("backup.create"):
        return 0
    return _begin_drill(row, now)


def _begin_drill(row: BackupPlan, now: datetime) -> int:
    due = drill_due(row, now)
    if due is None:
        return 0
    from ops.services.drills import drill_start

    backup, destination = due
    drill_start(backup=backup, destination=destination, actor=ACTOR, trigger=JobTrigger.BEAT)
    BackupPlan.objects.filter(pk=row.pk).update(last_drill_at=now)
    return 1


def _look(now: datetime) -> int:
    """Every few hours: is everything still where it was put?"""
    if not BackupDestination.objects.filter(enabled=True).exists() or _open_job("backup.look"):
        return 0
    last = Job.objects.filter(kind="backup.look").aggregate(at=Max("created_at"))["at"]
    if last is not None and last > now - LOOK_EVERY:
        return 0
    job_start(kind="backup.look", title="Look what lies at the destinations", actor=ACTOR, once=True)
    return 1


def overdue_after(row: BackupPlan) -> timedelta:
    """How old the newest backup may be before somebody is told: a period with its jitter, and time for making one; at least a day."""
    period = timedelta(hours=row.every_hours) + timedelta(minutes=row.jitter_minutes)
    return max(timedelta(days=1), period) + timedelta(hours=2)
