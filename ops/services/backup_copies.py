"""Copies of backups at destinations: brought there, fetched, looked for, removed. Each destination has its own result."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

from django.db import models, transaction
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from ops.backup import spool
from ops.backup.destinations import Place, open_destination
from ops.backup.destinations.base import SUFFIX
from ops.backup.errors import BackupDamaged, BackupError, DestinationFailed, NotABackup
from ops.findings import Finding
from ops.locks import LockHeld, named_lock
from ops.logs import get_logger
from ops.models.backup import Backup, BackupCopy, BackupDestination, BackupReason, BackupState, CopyState
from ops.redaction import redact_text
from ops.services import audit
from ops.words import counted

logger = get_logger(__name__)

Progress = Callable[[int, int, str], None]
_MAGIC = b"switchboard-backup "
_HEAD = 64 * 1024
_CHUNK = 1024 * 1024
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
        here = _is_here(destination)
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
            BackupDestination.objects.filter(pk=destination.pk).update(last_ok_at=now, last_error="")
    return waiting


def _is_here(destination: BackupDestination) -> bool:
    try:
        return is_spool(open_destination(destination))
    except DestinationFailed:
        return False


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
    return any(_is_here(copy.destination) for copy in copies)


def _store(copy: BackupCopy, backup: Backup, actor: str, progress: Progress | None) -> None:
    destination = copy.destination
    try:
        place = open_destination(destination)
        source = backup_fetch(backup)
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
    _result(copy, backup, size, error, actor)


def _result(copy: BackupCopy, backup: Backup, size: int, error: str, actor: str) -> None:
    now = timezone.now()
    with transaction.atomic():
        if error:
            copy.state, copy.error, copy.attempts, copy.checked_at = (
                CopyState.FAILED,
                error[:1000],
                copy.attempts + 1,
                now,
            )
            BackupDestination.objects.filter(pk=copy.destination_id).update(last_error=error[:500], last_error_at=now)
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


# Fetching


def backup_fetch(backup: Backup, *, destination: BackupDestination | None = None) -> Path:
    """A path on this machine at which the backup can be read; its checksum was compared just now. Fetched when it lies elsewhere.

    ``destination``: that copy and no other. Raises ``BackupDamaged`` when no copy is what it was, ``BackupError`` when there is none.
    """
    problems: list[BackupError] = []
    if destination is None:
        here = spool.path_of(backup.name)
        if here.is_file():
            try:
                return _as_it_was(here, backup)
            except BackupDamaged as error:
                problems.append(error)
    copies = BackupCopy.objects.filter(backup=backup).select_related("destination")
    copies = (
        copies.filter(destination=destination) if destination is not None else copies.filter(state=CopyState.STORED)
    )
    for copy in copies:
        try:
            return _fetch_from(copy, backup)
        except BackupError as error:
            problems.append(error)
    if not problems:
        where = f"at {destination.name}" if destination is not None else "anywhere"
        raise BackupError(f"There is no copy of {backup.name} {where}.")
    raise next((one for one in problems if isinstance(one, BackupDamaged)), problems[0])


def _fetch_from(copy: BackupCopy, backup: Backup) -> Path:
    place = open_destination(copy.destination)
    path = place.local_path(backup.name)
    if path is None:
        spool.check_room(copy.size or backup.size)
        path = spool.fetched_path(backup.name)
        partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
        try:
            place.fetch(backup.name, partial)
            _as_it_was(partial, backup)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        return path
    return _as_it_was(path, backup)


def _as_it_was(path: Path, backup: Backup) -> Path:
    if not backup.sha256:
        return path
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != backup.sha256:
        raise BackupDamaged(
            f"The file {path} is not what it was when it was made: its checksum is {digest[:16]}… and should be {backup.sha256[:16]}…. "
            "Use another copy, and look at the disk that it lies on."
        )
    return path


# Looking what is there


def read_head(first: bytes) -> dict[str, Any]:
    """The plain header of a backup's file from its first bytes. Raises ``NotABackup``."""
    line, newline, _ = first.partition(b"\n")
    if not newline or not line.startswith(_MAGIC):
        raise NotABackup("This file is no backup of Switchboard: it does not begin with “switchboard-backup”.")
    try:
        document = json.loads(line[len(_MAGIC) :].partition(b" ")[2])
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise NotABackup(
            "This file begins like a backup of Switchboard, and its first line cannot be read: it is damaged."
        )
    return document


def backup_sync_list(*, actor: str) -> list[Finding]:
    """Look at every enabled destination: files that nobody knows get their rows, copies that are gone say so.

    After a loss of everything this is how the backups are found again. One destination that fails leaves the others.
    """
    findings: list[Finding] = []
    for destination in BackupDestination.objects.filter(enabled=True):
        try:
            findings += _look_at(destination, actor)
        except DestinationFailed as error:
            findings.append(
                Finding(
                    "error", "backup.destination_failed", redact_text(str(error)), f"destination:{destination.name}"
                )
            )
            BackupDestination.objects.filter(pk=destination.pk).update(
                last_error=redact_text(str(error))[:500], last_error_at=timezone.now()
            )
    return findings


