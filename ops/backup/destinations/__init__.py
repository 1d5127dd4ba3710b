"""Places for copies of backups. ``open_destination`` makes a row into something that takes, gives and lists files."""

from __future__ import annotations

from ops.backup.destinations.base import Entry, Place
from ops.backup.errors import DestinationFailed
from ops.models.backup import BackupCopy, BackupDestination, CopyState, DestinationKind

__all__ = ["Entry", "Place", "open_destination"]


def open_destination(row: BackupDestination) -> Place:
    """The place that a row describes. Raises ``DestinationFailed`` when what it says cannot be used."""
    if row.kind == DestinationKind.FOLDER:
        from ops.backup.destinations.folder import FolderPlace

        return FolderPlace(row.options, stored=lambda: _stored(row))
    if row.kind == DestinationKind.S3:
        from ops.backup.destinations.s3 import S3Place

        return S3Place(row.options, row.credentials)
    raise DestinationFailed(f"{row.name}: nothing is known of the kind {row.kind!r}.")


def _stored(row: BackupDestination) -> list[str]:
    """Names of the newest copies that should lie there; whichever of them is there says that it is the place."""
    if row.pk is None:
        return []
    copies = BackupCopy.objects.filter(destination=row, state=CopyState.STORED).order_by("-backup__made_at")
    return list(copies.values_list("backup__name", flat=True)[:1000])
