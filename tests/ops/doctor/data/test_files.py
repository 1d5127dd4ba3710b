"""Room on the disk, log files: seen, mended, undone."""

from __future__ import annotations

import gzip
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from ops.doctor.guides import guide_for
from ops.doctor.repairs import RepairRefused
from ops.doctor_data import fault_files, usage
from ops.live import forget, live_set
from ops.models import CheckState
from ops.services.repairs import repair_plan, repair_start, repair_undo

pytestmark = pytest.mark.django_db(transaction=True)
GB = 2**30


@pytest.fixture(autouse=True)
def data_dir(settings, tmp_path):
    settings.DATA_DIR = tmp_path
    forget()
    yield tmp_path
    forget()


def start(repair, **params):
    return repair_start(repair_id=repair, actor="test", trigger="command", params=params)


class TestDisk:
    @pytest.fixture
    def room(self, monkeypatch):
        box = SimpleNamespace(total=1000 * GB, free=500 * GB, used=0)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: box)
        return box

    def test_the_slope_says_when_it_will_be_full(self, check, room):
        assert check("disk.space").status == "pass"
        now, used = time.time(), room.total - room.free
        # 4 GB an hour for ten hours: 500 GB last five days and a bit.
        samples = [[now - 36000 + 600 * n, used - 40 * GB + n * 4 * GB / 6] for n in range(60)]
        CheckState.objects.filter(check_id="disk.space").update(evidence={"samples": samples})
        run = check("disk.space")
        assert run.status == "warn"
        assert run.evidence["days_to_full"] == pytest.approx(5.2, abs=0.2)
        room.free = 200 * GB
        samples = [[at, size + 300 * GB] for at, size in samples]
        CheckState.objects.filter(check_id="disk.space").update(evidence={"samples": samples})
        run = check("disk.space")
        assert (run.status, "in 2." in run.sentence) == ("fail", True)

    def test_a_few_minutes_say_nothing_about_days(self):
        now = time.time()
        assert usage.days_to_full([[now + n * 600, n * GB] for n in range(6)], 100 * GB) is None
        assert usage.days_to_full([[now + n * 6000, -n * GB] for n in range(9)], 100 * GB) is None

    def test_samples_stay_few_and_reach_back(self):
        samples = []
        for minute in range(0, 60 * 24 * 14, 5):
            samples = usage.with_sample(samples, minute * 60.0, minute)
        assert len(samples) <= 144
        assert samples[-1][0] - samples[0][0] > 7 * 86400

    def test_it_names_what_uses_the_room(self, check, room, data_dir):
        (data_dir / "backups").mkdir()
        (data_dir / "backups" / "b.zip").write_bytes(b"x" * 3_000_000)
        room.free = 100 * 2**20
        run = check("disk.space")
        assert run.status == "fail"
        assert run.evidence["used_by"]["backups"] >= 3_000_000
        assert "backups 2.9 MB" in run.sentence or "backups 3.0 MB" in run.sentence
        assert str(data_dir) in guide_for("disk.space").steps[0].snippet

    def test_break_red_plan_clean_green(self, check, data_dir):
        assert check("disk.space").status in ("pass", "warn")
        memory = fault_files.fill_disk()
        try:
            run = check("disk.space")
            assert run.status == "fail"
            assert "may use" in run.sentence
            planned = repair_plan(repair_id="disk.cleanup", actor="test")
            assert [(c.what, c.before) for c in planned.plan.changes if c.target == "rotated_logs"] == [
                ("practice.log.1", "80 MB")
            ]
            assert Path(memory["path"]).exists()
            done = start("disk.cleanup", items="rotated_logs")
            assert done.state == "succeeded", done.error
            assert not Path(memory["path"]).exists()
            assert check("disk.space").status in ("pass", "warn")
            assert start("disk.cleanup", items="rotated_logs").state == "unneeded"
        finally:
            fault_files.empty_disk(memory)

    def test_only_what_is_ours_goes(self, data_dir):
        (data_dir / "logs").mkdir()
        for name in ("worker.log", "worker.log.1", "worker.log.20260101-000000.gz"):
            (data_dir / "logs" / name).write_text("x")
        (data_dir / "mine.log.1").write_text("x")
        kept = data_dir / "recovered" / "20200101-000000-000000"
        kept.mkdir(parents=True)
        (kept / "damaged.sqlite3").write_text("x")
        import os

        os.utime(kept, (1, 1))
        assert start("disk.cleanup").state == "succeeded"
        assert sorted(path.name for path in data_dir.rglob("*") if path.is_file()) == ["mine.log.1", "worker.log"]
        assert not kept.exists()
        with pytest.raises(RepairRefused, match="Nothing is called"):
            repair_plan(repair_id="disk.cleanup", params={"items": "everything"}, actor="test")

    def test_backups_beyond_their_rules_go_and_the_newest_stays(self, data_dir):
        from datetime import timedelta

        from django.utils import timezone

        from ops.backup import spool
        from ops.models import Backup, BackupCopy, BackupDestination

        place = BackupDestination.objects.create(
            name="here", options={"path": "backups"}, keep_last=1, keep_daily=0, keep_weekly=0, keep_monthly=0
        )
        for days in (40, 50, 60):
            made = timezone.now() - timedelta(days=days)
            row = Backup.objects.create(
                name=f"switchboard-{days}", state="complete", made_at=made, actor="test", size=9
            )
            spool.path_of(row.name).write_bytes(b"a backup.")
            BackupCopy.objects.create(backup=row, destination=place, state="stored", size=9, stored_at=made)
        planned = repair_plan(repair_id="disk.cleanup", params={"items": "backups"}, actor="test")
        assert [change.target for change in planned.plan.changes] == ["backups", "backups"]
        assert start("disk.cleanup", items="backups").state == "succeeded"
        assert [path.name for path in spool.folder().glob("*.sbk")] == ["switchboard-40.sbk"]
        assert start("disk.cleanup", items="backups").state == "unneeded"

    def test_empty_pages_of_the_database_are_given_back(self, monkeypatch, transactional_db):
        from ops.doctor_data import sqlite

        with sqlite.raw(timeout=20) as connection:
            connection.execute("CREATE TABLE ballast (x TEXT)")
            for _ in range(8):
                connection.execute("INSERT INTO ballast VALUES (hex(randomblob(1000000)))")
            connection.execute("DROP TABLE ballast")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        before = sqlite.database_file().stat().st_size
        planned = repair_plan(repair_id="disk.cleanup", params={"items": "vacuum"}, actor="test")
        assert planned.plan.changes[0].what == "empty pages of the database"
        assert start("disk.cleanup", items="vacuum").state == "succeeded"
        assert sqlite.database_file().stat().st_size < before - 10_000_000


