"""Drills: a backup counts as good only after one was passed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from django.db import transaction
from django.utils import timezone

from ops.backup import drill as drilling
from ops.backup import spool
from ops.backup.errors import BackupDamaged, BackupError
from ops.locks import LockHeld, named_lock
from ops.logs import get_logger
from ops.models import Job, JobTrigger
from ops.models.backup import Backup, BackupDestination, BackupDrill, DrillState
from ops.redaction import redact_text
from ops.services import audit, backup_schedule
from ops.services.jobs import job_start
from ops.words import counted

log = get_logger(__name__)

LOCK = "backup.drill"
KIND = "backup.drill"
_MOST_FINDINGS = 200

Progress = Callable[[int, int, str], None]


def drill_start(
    *, backup: Backup, destination: BackupDestination | None = None, actor: str, trigger: str = JobTrigger.SYSTEM
) -> Job:
    """Have a drill made by a worker: a job of the kind ``backup.drill``, whose result is ``{"drill": id, "state", "backup": name}``."""
    return job_start(
        kind=KIND,
        title=f"Drill: restore {backup.name} into a scratch place"[:255],
        actor=actor,
        trigger=trigger,
        params={"backup": str(backup.pk), "destination": destination.pk if destination is not None else None},
        once=True,
    )


def drill_now(
    *,
    backup: Backup,
    destination: BackupDestination | None = None,
    actor: str,
    identities: Sequence[str] | None = None,
    wait: float = 60.0,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> BackupDrill:
    """Restore a backup into an empty data directory in a process of its own, try it, throw it away, and write down how it went.

    ``destination``: that copy and no other. ``identities``: keys to open it with (none given: this machine's). Passed, the backup is good;
    what the file itself failed in takes that word back. One drill runs at a time. Raises ``BackupError`` when it cannot begin (another
    one runs, no copy, no room), or when it was stopped: none of that says anything about the backup.
    """
    try:
        with named_lock(LOCK, wait=wait):
            _settle(actor)
            return _drill(backup, destination, actor, identities, progress, should_stop)
    except LockHeld as error:
        raise BackupError("Another drill is running at the moment. Try again when it has ended.") from error


def _settle(actor: str) -> None:
    """What a killed worker left: rows that still say it runs, and scratch folders. Only with ``LOCK`` held."""
    drilling.sweep()
    for row in BackupDrill.objects.filter(state=DrillState.RUNNING):
        _end(row, DrillState.FAILED, "Its process ended while it ran; that says nothing about the backup.", actor)


def _drill(
    backup: Backup,
    destination: BackupDestination | None,
    actor: str,
    identities: Sequence[str] | None,
    progress: Progress | None,
    should_stop: Callable[[], bool] | None,
) -> BackupDrill:
    from ops.backup.age import machine_identity
    from ops.backup.read import open_backup
    from ops.services.backup_copies import backup_fetch

    row = BackupDrill.objects.create(backup=backup, destination=destination, actor=actor[:255])
    began = time.monotonic()
    about_the_file = False
    try:
        try:
            path = backup_fetch(backup, destination=destination)
        except BackupDamaged as error:
            row.steps = [{"step": "fetch", "ok": False, "sentence": str(error), "seconds": _since(began)}]
            about_the_file = True
            raise
        row.steps = [{"step": "fetch", "ok": True, "sentence": _fetched(backup, destination), "seconds": _since(began)}]
        # One of the plan is tried again by itself.
        wanted = "" if actor == backup_schedule.ACTOR else "There is no room for a drill"
        drilling.check_room(path, spool.database_size(), asked_for=wanted)
        keys = list(identities) if identities else [machine_identity()]
        try:
            # A key that does not fit, or a newer version, says nothing about the file.
            open_backup(path, identities=keys).close()
        except BackupDamaged as error:
            row.steps.append({"step": "open", "ok": False, "sentence": str(error), "seconds": 0.0})
            about_the_file = True
            raise
        result = drilling.run_drill(
            path,
            identities=keys,
            progress=progress or (lambda done, total, text: None),
            should_stop=should_stop or (lambda: False),
            on_step=lambda step: _note(row, step),
        )
    except BackupError as error:
        _close(row, began, DrillState.FAILED, str(error), actor, good=False if about_the_file else None)
        if about_the_file:
            return row
        raise
    except BaseException as error:
        _close(row, began, DrillState.FAILED, f"{type(error).__name__}: {error}", actor, good=None)
        raise
    row.rows, row.findings = result.rows, result.findings[:_MOST_FINDINGS]
    state = DrillState.PASSED if result.ok else DrillState.FAILED
    _close(row, began, state, result.error, actor, good=None if result.died else result.ok)
    return row


def _fetched(backup: Backup, destination: BackupDestination | None) -> str:
    where = f"The copy at {destination.name}" if destination is not None else "The file"
    return f"{where} is there, and has the checksum that was noted when {backup.name} was made."


def _since(began: float) -> float:
    return round(time.monotonic() - began, 3)


def _note(row: BackupDrill, step: dict[str, Any]) -> None:
    row.steps = [*row.steps, step]
    BackupDrill.objects.filter(pk=row.pk).update(steps=row.steps)


def _close(row: BackupDrill, began: float, state: str, error: str, actor: str, *, good: bool | None) -> None:
    """Write down the end. ``good``: what it says about the backup; None: nothing."""
    row.seconds = _since(began)
    with transaction.atomic():
        _end(row, state, error, actor)
        backup = Backup.objects.select_for_update().filter(pk=row.backup_id).first()
        if backup is None or good is None:
            return
        if good:
            backup.good_at, backup.verified_at, backup.verify_error = row.finished_at, row.finished_at, ""
        elif row.destination_id is None:
            # The copy at one destination says nothing about the others.
            backup.good_at, backup.verify_error = None, row.error
        backup.save(update_fields=["good_at", "verified_at", "verify_error"])
    row.backup.refresh_from_db()


def _end(row: BackupDrill, state: str, error: str, actor: str) -> None:
    row.state, row.error = state, redact_text(" ".join(error.split()))[:1000]
    row.finished_at = timezone.now()
    with transaction.atomic():
        row.save(update_fields=["state", "error", "finished_at", "steps", "findings", "rows", "seconds"])
        passed = state == DrillState.PASSED
        audit.record(
            actor=actor,
            action="backup.drilled" if passed else "backup.drill_failed",
            target=row.backup,
            message=f"{counted(row.rows, 'row')} restored and tried." if passed else row.error,
            after={"drill": row.pk, "state": str(state), "seconds": round(row.seconds, 1)},
        )
    log.info("backup.drill", backup=row.backup.name, state=str(state), seconds=round(row.seconds, 1))
