"""Gives the path of a backup on this machine, wherever its copies lie; its checksum is compared each time."""

from __future__ import annotations

import hashlib
import uuid
from pathlib import Path

from django.db import transaction
from django.utils import timezone

from ops.backup import spool
from ops.backup.destinations import open_destination
from ops.backup.errors import BackupDamaged, BackupError
from ops.models.backup import Backup, BackupCopy, BackupDestination, BackupState, CopyState
from ops.redaction import redact_text
from ops.services import audit


def backup_fetch(backup: Backup, *, destination: BackupDestination | None = None) -> Path:
    """A path on this machine at which the backup can be read; its checksum was compared just now. Fetched when it lies elsewhere.

    ``destination``: that copy and no other. Raises ``BackupDamaged`` when no copy is what it was, ``BackupError`` when there is none.
    """
    problems: list[BackupError] = []
    if destination is None:
        here = spool.path_of(backup.name)
        if here.is_file():
            try:
                return as_it_was(here, backup)
            except BackupDamaged as error:
                problems.append(error)
    copies = BackupCopy.objects.filter(backup=backup).select_related("destination")
    copies = (
        copies.filter(destination=destination) if destination is not None else copies.filter(state=CopyState.STORED)
    )
    for copy in copies:
        try:
            return _fetch_from(copy, backup)
        except BackupDamaged as error:
            note_damage(copy, str(error))
            problems.append(error)
        except BackupError as error:
            problems.append(error)
    if not problems:
        where = f"at {destination.name}" if destination is not None else "anywhere"
        raise BackupError(f"There is no copy of {backup.name} {where}.")
    raise next((one for one in problems if isinstance(one, BackupDamaged)), problems[0])


def note_damage(copy: BackupCopy, sentence: str, *, actor: str = "system") -> None:
    """A copy that is not what it was counts as none: it is brought there again from one that is."""
    sentence = redact_text(sentence)
    with transaction.atomic():
        changed = BackupCopy.objects.filter(pk=copy.pk, state=CopyState.STORED).update(
            state=CopyState.FAILED, error=sentence[:1000], attempts=0, checked_at=timezone.now()
        )
        if changed:
            Backup.objects.filter(pk=copy.backup_id, state=BackupState.COMPLETE).update(state=BackupState.PARTIAL)
            after = {"destination": copy.destination.name}
            audit.record(actor=actor, action="backup.copy_damaged", target=copy.backup, message=sentence, after=after)
    copy.refresh_from_db()


def _fetch_from(copy: BackupCopy, backup: Backup) -> Path:
    place = open_destination(copy.destination)
    path = place.local_path(backup.name)
    if path is None:
        spool.check_room(copy.size or backup.size, asked_for="There is no room to fetch the backup")
        path = spool.fetched_path(backup.name)
        partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
        try:
            place.fetch(backup.name, partial)
            as_it_was(partial, backup)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        return path
    return as_it_was(path, backup)


def as_it_was(path: Path, backup: Backup) -> Path:
    """The path, when its content has the checksum that was noted. Raises ``BackupDamaged``."""
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
