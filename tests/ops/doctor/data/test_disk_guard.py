"""Low space pauses what can wait, says so, and lets it go on by itself."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import pytest
from django.core.exceptions import ValidationError

from ops import disk_guard
from ops.live import forget, live_set
from ops.logbook.keeper import Keeper
from ops.logbook.status import write_status
from ops.models import CheckState, LogLine
from ops.services.logbook import capture_start

pytestmark = pytest.mark.django_db(transaction=True)
MB = 2**20


@pytest.fixture(autouse=True)
def disk(monkeypatch, settings, tmp_path):
    settings.DATA_DIR = tmp_path
    box = SimpleNamespace(total=100_000 * MB, free=80_000 * MB, used=20_000 * MB)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: box)
    monkeypatch.setattr(disk_guard, "_LOOK_EVERY", 0.0)
    forget()
    disk_guard.forget()
    yield box
    disk_guard.forget()
    forget()


def test_what_can_wait_waits_and_goes_on_by_itself(disk):
    assert [disk_guard.may(work) for work in disk_guard.WORKS] == [""] * len(disk_guard.WORKS)
    disk.free = 400 * MB
    for work in disk_guard.WORKS:
        assert "only 400 MB are free" in disk_guard.may(work)
    assert len(disk_guard.paused()) >= 5
    # A bit more than where it paused is not enough: it would go to and fro.
    disk.free = 550 * MB
    assert disk_guard.may("backup")
    disk.free = 650 * MB
    assert disk_guard.may("backup") == ""
    assert disk_guard.shortage() == ""
    disk.free = 550 * MB
    assert disk_guard.may("backup") == ""


def test_what_somebody_asked_for_does_not_say_that_it_goes_on_by_itself(disk):
    disk.free = 400 * MB
    assert disk_guard.may("backup").endswith("It goes on by itself when there is room.")
    said = disk_guard.may("backup", asked_for="There is no room to compare the backup")
    assert said.startswith("There is no room to compare the backup: only 400 MB are free")
    assert said.endswith("Make room, then ask for it again.")


def test_all_say_the_same_of_what_is_kept(disk):
    """Whether a process has seen the shortage before or sees it now; the former says besides with how much it goes on."""
    disk.free = 400 * MB
    first, later = disk_guard.shortage(), disk_guard.shortage()
    assert "500 MB are kept for the database" in first
    assert "500 MB are kept for the database; it goes on with 600 MB" in later


def test_work_that_would_use_the_reserve_up_does_not_begin(disk):
    disk.free = 2000 * MB
    assert disk_guard.may("backup", needs=1000 * MB) == ""
    refused = disk_guard.may("backup", needs=1600 * MB)
    assert "1.6 GB are needed" in refused
    assert "disk.cleanup" in refused


def test_an_operator_sets_the_reserve_and_may_do_without(disk):
    disk.free = 400 * MB
    live_set(key="disk.reserve_mb", value=100, actor="test")
    assert disk_guard.may("export") == ""
    disk.free = 90 * MB
    assert disk_guard.may("export")
    live_set(key="disk.reserve_mb", value=0, actor="test")
    assert disk_guard.may("export", needs=10**15) == "", "0 never pauses anything"
    with pytest.raises(ValidationError):
        live_set(key="disk.reserve_mb", value="many", actor="test")


def test_files_without_a_number_left_are_as_bad_as_no_room(disk, monkeypatch):
    numbers = SimpleNamespace(f_files=1_000_000, f_favail=999)
    monkeypatch.setattr(disk_guard.os, "statvfs", lambda path: numbers)
    assert "only 999 more files" in disk_guard.may("backup")
    numbers.f_favail = 1000
    assert disk_guard.may("backup") == ""
    numbers.f_files = numbers.f_favail = 0
    assert disk_guard.may("backup") == "", "this file system counts none"


def test_a_disk_that_cannot_be_asked_is_no_full_one(disk, monkeypatch):
    """Whoever writes there is told what is wrong with it."""

    def gone(path):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(disk_guard.os, "statvfs", gone)
    assert disk_guard.may("backup") == ""


def test_the_limit_of_the_data_directory_counts_as_well(check, disk):
    check("disk.space")
    CheckState.objects.filter(check_id="disk.space").update(status="fail", evidence={"budget_bytes": 5 * MB})
    disk_guard.forget()
    assert "more than the 5.0 MB that it may" in disk_guard.may("backup")
    disk_guard.forget()
    CheckState.objects.update(status="pass")
    assert disk_guard.may("backup") == ""


def test_the_check_of_the_disk_says_what_waits(check, disk):
    disk.free = 400 * MB
    run = check("disk.space")
    assert run.status in ("warn", "fail")
    assert disk_guard.WAITING in run.sentence
    assert "400 MB" in run.evidence["waits"]
    disk.free = 80_000 * MB
    run = check("disk.space")
    assert (run.status, run.evidence["waits"]) == ("pass", "")


def test_of_the_log_only_errors_become_rows_until_there_is_room(disk):
    keeper = Keeper(role="test", process="test")

    def say(level: str) -> None:
        keeper.take({"level": level, "event": f"one {level}", "logger": "test.disk"})

    disk.free = 400 * MB
    say("info")
    say("error")
    keeper.flush()
    assert list(LogLine.objects.filter(logger="test.disk").values_list("level", flat=True)) == ["error"]
    assert (keeper.spared, keeper.dropped, keeper.trouble) == (1, 0, ""), "room is no trouble of the log"
    assert "below errors" in keeper.facts()["paused"]
    disk.free = 80_000 * MB
    assert keeper.facts()["paused"] == "", "it goes on although nobody has logged since"
    say("info")
    keeper.flush()
    assert LogLine.objects.filter(logger="test.disk").count() == 2


def test_a_log_that_waits_for_room_is_the_matter_of_the_disk_alone(check, disk):
    disk.free = 400 * MB
    run = check("logs.search")
    assert (run.status, "below errors" in run.sentence) == ("skip", True)
    disk.free = 80_000 * MB
    assert check("logs.search").status == "pass"
    facts = Keeper(role="up", process="other:1:1").facts()
    write_status(process="other:1:1", role="up", facts={**facts, "paused": "Lines wait: short."})
    run = check("logs.search")
    assert (run.status, run.sentence) == ("skip", "Lines wait: short.")
    write_status(process="other:1:1", role="up", facts=facts)
    assert check("logs.search").status == "pass"


def test_the_check_of_the_disk_tells_the_guard_at_once(check, disk, tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "old.log.1").write_bytes(b"x" * (3 * MB))
    live_set(key="disk.budget_mb", value=2, actor="test")
    assert disk_guard.may("backup") == ""
    assert check("disk.space").status == "fail"
    assert "more than the 2.0 MB that it may" in disk_guard.may("backup")
    (tmp_path / "logs" / "old.log.1").unlink()
    assert check("disk.space").status == "pass"
    assert disk_guard.may("backup") == ""


def test_calls_are_not_captured_meanwhile(disk):
    disk.free = 400 * MB
    with pytest.raises(ValidationError, match="Calls are not captured"):
        capture_start(minutes=5, actor="test")
    disk.free = 80_000 * MB
    assert capture_start(minutes=5, actor="test").pk


def test_every_page_says_so_above_all_else(disk, client, admin_user):
    client.force_login(admin_user)
    waits = disk_guard.WAITING.split(", ")[0]
    assert waits not in client.get("/admin/ops/service/").content.decode()
    disk.free = 400 * MB
    page = client.get("/admin/ops/service/").content.decode()
    assert "Only 400 MB are free" in page
    assert waits in page
    profile = client.get("/profile/").content.decode()
    assert "Files cannot be sent at the moment" in profile
    disk.free = 80_000 * MB
    assert "Files cannot be sent" not in client.get("/profile/").content.decode()
