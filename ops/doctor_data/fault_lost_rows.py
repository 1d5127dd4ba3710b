"""A fault to practise on: people disappear from the database behind Switchboard's back."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib.auth import get_user_model
from django.db import transaction
from django.utils import timezone

from ops.doctor.faults import register_fault
from ops.doctor_data.lost_rows import RESTORE
from ops.models.backup import Backup
from ops.services import backups

ACTOR = "demo"


def lose_people() -> dict[str, Any]:
    """Some people are made and backed up; then they are deleted past all services, as a slip in a database shell does."""
    people = get_user_model()._base_manager
    mark = uuid.uuid4().hex[:6]
    number = people.count() + 3
    with transaction.atomic():
        made = [
            people.create(username=f"practice-{mark}-{one}", password="!", date_joined=timezone.now())  # noqa: S106
            for one in range(number)
        ]
    backup = backups.backup_now(actor=ACTOR, note="for practising", include=())
    # The drill of a backup that serves for practising would only cost time.
    Backup.objects.filter(pk=backup.pk).update(good_at=timezone.now())
    people.filter(pk__in=[one.pk for one in made]).delete()
    return {"mark": mark, "backup": str(backup.pk)}


def forget_people(memory: dict[str, Any]) -> None:
    """They go for good, and so does the backup that knows them."""
    get_user_model()._base_manager.filter(username__startswith=f"practice-{memory['mark']}-").delete()
    row = Backup.objects.filter(pk=memory["backup"]).first()
    if row is not None:
        Backup.objects.filter(pk=row.pk).update(good_at=None)
        good = backups.last_good()
        if good is None or good.pk != row.pk:
            backups.backup_delete(backup=row, actor=ACTOR)


register_fault(
    RESTORE,
    title="People have disappeared from the database",
    cause=lose_people,
    heal=forget_people,
    repair="recovery.restore",
    evidence=("backup", "lost"),
)
