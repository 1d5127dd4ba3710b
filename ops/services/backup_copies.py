"""Copies of backups at destinations: brought there and removed. Each destination has its own result."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from django.db import models, transaction
from django.utils import timezone

from ops.backup import spool
from ops.backup.destinations import Place, open_destination
from ops.backup.destinations.folder import FolderPlace
from ops.backup.errors import BackupDamaged, BackupError, DestinationFailed
from ops.findings import Finding
from ops.locks import LockHeld, named_lock
from ops.logs import get_logger
from ops.models.backup import Backup, BackupCopy, BackupDestination, BackupState, CopyState
from ops.redaction import redact_text
from ops.services import audit
from ops.services.backup_fetching import as_it_was, backup_fetch, note_damage
from ops.words import counted

logger = get_logger(__name__)

Progress = Callable[[int, int, str], None]
# A destination that fails is tried again after so many minutes, more each time, at most every six hours.
_AGAIN = (1, 5, 15, 60, 180, 360)


def is_spool(place: Place) -> bool:
    """Whether a destination is the folder in which backups are made."""
    where = Path(place.where())
    return where.is_dir() and where.samefile(spool.folder())


def copies_begin(backup: Backup) -> bool:
    """A row for each enabled destination; the copy in the folder where backups are made is stored already. True: others wait."""
    from ops.services.backup_destinations import ensure_one

    ensure_one()
    now, waiting = timezone.now(), False
    for destination in BackupDestination.objects.filter(enabled=True):
        here = is_here(destination)
        waiting = waiting or not here
        BackupCopy.objects.update_or_create(
            backup=backup,
            destination=destination,
            defaults={
                "state": CopyState.STORED if here else CopyState.WAITING,
                "size": backup.size if here else 0,
                "stored_at": now if here else None,
                "checked_at": now if here else None,
                "error": "",
            },
        )
        if here:
            place = open_destination(destination)
            if isinstance(place, FolderPlace):
                place.mark()
            BackupDestination.objects.filter(pk=destination.pk).update(last_ok_at=now, last_error="")
    return waiting


def copies_wanted(backup: Backup) -> None:
    """Have a copy wait for every enabled destination that has none: of one that was added later, or where it was removed."""
    for destination in BackupDestination.objects.filter(enabled=True):
        copy, made = BackupCopy.objects.get_or_create(backup=backup, destination=destination)
        if not made and copy.state == CopyState.PRUNED:
            BackupCopy.objects.filter(pk=copy.pk, state=CopyState.PRUNED).update(state=CopyState.WAITING, attempts=0)


def is_here(destination: BackupDestination) -> bool:
    """Whether its copies lie in the folder in which this process makes backups, and not in another machine's of the same path."""
    try:
        place = open_destination(destination)
        if not is_spool(place):
            return False
        place.entries()
    except DestinationFailed:
        return False
    return True


def copies_store(*, backup: Backup, actor: str, progress: Progress | None = None) -> bool:
    """Bring the copies that wait or failed to their destinations, one after another; one that fails leaves the others.

    Returns whether all enabled destinations have theirs.
    """
    waiting = BackupCopy.objects.filter(
        backup=backup, destination__enabled=True, state__in=[CopyState.WAITING, CopyState.FAILED, CopyState.MISSING]
    ).select_related("destination")
    for copy in waiting:
        try:
            with named_lock(f"backup.destination:{copy.destination_id}", wait=5.0):
                _store(copy, backup, actor, progress)
        except LockHeld:
            # Somebody brings another backup there; this one stays waiting, and the schedule takes it up.
            logger.info("backup_destination_busy", destination=copy.destination.name)
    return settle_state(backup)


def settle_state(backup: Backup) -> bool:
    """Complete when all enabled destinations have the copy that they should have."""
    states = set(
        BackupCopy.objects.filter(backup=backup, destination__enabled=True).values_list("state", flat=True).distinct()
    )
    everywhere = not states & {CopyState.WAITING, CopyState.FAILED, CopyState.MISSING}
    state = BackupState.COMPLETE if everywhere else BackupState.PARTIAL
    Backup.objects.filter(pk=backup.pk, state__in=[BackupState.COMPLETE, BackupState.PARTIAL]).update(state=state)
    if everywhere and CopyState.STORED in states and not _kept_here(backup):
        spool.path_of(backup.name).unlink(missing_ok=True)
    return everywhere


def _kept_here(backup: Backup) -> bool:
    """Whether the folder in which it was made is a destination that keeps it."""
    copies = BackupCopy.objects.filter(backup=backup, state=CopyState.STORED).select_related("destination")
    return any(is_here(copy.destination) for copy in copies)