def _look_at(destination: BackupDestination, actor: str) -> Iterable[Finding]:
    place = open_destination(destination)
    there = {entry.name: entry for entry in place.entries()}
    copies = {
        copy.backup.name: copy for copy in BackupCopy.objects.filter(destination=destination).select_related("backup")
    }
    known = dict(Backup.objects.filter(name__in=there).values_list("name", "pk"))
    findings: list[Finding] = []
    for name, entry in there.items():
        copy = copies.get(name)
        if copy is not None:
            findings += _seen(copy, entry.size, actor)
            continue
        backup = Backup.objects.get(pk=known[name]) if name in known else None
        if backup is None:
            try:
                backup = _found(name, place.head(name, _HEAD), entry.size, entry.changed_at, actor)
            except NotABackup as error:
                findings.append(Finding("warning", "backup.not_a_backup", f"{name}{SUFFIX}: {error}"))
                continue
            findings.append(Finding("info", "backup.found", f"{name} was found at {destination.name}."))
        if backup.state == BackupState.RUNNING:
            continue
        BackupCopy.objects.create(
            backup=backup, destination=destination, state=CopyState.STORED, size=entry.size,
            stored_at=entry.changed_at or timezone.now(), checked_at=timezone.now(),
        )  # fmt: skip
    for name, copy in copies.items():
        if copy.state == CopyState.STORED and name not in there:
            copy.state, copy.checked_at = CopyState.MISSING, timezone.now()
            copy.error = "It was there, and is not any more."
            copy.save(update_fields=["state", "checked_at", "error"])
            settle_state(copy.backup)
            audit.record(
                actor=actor, action="backup.copy_missing", target=copy.backup, after={"destination": destination.name}
            )
            findings.append(Finding("error", "backup.copy_missing", f"{name} is gone from {destination.name}."))
    return findings


def _seen(copy: BackupCopy, size: int, actor: str) -> list[Finding]:
    """A copy that has a row, and is there."""
    whole = not copy.backup.size or copy.backup.size == size
    copy.checked_at = timezone.now()
    if not whole:
        sentence = (
            f"The copy of {copy.backup.name} at {copy.destination.name} has {size:,} of {copy.backup.size:,} bytes."
        )
        if copy.state == CopyState.STORED:
            copy.state, copy.error = CopyState.FAILED, sentence
            copy.save(update_fields=["state", "error", "checked_at"])
            settle_state(copy.backup)
            audit.record(
                actor=actor,
                action="backup.copy_failed",
                target=copy.backup,
                after={"destination": copy.destination.name},
            )
        return [Finding("error", "backup.copy_short", sentence)]
    if copy.state != CopyState.STORED:
        copy.state, copy.error, copy.size, copy.stored_at = CopyState.STORED, "", size, copy.stored_at or timezone.now()
    copy.save()
    settle_state(copy.backup)
    return []


def _found(name: str, first: bytes, size: int, changed_at: datetime | None, actor: str) -> Backup:
    """A row for a file that nobody knew."""
    header = read_head(first)
    try:
        id = uuid.UUID(str(header.get("id")))
    except ValueError:
        id = uuid.uuid4()
    if Backup.objects.filter(pk=id).exists():
        id = uuid.uuid4()
    made_at = parse_datetime(str(header.get("made_at", ""))) or changed_at or timezone.now()
    if timezone.is_naive(made_at):
        made_at = timezone.make_aware(made_at)
    with transaction.atomic():
        backup = Backup.objects.create(
            id=id,
            name=name[:120],
            reason=BackupReason.FOUND,
            state=BackupState.COMPLETE,
            version=str(header.get("version", ""))[:50],
            installation=str(header.get("installation", ""))[:64],
            recipients=[str(one) for one in header.get("recipients", [])][:100],
            size=size,
            actor=actor[:255],
            made_at=made_at,
            finished_at=changed_at or made_at,
        )
        audit.record(actor=actor, action="backup.found", target=backup, after={"size": size})
    return backup


def backup_upload(*, name: str, stream: BinaryIO, actor: str) -> Backup:
    """Take in a file that a person brings. ``name`` is what the file was called. Raises ``NotABackup``, ``NoRoom``, ``BackupError``."""
    first = stream.read(_HEAD)
    header = read_head(first)
    wanted = str(header.get("name") or Path(name).name.removesuffix(SUFFIX))
    wanted = "".join(sign for sign in wanted if sign.isalnum() or sign in "-_.").lstrip(".")[:100] or "uploaded"
    if Backup.objects.filter(name=wanted).exists():
        wanted = f"{wanted[:100]}-{uuid.uuid4().hex[:8]}"
    spool.check_room(0)
    with spool.writing(wanted) as file:
        file.write(first)
        while chunk := stream.read(_CHUNK):
            file.write(chunk)
    backup = _found(wanted, first, file.size, None, actor)
    backup.sha256, backup.note = file.sha256, f"Brought by {actor}"[:300]
    with transaction.atomic():
        backup.save(update_fields=["sha256", "note"])
        here = next((one for one in BackupDestination.objects.filter(enabled=True) if _is_here(one)), None)
        if here is not None:
            now = timezone.now()
            BackupCopy.objects.create(
                backup=backup, destination=here, state=CopyState.STORED, size=file.size, stored_at=now, checked_at=now
            )
        audit.record(actor=actor, action="backup.uploaded", target=backup, after={"size": file.size})
    return backup


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