class TestLogs:
    def test_break_red_rotate_green_undo(self, check, data_dir):
        assert check("logs.oversize").status == "pass"
        memory = fault_files.grow_log()
        path = Path(memory["path"])
        whole = path.read_bytes()
        run = check("logs.oversize")
        assert run.status == "fail"
        assert run.evidence["files"]["logs/practice.log"] == len(whole)
        done = start("logs.rotate")
        assert done.state == "succeeded", done.error
        assert check("logs.oversize").status == "pass"
        (packed,) = path.parent.glob("practice.log.*.gz")
        assert gzip.decompress(packed.read_bytes()) == whole
        assert packed.stat().st_mode & 0o777 == 0o600
        with path.open("ab") as log:
            log.write(b"a new line\n")
        assert start("logs.rotate").state == "unneeded"
        repair_undo(run=done, actor="test")
        assert path.read_bytes() == whole + b"a new line\n"
        assert check("logs.oversize").status == "fail"
        fault_files.shrink_log(memory)
        assert list(path.parent.iterdir()) == []

    def test_whoever_writes_goes_on_writing(self, data_dir):
        live_set(key="logs.max_file_mb", value=1, actor="test")
        (data_dir / "logs").mkdir()
        path = data_dir / "logs" / "worker.log"
        with path.open("ab", buffering=0) as writer:
            writer.write(b"x" * 2_000_000)
            assert start("logs.rotate").state == "succeeded"
            writer.write(b"after\n")
        assert path.read_bytes() == b"after\n"

    def test_the_last_five_are_kept(self, data_dir):
        live_set(key="logs.max_file_mb", value=1, actor="test")
        folder = data_dir / "logs"
        folder.mkdir()
        for number in range(7):
            (folder / f"worker.log.2020010{number}-000000.gz").write_bytes(b"x")
        (folder / "worker.log").write_bytes(b"x" * 2_000_000)
        start("logs.rotate")
        assert len(list(folder.glob("worker.log.*"))) == 5

    def test_it_says_how_fast_it_grows(self, check, data_dir):
        (data_dir / "logs").mkdir()
        path = data_dir / "logs" / "worker.log"
        path.write_bytes(b"x" * 1000)
        check("logs.oversize")
        state = CheckState.objects.get(check_id="logs.oversize")
        state.evidence["at"] -= 86400
        state.save()
        path.write_bytes(b"x" * 5000)
        assert check("logs.oversize").evidence["per_day_bytes"]["logs/worker.log"] == pytest.approx(4000, rel=0.01)

    def test_the_guide_has_docker_and_systemd(self):
        text = str(guide_for("logs.oversize").to_dict())
        assert "max-size" in text
        assert "SystemMaxUse" in text