def _store(copy: BackupCopy, backup: Backup, actor: str, progress: Progress | None) -> None:
    destination = copy.destination
    # What cannot be had from elsewhere is no fault of the place that it should be brought to.
    to_blame = False
    try:
        source = backup_fetch(backup)
        to_blame = True
        place = open_destination(destination)
        label = f"to {destination.name}"
        size = place.put(
            source, backup.name, sha256=backup.sha256,
            progress=(lambda done, total: progress(done, total, label)) if progress is not None else None,
        )  # fmt: skip
        error = ""
    except BackupError as failure:
        size, error = 0, redact_text(str(failure))
    except Exception as failure:
        logger.exception("backup_copy_failed", destination=destination.name, backup=backup.name)
        size, error = 0, redact_text(f"{type(failure).__name__}: {failure}")
    _result(copy, backup, size, error, actor, to_blame=to_blame)


def _result(copy: BackupCopy, backup: Backup, size: int, error: str, actor: str, *, to_blame: bool = True) -> None:
    now = timezone.now()
    with transaction.atomic():
        if error:
            copy.state, copy.error, copy.attempts, copy.checked_at = (
                CopyState.FAILED,
                error[:1000],
                copy.attempts + 1,
                now,
            )
            if to_blame:
                BackupDestination.objects.filter(pk=copy.destination_id).update(
                    last_error=error[:500], last_error_at=now
                )
        else:
            copy.state, copy.error, copy.size, copy.stored_at, copy.checked_at = CopyState.STORED, "", size, now, now
            copy.attempts += 1
            BackupDestination.objects.filter(pk=copy.destination_id).update(last_ok_at=now, last_error="")
        copy.save()
        audit.record(
            actor=actor,
            action="backup.copy_failed" if error else "backup.copied",
            target=backup,
            message=error,
            after={"destination": copy.destination.name},
        )


def damaged_copies(backup: Backup, actor: str, destination: BackupDestination | None) -> list[Finding]:
    """Copies that can be read in place and are not what they were: marked as failed, so that they are brought there again."""
    rows = BackupCopy.objects.filter(backup=backup, state=CopyState.STORED).select_related("destination", "backup")
    findings = []
    for copy in rows.filter(destination=destination) if destination is not None else rows:
        try:
            path = open_destination(copy.destination).local_path(backup.name)
            if path is not None:
                as_it_was(path, backup)
        except BackupDamaged as error:
            note_damage(copy, str(error), actor=actor)
            findings.append(Finding("error", "backup.copy_damaged", str(error), f"destination:{copy.destination.name}"))
        except (BackupError, OSError):
            # Not to be had at the moment: fetching says so when it is needed.
            continue
    return findings


def due_copies(now: datetime) -> list[BackupCopy]:
    """Copies that should be tried (again): one of those that wait, or failed long enough ago, for each backup and destination."""
    open_states = [CopyState.WAITING, CopyState.FAILED, CopyState.MISSING]
    rows = BackupCopy.objects.filter(
        state__in=open_states,
        destination__enabled=True,
        backup__state__in=[BackupState.COMPLETE, BackupState.PARTIAL],
    ).select_related("backup", "destination")
    due = []
    for copy in rows.order_by("-backup__made_at")[:200]:
        pause = _AGAIN[min(copy.attempts, len(_AGAIN) - 1)]
        last = copy.checked_at or copy.backup.finished_at or copy.backup.made_at
        if last <= now - timedelta(minutes=pause):
            due.append(copy)
    return due


# Removing


def remove_copy(copy: BackupCopy) -> None:
    """Remove one copy at its destination. Raises ``DestinationFailed``."""
    place = open_destination(copy.destination)
    place.delete(copy.backup.name)
    copy.state, copy.error, copy.checked_at = CopyState.PRUNED, "", timezone.now()
    copy.save(update_fields=["state", "error", "checked_at"])


def remove_everywhere(backup: Backup) -> None:
    """Remove all copies, and the file here. Raises ``DestinationFailed`` for the first place that does not let go, after trying all."""
    failures: list[DestinationFailed] = []
    gone = models.Q(state__in=[CopyState.PRUNED, CopyState.MISSING])
    for copy in BackupCopy.objects.filter(backup=backup).exclude(gone).select_related("destination", "backup"):
        try:
            remove_copy(copy)
        except DestinationFailed as error:
            failures.append(error)
    spool.path_of(backup.name).unlink(missing_ok=True)
    spool.fetched_path(backup.name).unlink(missing_ok=True)
    if failures:
        raise DestinationFailed(
            f"{counted(len(failures), 'place does', 'places do')} not let go of {backup.name}. {failures[0]}"
        )
