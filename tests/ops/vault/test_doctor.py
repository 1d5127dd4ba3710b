"""What the doctor says of backups, and how it is mended."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from ops.doctor.faults import get_fault
from ops.doctor.guides import guide_for
from ops.doctor_data import backup as checks
from ops.models.backup import Backup, BackupCopy, BackupDrill, BackupPlan, BackupState, CopyState
from ops.runner import run_checks
from ops.services import backup_schedule, backups
from ops.services.repairs import repair_plan, repair_start


def ask(id: str) -> tuple[str, str]:
    run = next(one for one in run_checks([id]) if one.check.id == id)
    return run.status, run.sentence


@pytest.mark.parametrize(("check", "repair"), [("backup.stale", "backup.create"), ("backup.copies", "backup.copy")])
def test_broken_red_planned_repaired_green(data: Path, check: str, repair: str) -> None:
    fault = get_fault(check)
    assert fault is not None
    assert ask(check)[0] == "pass"
    memory = fault.cause()
    assert ask(check)[0] == "fail"
    assert repair_plan(repair_id=repair, target="", params={}, actor="test").plan.changes
    assert ask(check)[0] == "fail", "planning mends nothing"
    run = repair_start(repair_id=repair, target="", params={}, actor="test", trigger="command")
    assert (run.state, run.error) == ("succeeded", "")
    assert ask(check)[0] == "pass"
    assert repair_start(repair_id=repair, target="", params={}, actor="test", trigger="command").state == "unneeded"
    fault.heal(memory)
    assert ask(check)[0] == "pass"
    if check == "backup.stale":
        good = backups.last_good()
        assert good is not None, "the repair has drilled what it made"
        assert BackupDrill.objects.get().state == "passed"
        assert "the last good one" in ask(check)[1]


def test_nobody_keeps_a_key(data: Path) -> None:
    fault = get_fault("backup.keys")
    assert fault is not None
    backups.backup_now(actor="test", verify=False)
    assert ask("backup.keys")[0] == "pass", "a new installation is given a week"
    memory = fault.cause()
    status, sentence = ask("backup.keys")
    assert (status, "backup key new" in sentence) == ("warn", True)
    guide = guide_for("backup.keys", "")
    assert guide is not None
    assert "backup key new" in guide.steps[0].snippet
    assert ask("backup.stale")[0] == "pass", "it is another matter"
    fault.heal(memory)
    assert ask("backup.keys")[0] == "pass"


class TestStale:
    def made(self, hours: float, **more: object) -> Backup:
        at = timezone.now() - timedelta(hours=hours)
        fields = {"name": f"b{hours}", "actor": "test", "made_at": at, "finished_at": at, "state": BackupState.COMPLETE}
        row = Backup.objects.create(**{**fields, "verified_at": at, **more})
        from ops.models.backup import BackupDestination
        from ops.services.backup_destinations import ensure_one

        ensure_one()
        BackupCopy.objects.create(backup=row, destination=BackupDestination.objects.get(), state=CopyState.STORED)
        return row

    def test_a_new_installation_waits_for_its_first_one(self, data: Path) -> None:
        assert ask("backup.stale") == ("pass", "The first backup is planned as soon as a worker runs.")
        backup_schedule.tick()
        assert "The first backup is made in" in ask("backup.stale")[1]
        BackupPlan.objects.update(next_at=timezone.now() - timedelta(hours=2))
        assert ask("backup.stale")[0] == "fail"
        BackupPlan.objects.update(enabled=False, next_at=None)
        assert "none are made by themselves" in ask("backup.stale")[1]

    def test_how_old_it_may_be_follows_the_plan(self, data: Path) -> None:
        self.made(27, good_at=timezone.now())
        assert ask("backup.stale")[0] == "fail"
        BackupPlan.objects.update_or_create(pk=1, defaults={"every_hours": 48})
        assert ask("backup.stale")[0] == "pass"
        # Twice a day must be at least once a day.
        BackupPlan.objects.update(every_hours=1)
        Backup.objects.update(made_at=timezone.now() - timedelta(hours=20))
        assert ask("backup.stale")[0] == "pass"

    def test_none_that_is_known_to_restore(self, data: Path) -> None:
        self.made(1)
        assert ask("backup.stale")[0] == "pass", "it is drilled soon"
        self.made(60)
        assert "none has passed a drill" in ask("backup.stale")[1]
        self.made(24 * 11, good_at=timezone.now() - timedelta(days=11))
        assert "the last backup that is known to restore" in ask("backup.stale")[1].lower()
        Backup.objects.filter(name="b60").update(good_at=timezone.now())
        assert ask("backup.stale")[0] == "pass"

    def test_a_missing_part_and_one_that_halved_are_doubtful(self, data: Path) -> None:
        self.made(20, size=10_000_000, good_at=timezone.now())
        new = self.made(1, size=4_000_000, good_at=timezone.now())
        status, sentence = ask("backup.stale")
        assert (status, "the one before had" in sentence) == ("warn", True)
        Backup.objects.filter(pk=new.pk).update(size=6_000_000, missing={"registration": "No file."})
        status, sentence = ask("backup.stale")
        assert (status, "registration is missing: No file." in sentence) == ("warn", True)

    def test_why_the_last_try_failed_is_said(self, data: Path) -> None:
        self.made(60, good_at=timezone.now())
        Backup.objects.create(
            name="failed", actor="test", made_at=timezone.now(), state=BackupState.FAILED, error="The disk became full."
        )
        assert "The last try failed: The disk became full." in ask("backup.stale")[1]

    def test_a_newer_one_that_is_damaged_is_told_of(self, data: Path) -> None:
        self.made(20, good_at=timezone.now())
        self.made(1, verify_error="A byte is wrong.")
        assert ask("backup.stale")[0] == "fail"
        assert "A byte is wrong." in ask("backup.stale")[1]

    def test_its_look_costs_few_queries(self, data: Path, django_assert_max_num_queries) -> None:
        for hours in range(1, 30):
            self.made(hours)
        checks.look()  # the plan gets its row
        with django_assert_max_num_queries(12):
            checks.look()
