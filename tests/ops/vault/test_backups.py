"""Backups are made, copied, found again and removed; whatever fails on the way leaves nothing that looks whole."""

from __future__ import annotations

import errno
import os
import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from ops.backup import spool
from ops.backup.destinations.folder import MARK
from ops.backup.errors import BackupDamaged, BackupError, NoRoom
from ops.models import AuditEvent, Job
from ops.models.backup import (
    Backup,
    BackupCopy,
    BackupDestination,
    BackupPlan,
    BackupReason,
    BackupState,
    CopyState,
)
from ops.services import backup_schedule, backups
from ops.services.backup_copies import due_copies
from ops.services.jobs import run_job
from tests.ops.vault.making import copies, folder, make


def test_it_lies_in_the_data_directory_whole_and_was_read_back(data: Path) -> None:
    backup = make(note="before the move")
    assert backup.state == BackupState.COMPLETE
    assert [path.name for path in (data / "backups").iterdir()] == [f"{backup.name}.sbk"]
    assert (data / "backups" / f"{backup.name}.sbk").stat().st_size == backup.size > 0
    assert backup.verified_at is not None
    assert backup.rows == sum(table["rows"] for table in backup.manifest["tables"].values()) > 0
    assert copies(backup) == {"here": "stored"}
    assert AuditEvent.objects.filter(action="backup.made", target_id=str(backup.pk)).exists()
    # It is not good before it was drilled.
    assert backups.last_good() is None
    assert backups.newest() == backup


def test_a_destination_that_fails_leaves_the_others_and_is_tried_again(data: Path, tmp_path: Path) -> None:
    folder("here", Path("backups"))
    mounted = tmp_path / "mounted"
    folder("away", mounted)  # not mounted yet
    folder("second", data / "second")
    backup = make()
    assert copies(backup) == {"here": "stored", "away": "failed", "second": "stored"}
    assert backup.state == BackupState.PARTIAL
    assert "There is no folder" in BackupDestination.objects.get(name="away").last_error
    assert not mounted.exists(), "a folder that is not mounted must not be made: its disk is not this one"
    mounted.mkdir()
    assert due_copies(timezone.now()) == [], "too soon"
    BackupCopy.objects.update(checked_at=timezone.now() - timedelta(minutes=10))
    BackupPlan.objects.update_or_create(pk=1, defaults={"next_at": timezone.now() + timedelta(hours=5)})
    assert backup_schedule.tick()["copies"] == 1
    assert run_job(Job.objects.get(kind="backup.copy").pk)
    backup.refresh_from_db()
    assert (copies(backup)["away"], backup.state) == ("stored", BackupState.COMPLETE)
    assert (mounted / f"{backup.name}.sbk").read_bytes() == (data / "backups" / f"{backup.name}.sbk").read_bytes()
    assert BackupDestination.objects.get(name="away").last_error == ""


