"""Which backups are found again, which are removed and which stay: whatever the rules and the disk say, the last good one is kept."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from ops.backup import spool
from ops.backup.errors import NoRoom, NotABackup
from ops.models import AuditEvent
from ops.models.backup import (
    Backup,
    BackupCopy,
    BackupDestination,
    BackupPlan,
    BackupReason,
    BackupState,
    CopyState,
)
from ops.services import backup_pruning, backups
from ops.services.backup_destinations import destination_remove
from tests.ops.vault.making import copies, failing_at, folder, make


class TestFoundAgain:
    def test_after_the_rows_were_lost(self, data: Path) -> None:
        backup = make()
        Backup.objects.all().delete()
        (spool.folder() / "holiday.sbk").write_bytes(b"no backup\n")
        findings = backups.backup_sync_list(actor="test")
        assert sorted(one.code for one in findings) == ["backup.found", "backup.not_a_backup"]
        found = Backup.objects.get()
        assert (found.pk, found.name, found.reason) == (backup.pk, backup.name, BackupReason.FOUND)
        assert (found.recipients, found.made_at, found.sha256) == (backup.recipients, backup.made_at, "")
        assert backups.backup_verify(backup=found, actor="test") == []
        assert (found.sha256, found.rows, found.parts) == (backup.sha256, backup.rows, backup.parts)
        # A second look changes nothing.
        assert [one.code for one in backups.backup_sync_list(actor="test")] == ["backup.not_a_backup"]

    def test_a_copy_that_is_gone_says_so_and_one_that_is_back_too(self, data: Path) -> None:
        backup = make()
        path = spool.path_of(backup.name)
        path.rename(path.with_suffix(".away"))
        assert [one.code for one in backups.backup_sync_list(actor="test")] == ["backup.copy_missing"]
        assert (copies(backup), Backup.objects.get().state) == ({"here": "missing"}, BackupState.PARTIAL)
        assert backups.newest() is None
        path.with_suffix(".away").rename(path)
        assert backups.backup_sync_list(actor="test") == []
        assert (copies(backup), Backup.objects.get().state) == ({"here": "stored"}, BackupState.COMPLETE)

    def test_a_file_that_somebody_brings(self, data: Path, tmp_path: Path) -> None:
        backup = make()
        brought = tmp_path / "from my safe.sbk"
        shutil.move(spool.path_of(backup.name), brought)
        backups.backup_sync_list(actor="test")
        backups.backup_delete(backup=backup, actor="test")
        with brought.open("rb") as stream:
            again = backups.backup_upload(name=brought.name, stream=stream, actor="person:ada")
        assert (again.name, again.sha256, again.size) == ("frommysafe", backup.sha256, backup.size)
        assert backups.backup_verify(backup=again, actor="test") == []
        with brought.open("rb") as stream:
            stream.seek(10)
            before = sorted(spool.folder().iterdir())
            with pytest.raises(NotABackup):
                backups.backup_upload(name="x.sbk", stream=stream, actor="person:ada")
        assert sorted(spool.folder().iterdir()) == before, "nothing of it is kept"
        assert AuditEvent.objects.get(action="backup.uploaded").actor == "person:ada"
        with brought.open("rb") as stream:
            twice = backups.backup_upload(name=f"../../{brought.name}", stream=stream, actor="person:ada")
        assert twice.name.startswith("frommysafe-"), "one that is here already is not overwritten"
        assert spool.path_of(again.name).is_file()
        with brought.open("rb") as stream, pytest.MonkeyPatch.context() as patch:
            patch.setattr(spool, "may", lambda work, **more: "Backups wait: there is no room.")
            with pytest.raises(NoRoom):
                backups.backup_upload(name="more.sbk", stream=stream, actor="person:ada")

    def test_a_copy_that_became_shorter_and_a_place_that_fails(self, data: Path, tmp_path: Path) -> None:
        folder("first", tmp_path / "gone")  # asked first, and it fails
        folder("here", Path("backups"))
        backup = make()
        path = spool.path_of(backup.name)
        whole = path.read_bytes()
        path.write_bytes(whole[:-1])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("ops.backup.destinations.folder.FolderPlace.entries", failing_at(tmp_path / "gone"))
            codes = [one.code for one in backups.backup_sync_list(actor="test")]
        assert codes == ["backup.destination_failed", "backup.copy_short"]
        assert copies(backup)["here"] == "failed"
        path.write_bytes(whole)
        backups.backup_sync_list(actor="test")
        assert copies(backup)["here"] == "stored"

    def test_one_that_is_being_written_is_no_copy_yet(self, data: Path) -> None:
        backup = make()
        Backup.objects.update(state=BackupState.RUNNING)
        BackupCopy.objects.all().delete()
        backups.backup_sync_list(actor="test")
        assert copies(backup) == {}


class TestRemoving:
    def test_the_last_good_one_and_pinned_ones_stay(self, data: Path) -> None:
        old, good, pinned, new = (make(verify=False) for _ in range(4))
        for days, one in ((40, old), (30, good), (20, pinned), (0, new)):
            Backup.objects.filter(pk=one.pk).update(made_at=timezone.now() - timedelta(days=days))
        Backup.objects.filter(pk=good.pk).update(good_at=timezone.now())
        backups.backup_pin(backup=pinned, pinned=True, actor="test")
        BackupDestination.objects.update(keep_last=1, keep_daily=0, keep_weekly=0, keep_monthly=0)
        planned = backup_pruning.prune(dry_run=True, actor="test")
        assert [verdict.copy.name for _, verdict in planned.going] == [old.name]
        assert spool.path_of(old.name).exists(), "a dry run removes nothing"
        done = backup_pruning.prune(dry_run=False, actor="test")
        assert (done.removed, done.freed) == (1, old.size)
        assert {path.name for path in spool.folder().iterdir()} == {f"{one.name}.sbk" for one in (good, pinned, new)}
        assert copies(old) == {"here": "pruned"}
        for one, why in ((good, "last good"), (pinned, "pinned")):
            with pytest.raises(ValueError, match=why):
                backups.backup_delete(backup=Backup.objects.get(pk=one.pk), actor="test")
        with pytest.raises(ValueError, match="only copy of the last good"):
            destination_remove(destination=BackupDestination.objects.get(), actor="test")

    def test_one_that_is_being_made_or_is_gone_from_nowhere_stays_in_the_list(self, data: Path, tmp_path: Path) -> None:
        from ops.backup.errors import DestinationFailed
        from ops.locks import named_lock

        backup = make(verify=False)
        Backup.objects.filter(pk=backup.pk).update(state=BackupState.RUNNING)
        with named_lock(backups.LOCK), pytest.raises(ValueError, match="is being made"):
            backups.backup_delete(backup=Backup.objects.get(), actor="test")
        Backup.objects.update(state=BackupState.COMPLETE)
        with pytest.MonkeyPatch.context() as patch:

            def refuses(place: object, name: str) -> None:
                raise DestinationFailed("It does not let go.")

            patch.setattr("ops.backup.destinations.folder.FolderPlace.delete", refuses)
            with pytest.raises(DestinationFailed, match="1 place does not let go"):
                backups.backup_delete(backup=Backup.objects.get(), actor="test")
        assert Backup.objects.exists(), "so that it can be tried again"
        backups.backup_delete(backup=Backup.objects.get(), actor="person:ada")
        event = AuditEvent.objects.get(action="backup.deleted")
        assert (event.actor, event.target_id, event.before["size"]) == ("person:ada", str(backup.pk), backup.size)

    def test_what_counts_as_good_and_as_newest(self, data: Path) -> None:
        """By rows: damaged ones are not good, those found somewhere are not ours, those without a copy are nowhere."""
        place = BackupDestination.objects.create(name="here", options={"path": "backups"})
        rows = {}
        for hours, name in enumerate(("found", "damaged", "nowhere", "ours", "older")):
            made_at = timezone.now() - timedelta(hours=hours)
            rows[name] = Backup.objects.create(
                name=name, actor="test", made_at=made_at, good_at=made_at, state=BackupState.COMPLETE
            )
            if name != "nowhere":
                BackupCopy.objects.create(backup=rows[name], destination=place, state=CopyState.STORED)
        Backup.objects.filter(name="damaged").update(verify_error="It is damaged.")
        Backup.objects.filter(name="found").update(reason=BackupReason.FOUND, good_at=None)
        assert backups.last_good() == rows["ours"]
        assert backups.newest() == rows["ours"]
        BackupCopy.objects.filter(backup=rows["ours"]).update(state=CopyState.MISSING)
        assert backups.last_good() == backups.newest() == rows["older"]

    def test_those_of_another_installation_are_left_alone(self, data: Path) -> None:
        theirs, ours, newest = make(verify=False), make(verify=False), make(verify=False)
        Backup.objects.filter(pk=theirs.pk).update(installation="another", made_at=timezone.now() - timedelta(days=99))
        Backup.objects.filter(pk=ours.pk).update(made_at=timezone.now() - timedelta(days=98))
        BackupDestination.objects.update(keep_last=1, keep_daily=0, keep_weekly=0, keep_monthly=0)
        assert backup_pruning.prune(dry_run=False, actor="test").removed == 1
        assert spool.path_of(theirs.name).exists()
        assert not spool.path_of(ours.name).exists()
        assert spool.path_of(newest.name).exists()


class TestRules:
    """By rows: what the rules of a destination are asked with."""

    def rows(self, *facts: dict) -> list[Backup]:
        place, _ = BackupDestination.objects.get_or_create(name="here", defaults={"options": {"path": "backups"}})
        made = []
        for number, fact in enumerate(facts):
            copied = fact.pop("copied", True)
            row = Backup.objects.create(
                **{
                    "name": f"b{number}",
                    "actor": "test",
                    "installation": spool.installation(),
                    "state": "complete",
                    **fact,
                }
            )
            if copied:
                spool.path_of(row.name).write_bytes(b"x")
                BackupCopy.objects.create(backup=row, destination=place, state=CopyState.STORED)
            made.append(row)
        BackupDestination.objects.update(keep_last=0, keep_daily=0, keep_weekly=0, keep_monthly=0)
        return made

    def ago(self, days: float) -> dict:
        return {"made_at": timezone.now() - timedelta(days=days)}

    def going(self) -> list[str]:
        return [verdict.copy.name for _, verdict in backup_pruning.prune(dry_run=True, actor="test").going]

    def test_those_before_a_change_stay_and_damaged_ones_fill_no_place(self, data: Path) -> None:
        self.rows(
            self.ago(0),
            {**self.ago(1), "verify_error": "It is damaged."},
            self.ago(2),
            {**self.ago(3), "reason": BackupReason.SAFETY},
            self.ago(4),
            {**self.ago(40), "reason": BackupReason.SAFETY},
        )
        BackupDestination.objects.update(keep_last=2)
        assert self.going() == ["b1", "b4", "b5"]

    def test_days_begin_where_the_plan_says(self, data: Path) -> None:
        yesterday = (timezone.now() - timedelta(days=2)).replace(hour=20, minute=0)
        self.rows({"made_at": yesterday + timedelta(hours=3.5)}, {"made_at": yesterday})
        BackupDestination.objects.update(keep_daily=2)
        assert self.going() == ["b1"]
        BackupPlan.objects.update_or_create(pk=1, defaults={"timezone": "Europe/Berlin"})
        assert self.going() == []

    def test_whoever_was_pinned_since_the_plan_stays(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows(self.ago(0), self.ago(9), self.ago(10))
        planned = backup_pruning.plan_for

        def then_pinned(*given):
            found = planned(*given)
            Backup.objects.filter(name="b1").update(pinned=True)
            return found

        monkeypatch.setattr(backup_pruning, "plan_for", then_pinned)
        assert backup_pruning.prune(dry_run=False, actor="test").removed == 1
        assert {path.stem for path in spool.folder().iterdir()} == {"b0", "b1"}

    def test_rows_without_copies_are_forgotten_when_they_are_old(self, data: Path) -> None:
        self.rows(
            self.ago(0),
            {**self.ago(91), "pinned": True, "copied": False},
            {**self.ago(91), "state": BackupState.RUNNING, "copied": False},
            {**self.ago(91), "state": BackupState.FAILED, "copied": False},
            {**self.ago(89), "state": BackupState.FAILED, "copied": False},
            {**self.ago(91), "reason": BackupReason.FOUND, "installation": "another"},
        )
        backup_pruning.prune(dry_run=False, actor="test")
        assert set(Backup.objects.values_list("name", flat=True)) == {"b0", "b1", "b2", "b4", "b5"}


def test_without_a_destination_the_only_file_stays(data: Path) -> None:
    backups_here = folder("here", Path("backups"))
    BackupDestination.objects.update(enabled=False)
    backup = make()
    assert copies(backup) == {}
    backups.copies_store(backup=backup, actor="test")
    assert spool.path_of(backup.name).is_file()
    assert backups_here.pk
