"""What the tests of pages and endpoints about backups share: rows as the services leave them, without a file behind them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from ops.models import (
    Backup,
    BackupCopy,
    BackupDestination,
    BackupDrill,
    BackupKey,
    BackupState,
    CopyState,
    DrillState,
)

SECRET_KEY = "s3-secret-never-shown"
KEY = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kgkq5w8mq2p9ze8"


def make_place(name: str = "here", **fields: Any) -> BackupDestination:
    """A destination that worked."""
    values: dict[str, Any] = {"options": {"path": "backups"}, "last_ok_at": timezone.now(), **fields}
    return BackupDestination.objects.create(name=name, **values)


def make_key(label: str = "Ada, in the safe", fingerprint: str = "aa11bb22cc33dd44", **fields: Any) -> BackupKey:
    """A proven recovery key."""
    values: dict[str, Any] = {"confirmed_at": timezone.now(), "created_by": "person:ada", **fields}
    return BackupKey.objects.create(
        label=label, recipient=f"{KEY[:-16]}{fingerprint}", fingerprint=fingerprint, **values
    )


def make_backup(
    number: int = 1,
    *,
    place: BackupDestination | None = None,
    good: bool = True,
    age: timedelta = timedelta(hours=3),
    **fields: Any,
) -> Backup:
    """A whole backup at one destination, drilled unless ``good`` is False."""
    made = timezone.now() - age
    values: dict[str, Any] = {
        "state": BackupState.COMPLETE, "actor": "person:ada", "size": 81_600, "rows": 486, "version": "0.1.0",
        "sha256": f"{number:064x}", "recipients": ["aa11bb22cc33dd44"], "verified_at": made, "finished_at": made,
        "good_at": made if good else None, "parts": {"keys": {"label": "Keys and settings", "items": 5, "size": 635}},
        "manifest": {"tables": {"chat.Message": {"rows": 400}, "agents.Agent": {"rows": 6}}}, **fields,
    }  # fmt: skip
    row = Backup.objects.create(name=f"switchboard-20261128T0315{number:02}Z-{number:08x}", made_at=made, **values)
    if place is not None:
        BackupCopy.objects.create(backup=row, destination=place, state=CopyState.STORED, size=row.size, stored_at=made)
    if good:
        make_drill(row, made)
    return row


def make_drill(row: Backup, at: datetime, **fields: Any) -> BackupDrill:
    """A drill that passed, unless the fields say otherwise."""
    values: dict[str, Any] = {
        "state": DrillState.PASSED, "actor": "schedule", "rows": row.rows, "seconds": 4.2, "finished_at": at,
        "steps": [{"step": "rows", "ok": True, "sentence": "486 rows are in.", "seconds": 1.5}], **fields,
    }  # fmt: skip
    return BackupDrill.objects.create(backup=row, **values)
