"""A table that was empty when the backup was made is empty again afterwards."""

from __future__ import annotations

from django.utils import timezone

from ops.models import MaintenanceWindow
from ops.models.restore import RestoreState
from ops.services import restores
from tests.support.every_model import contents


def test_rows_in_a_table_that_was_empty_came_since_and_go(house, backup_of):
    assert not MaintenanceWindow.objects.exists()
    before = contents()
    path = backup_of()
    now = timezone.now()
    MaintenanceWindow.objects.create(reason="since", starts_at=now, ends_at=now, created_by="person:ada")

    planned = restores.restore_plan(path=path, actor="command")
    counts = {one["model"]: one["removed"] for one in planned.plan["models"]}
    assert counts.get("ops.MaintenanceWindow") == 1
    assert not [one for one in planned.findings if "from before there were" in one["sentence"]]

    done = restores.restore_apply(restore=planned, actor="command")
    assert done.state == RestoreState.DONE, done.error
    assert not MaintenanceWindow.objects.exists()
    assert contents() == before
