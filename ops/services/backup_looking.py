"""Looks what lies at destinations, and takes in what a person brings: rows for files that nobody knew, and for those that are gone."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from django.db import transaction
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from ops.backup import spool
from ops.backup.destinations import open_destination
from ops.backup.destinations.base import SUFFIX
from ops.backup.errors import DestinationFailed, NewerVersion, NotABackup
from ops.backup.manifest import LONGEST_HEADER, Header
from ops.findings import Finding
from ops.models.backup import Backup, BackupCopy, BackupDestination, BackupReason, BackupState, CopyState
from ops.redaction import redact_text
from ops.services import audit
from ops.services.backup_copies import is_here, settle_state

_CHUNK = 1024 * 1024


def read_head(first: bytes) -> Header:
    """The plain header of a backup's file from its first bytes. Raises ``NotABackup`` or ``NewerVersion``."""
    line, newline, _ = first.partition(b"\n")
    return Header.from_line(line + newline)


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
                backup = _found(name, place.head(name, LONGEST_HEADER), entry.size, entry.changed_at, actor)
            except (NotABackup, NewerVersion) as error:
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
        id = uuid.UUID(header.id)
    except ValueError:
        id = uuid.uuid4()
    if Backup.objects.filter(pk=id).exists():
        id = uuid.uuid4()
    made_at = parse_datetime(header.made_at) or changed_at or timezone.now()
    if timezone.is_naive(made_at):
        made_at = timezone.make_aware(made_at)
    with transaction.atomic():
        backup = Backup.objects.create(
            id=id,
            name=name[:120],
            reason=BackupReason.FOUND,
            state=BackupState.COMPLETE,
            version=header.version[:50],
            installation=header.installation[:64],
            recipients=header.recipients[:100],
            size=size,
            actor=actor[:255],
            made_at=made_at,
            finished_at=changed_at or made_at,
        )
        audit.record(actor=actor, action="backup.found", target=backup, after={"size": size})
    return backup


def backup_upload(*, name: str, stream: BinaryIO, actor: str) -> Backup:
    """Take in a file that a person brings. ``name`` is what the file was called. Raises ``NotABackup``, ``NoRoom``, ``BackupError``."""
    first = stream.read(LONGEST_HEADER)
    read_head(first)
    wanted = Path(name).name.removesuffix(SUFFIX)
    wanted = "".join(sign for sign in wanted if sign.isalnum() or sign in "-_.").lstrip(".")[:100] or "uploaded"
    if Backup.objects.filter(name=wanted).exists():
        wanted = f"{wanted[:100]}-{uuid.uuid4().hex[:8]}"
    spool.check_room(0, asked_for="There is no room to take the file in")
    with spool.writing(wanted) as file:
        file.write(first)
        digest, size = hashlib.sha256(first), len(first)
        while chunk := stream.read(_CHUNK):
            file.write(chunk)
            digest.update(chunk)
            size += len(chunk)
    backup = _found(wanted, first, size, None, actor)
    backup.sha256, backup.note = digest.hexdigest(), f"Brought by {actor}"[:300]
    with transaction.atomic():
        backup.save(update_fields=["sha256", "note"])
        here = next((one for one in BackupDestination.objects.filter(enabled=True) if is_here(one)), None)
        if here is not None:
            now = timezone.now()
            BackupCopy.objects.create(
                backup=backup, destination=here, state=CopyState.STORED, size=size, stored_at=now, checked_at=now
            )
        audit.record(actor=actor, action="backup.uploaded", target=backup, after={"size": size})
    return backup
