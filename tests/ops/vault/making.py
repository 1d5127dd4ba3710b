"""Backups, folders for them, and a folder that does not answer: what the tests of backups make."""

from __future__ import annotations

from pathlib import Path

from ops.models.backup import (
    Backup,
    BackupCopy,
    BackupDestination,
)
from ops.services import backups
from ops.services.backup_destinations import destination_save


def make(**more: object) -> Backup:
    return backups.backup_now(actor="test", **more)  # type: ignore[arg-type]


def folder(name: str, path: Path, **more: int) -> BackupDestination:
    return destination_save(actor="test", name=name, kind="folder", options={"path": str(path)}, **more)


def failing_at(path: Path):
    """Listing that fails there and nowhere else."""
    from ops.backup.destinations.folder import FolderPlace
    from ops.backup.errors import DestinationFailed

    usual = FolderPlace.entries

    def entries(place: FolderPlace):
        if place.folder == path:
            raise DestinationFailed("It does not answer.")
        return usual(place)

    return entries


def copies(backup: Backup) -> dict[str, str]:
    return {copy.destination.name: copy.state for copy in BackupCopy.objects.filter(backup=backup)}
