"""Faults of backups: they are old, a copy is gone, nobody keeps a key."""

from __future__ import annotations

import shutil
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from ops.backup import spool
from ops.doctor.faults import register_fault
from ops.doctor_data import backup as checks
from ops.models.backup import Backup, BackupDestination, BackupKey, BackupPlan, BackupState
from ops.services import backup_destinations, backup_schedule, backups

ACTOR = "demo"
_PLACE = "practice"


def grow_old() -> dict[str, Any]:
    """As if nobody had made a backup for three days: the newest there is (made now, when there is none) becomes so much older."""
    made = None
    if backups.newest() is None:
        made = str(backups.backup_now(actor=ACTOR, note="for practising").pk)
    plan = backup_schedule.plan()
    next_at = plan.next_at
    BackupPlan.objects.filter(pk=plan.pk).update(next_at=timezone.now() + timedelta(hours=6))
    young = Backup.objects.filter(made_at__gt=timezone.now() - timedelta(days=3))
    before = {str(row.pk): row.made_at.isoformat() for row in young}
    for row in young:
        Backup.objects.filter(pk=row.pk).update(made_at=row.made_at - timedelta(days=3))
    return {"made": made, "before": before, "next_at": next_at.isoformat() if next_at else None}


def be_young_again(memory: dict[str, Any]) -> None:
    """The times that they had; what was made for practising goes when there is another."""
    for pk, made_at in memory["before"].items():
        Backup.objects.filter(pk=pk).update(made_at=parse_datetime(made_at))
    BackupPlan.objects.update(next_at=parse_datetime(memory["next_at"]) if memory["next_at"] else None)
    _remove(memory["made"])


def _remove(pk: str | None) -> None:
    row = Backup.objects.filter(pk=pk).first() if pk else None
    good = backups.last_good()
    if row is not None and (good is None or good.pk != row.pk):
        backups.backup_delete(backup=row, actor=ACTOR)


register_fault(
    checks.STALE,
    title="No backup was made for three days",
    cause=grow_old,
    heal=be_young_again,
    evidence=("newest", "age_hours", "limit_hours"),
)


def lose_copy() -> dict[str, Any]:
    """A second place gets a copy, and loses it."""
    place = Path(settings.DATA_DIR) / f"practice-{uuid.uuid4().hex[:8]}"
    # Where there was no place yet, the one in the data directory comes first, as with every first backup.
    backup_destinations.ensure_one()
    row = backup_destinations.destination_save(actor=ACTOR, name=_PLACE, options={"path": str(place)})
    backup = backups.backup_now(actor=ACTOR, note="for practising")
    shutil.rmtree(place)
    backups.backup_sync_list(actor=ACTOR)
    return {"destination": row.pk, "folder": str(place), "made": str(backup.pk)}


def forget_place(memory: dict[str, Any]) -> None:
    """The second place goes, and what was made for it."""
    row = BackupDestination.objects.filter(pk=memory["destination"]).first()
    if row is not None:
        backup_destinations.destination_switch(destination=row, enabled=False, actor=ACTOR)
        _remove(memory["made"])
        row.delete()
    shutil.rmtree(memory["folder"], ignore_errors=True)


register_fault(
    checks.COPIES,
    title="A destination has lost its copy",
    cause=lose_copy,
    heal=forget_place,
    evidence=("destinations", "absent"),
)


def lose_keys() -> dict[str, Any]:
    """An installation that has made backups for more than a week, and nobody keeps a key."""
    at = timezone.now() - checks.KEYLESS - timedelta(days=1)
    id = uuid.uuid4()
    Backup.objects.create(
        id=id, name=spool.new_name(id, at), state=BackupState.COMPLETE, actor=ACTOR, made_at=at, finished_at=at,
        installation=spool.installation(), note="for practising: its copies are gone by the rules",
    )  # fmt: skip
    usable = BackupKey.objects.filter(retired_at=None, confirmed_at__isnull=False)
    kept = list(usable.values_list("pk", flat=True))
    BackupKey.objects.filter(pk__in=kept).update(retired_at=timezone.now())
    return {"row": str(id), "keys": kept}


def find_keys(memory: dict[str, Any]) -> None:
    """As before."""
    BackupKey.objects.filter(pk__in=memory["keys"]).update(retired_at=None)
    Backup.objects.filter(pk=memory["row"]).delete()


register_fault(
    checks.KEYS,
    title="Nobody keeps a key that opens the backups",
    cause=lose_keys,
    heal=find_keys,
    evidence=("keys", "newest"),
)