def test_where_the_data_directory_is_no_destination_the_file_goes_when_it_arrived(data: Path, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    folder("a", tmp_path / "a")
    folder("b", tmp_path / "b")
    backup = make()
    assert copies(backup) == {"a": "stored", "b": "failed"}
    assert spool.path_of(backup.name).is_file(), "the other place still waits for it"
    (tmp_path / "b").mkdir()
    backups.copies_store(backup=backup, actor="test")
    assert not spool.path_of(backup.name).exists()
    assert backups.backup_fetch(backup) == tmp_path / "a" / f"{backup.name}.sbk"


class TestFullDisk:
    def test_while_it_is_written_nothing_is_left(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as patch:
            # The kernel itself says that there is no room.
            patch.setattr(spool, "private", lambda path, flags: os.open("/dev/full", os.O_WRONLY))
            with pytest.raises(NoRoom, match="became full"):
                make()
        failed = Backup.objects.get()
        assert (failed.state, failed.size) == (BackupState.FAILED, 0)
        assert "became full" in failed.error
        assert list((data / "backups").iterdir()) == []
        assert not backups.running()
        assert make().state == BackupState.COMPLETE

    def test_it_is_asked_before(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(spool, "guess", lambda last: shutil.disk_usage(data).free)
        with pytest.raises(NoRoom, match="are needed"):
            make()
        assert not Backup.objects.exists()

    def test_at_one_destination_it_is_that_destinations_failure(
        self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from ops.backup.destinations import folder as module

        folder("here", Path("backups"))
        (tmp_path / "small").mkdir()
        folder("small", tmp_path / "small")

        def full(handle: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        backup = make()
        BackupCopy.objects.filter(destination__name="small").update(state=CopyState.WAITING)
        (tmp_path / "small" / f"{backup.name}.sbk").unlink()
        monkeypatch.setattr(module.os, "fsync", full)
        backups.copies_store(backup=backup, actor="test")
        monkeypatch.undo()
        assert copies(backup) == {"here": "stored", "small": "failed"}
        assert "No space left" in BackupCopy.objects.get(destination__name="small").error
        assert [path.name for path in (tmp_path / "small").iterdir()] == [MARK]


class TestAfterAKill:
    def test_what_is_half_written_goes_with_the_next_run(self, data: Path) -> None:
        dead = Backup.objects.create(name="switchboard-20260101T000000Z-deadbeef", actor="test", made_at=timezone.now())
        (spool.folder() / f".{dead.name}.partial").write_bytes(b"half")
        (data / ".backup-scratch").mkdir()
        backup = make()
        dead.refresh_from_db()
        assert dead.state == BackupState.FAILED
        assert "ended while it was being made" in dead.error
        assert [path.name for path in spool.folder().iterdir()] == [f"{backup.name}.sbk"]
        assert not (data / ".backup-scratch").exists()

    def test_a_file_that_was_renamed_already_is_whole_and_is_taken(self, data: Path) -> None:
        backup = make()
        Backup.objects.filter(pk=backup.pk).update(state=BackupState.RUNNING, size=0, sha256="", rows=0, manifest={})
        BackupCopy.objects.all().delete()
        make()
        again = Backup.objects.get(pk=backup.pk)
        assert (again.state, again.size, again.sha256) == (BackupState.COMPLETE, backup.size, backup.sha256)
        assert copies(again) == {"here": "stored"}


class TestDamage:
    def flip(self, path: Path) -> None:
        with path.open("r+b") as file:
            file.seek(path.stat().st_size // 2)
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 1]))

    def test_one_byte_is_seen_and_another_copy_is_used(self, data: Path) -> None:
        folder("here", Path("backups"))
        folder("second", data / "second")
        backup = make()
        self.flip(spool.path_of(backup.name))
        assert backups.backup_fetch(backup) == data / "second" / f"{backup.name}.sbk"
        here = BackupDestination.objects.get(name="here")
        with pytest.raises(BackupDamaged, match="is not what it was"):
            backups.backup_fetch(backup, destination=here)
        assert copies(backup)["here"] == "failed"
        # It counts as none from now on, and a good one is brought there again. The daily reading sees it as well.
        BackupCopy.objects.filter(destination=here).update(state=CopyState.STORED)
        findings = backups.backup_verify(backup=backup, actor="test")
        assert [one["code"] for one in findings] == ["backup.copy_damaged"]
        assert (copies(backup), backup.verify_error) == ({"here": "failed", "second": "stored"}, "")
        backups.copies_store(backup=backup, actor="test")
        assert copies(backup) == {"here": "stored", "second": "stored"}
        assert backups.backup_fetch(backup, destination=here) == spool.path_of(backup.name)
        # When no copy is what it was, it is the backup that is damaged.
        for path in (spool.path_of(backup.name), data / "second" / f"{backup.name}.sbk"):
            self.flip(path)
        assert backups.backup_verify(backup=backup, actor="test")
        assert backup.verify_error
        assert backups.newest() is None

    def test_a_damaged_file_is_not_copied_elsewhere(self, data: Path, tmp_path: Path) -> None:
        backup = make()
        self.flip(spool.path_of(backup.name))
        (tmp_path / "late").mkdir()
        late = folder("late", tmp_path / "late")
        BackupCopy.objects.create(backup=backup, destination=late)
        backups.copies_store(backup=backup, actor="test")
        assert copies(backup)["late"] == "failed"
        assert list((tmp_path / "late").iterdir()) == []


class TestWhatSaysNothing:
    """A key that is not here and a format of tomorrow say nothing about the file, neither that it is well nor that it is damaged."""

    def test_a_key_that_is_not_here(self, data: Path, settings) -> None:
        from ops.backup import age
        from ops.backup.errors import WrongKey

        backup = make(verify=False)
        settings.BACKUP_MACHINE_KEY = age.new_identity()[0]
        found = backups.backup_verify(backup=backup, actor="test")
        assert [one["code"] for one in found] == ["backup.not_opened"]
        assert (backup.verify_error, backup.verified_at is not None) == ("", True), "its checksum was compared"
        Backup.objects.update(sha256="", verified_at=None)
        with pytest.raises(WrongKey):
            backups.backup_verify(backup=Backup.objects.get(), actor="test")
        assert Backup.objects.get().verified_at is None

    def test_a_format_of_tomorrow(self, data: Path) -> None:
        from ops.backup.errors import NewerVersion

        backup = make(verify=False)
        path = spool.path_of(backup.name)
        path.write_bytes(path.read_bytes().replace(b"switchboard-backup 1", b"switchboard-backup 2", 1))
        Backup.objects.update(sha256="")
        with pytest.raises(NewerVersion, match="format 2"):
            backups.backup_verify(backup=Backup.objects.get(), actor="test")
        assert Backup.objects.get().verified_at is None


def test_a_copy_that_failed_is_no_copy_to_read(data: Path) -> None:
    folder("second", data / "second")
    backup = make()
    BackupCopy.objects.update(state=CopyState.FAILED)
    with pytest.raises(BackupError, match="There is no copy"):
        backups.backup_fetch(backup)


def test_one_copy_at_a_time_goes_to_a_destination(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ops.locks import named_lock
    from ops.services import backup_copies

    place = folder("second", data / "second")
    monkeypatch.setattr(backup_copies, "named_lock", lambda name, wait: named_lock(name, wait=0.0))
    with named_lock(f"backup.destination:{place.pk}"):
        backup = make()
    assert copies(backup) == {"second": "waiting"}
    assert backup.state == BackupState.PARTIAL
    assert backups.copies_store(backup=backup, actor="test")


def test_one_at_a_time(data: Path) -> None:
    from ops.locks import named_lock

    with named_lock(backups.LOCK):
        assert backups.running()
        with pytest.raises(BackupError, match="Another backup is being made"):
            make(wait=0.1)
    assert not backups.running()


def test_whose_lock_was_taken_over_meanwhile_keeps_nothing(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other has cleared our file away as one of the dead, or is about to."""
    from ops.locks import HeldLock, LockLost

    def lost(lock: HeldLock) -> None:
        raise LockLost("It was lost.")

    with monkeypatch.context() as patch:
        patch.setattr(HeldLock, "check", lost)
        with pytest.raises(LockLost):
            make()
    assert Backup.objects.get().state == BackupState.FAILED
    assert list(spool.folder().iterdir()) == []


def test_what_cannot_be_read_back_is_copied_nowhere(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ops.backup import verify
    from ops.findings import Finding

    folder("here", Path("backups"))
    folder("second", data / "second")
    bad = verify.VerifyReport(findings=[Finding("error", "backup.damaged", "Its end is missing.")])
    with monkeypatch.context() as patch:
        patch.setattr(verify, "verify_backup", lambda *given, **more: bad)
        with pytest.raises(BackupDamaged, match="cannot be read back: Its end is missing"):
            make()
    backup = Backup.objects.get()
    assert backup.verify_error == "Its end is missing."
    assert backup.verified_at is None
    assert copies(backup)["second"] == "waiting"
    assert backups.newest() is None


def test_copies_that_were_fetched_stay_for_a_day(data: Path) -> None:
    old, fresh = spool.fetched_path("old"), spool.fetched_path("fresh")
    for path, hours in ((old, 25), (fresh, 23)):
        path.write_bytes(b"x")
        then = timezone.now().timestamp() - hours * 3600
        os.utime(path, (then, then))
    assert spool.sweep() == [old.name]
    assert fresh.exists()


def test_by_schedule_through_a_worker(data: Path) -> None:
    now = timezone.now()
    BackupPlan.objects.update_or_create(pk=1, defaults={"next_at": now - timedelta(minutes=1)})
    assert backup_schedule.tick() == {"backup": 1}
    job = Job.objects.get(kind="backup.create")
    assert run_job(job.pk)
    job.refresh_from_db()
    backup = Backup.objects.get()
    assert (job.state, job.result["name"], backup.reason) == ("succeeded", backup.name, BackupReason.SCHEDULE)
    assert backup_schedule.plan().last_complete_at is not None
    # It is drilled at once, and a day later it is read again, once.
    assert Job.objects.filter(kind="backup.drill").count() == 1
    BackupPlan.objects.update(next_at=now + timedelta(days=3))
    assert "verify" not in backup_schedule.tick(now=now + timedelta(hours=23))
    assert backup_schedule.tick(now=now + timedelta(hours=25)) == {"verify": 1}
    assert backup_schedule.tick(now=now + timedelta(hours=26)) == {}


def test_cancelling_ends_it_and_leaves_nothing(data: Path) -> None:
    job = backups.backup_start(actor="test")
    Job.objects.filter(pk=job.pk).update(cancel_requested=True)
    assert run_job(job.pk)
    job.refresh_from_db()
    assert job.state == "cancelled"
    assert list(spool.folder().iterdir()) == []
    assert Backup.objects.get().state == BackupState.FAILED


def test_a_dead_run_is_settled_within_a_minute(data: Path) -> None:
    Backup.objects.create(name="switchboard-20260101T000000Z-deadbeef", actor="test", made_at=timezone.now())
    (spool.folder() / ".switchboard-20260101T000000Z-deadbeef.partial").write_bytes(b"half")
    BackupPlan.objects.update_or_create(pk=1, defaults={"next_at": timezone.now() + timedelta(hours=5)})
    assert backup_schedule.tick() == {"settled": 1}
    assert Backup.objects.get().state == BackupState.FAILED
    assert list(spool.folder().iterdir()) == []


def test_one_that_is_being_made_is_left_alone(data: Path) -> None:
    from ops.locks import named_lock

    with named_lock(backups.LOCK):
        Backup.objects.create(name="switchboard-20260101T000000Z-deadbeef", actor="test", made_at=timezone.now())
        assert backups.settle_dead(actor="test") == 0
    assert Backup.objects.get().state == BackupState.RUNNING
