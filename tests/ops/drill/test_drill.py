"""A drill passes for a backup that restores; what it does when it is stopped, killed, or given another key."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from tests.ops.drill.conftest import Installation, drill_of
from tests.peers.base import PROJECT_ROOT
from tests.support.prepared import database_with_tables
from tests.up.running import processes_naming

STEPS = ["fetch", "read", "tables", "rows", "constraints", "digests", "secrets", "fences", "attachments", "message"]


def test_a_backup_is_good_after_its_drill_and_nothing_is_left_of_it(installation, passed):
    assert list(passed["steps"]) == STEPS
    assert all(one["ok"] for one in passed["steps"].values())
    assert passed["good"] is True
    assert passed["left"] == []
    assert passed["findings"] == []
    assert (
        "(in its room) was stored, answered by a stand-in and delivered 2 times"
        in passed["steps"]["message"]["sentence"]
    )
    # Two services, three accounts, one file of keys; the person's password is a hash.
    assert passed["steps"]["secrets"]["sentence"].startswith("6 secrets open")
    events = installation.ask(
        "from ops.models import AuditEvent; result = AuditEvent.objects.filter(action='backup.drilled').count()"
    )
    assert events == 1


def test_the_installation_itself_is_left_alone(installation, passed):
    said = installation.ask(
        "result = [Message.objects.filter(text__contains='drill').count(), Turn.objects.filter(state='queued').count(),"
        " sorted(path.name for path in (settings.DATA_DIR / 'keys').iterdir())]"
    )
    assert said[:2] == [0, 3]
    assert "backup_machine_key" in said[2]
    assert not any("restore" in name or "offered" in name for name in said[2])


def test_a_file_that_is_not_what_was_made_fails_and_takes_the_word_back(installation):
    """With its checksum noted anew, only the reading itself can see it."""
    found = installation.ask(
        "import hashlib\n"
        "backup = make()\n"
        "first = drill(backup)\n"
        "from ops.backup.spool import path_of as file_of\n"
        "path = file_of(backup.name)\n"
        "data = bytearray(path.read_bytes()); data[len(data) // 2] ^= 1; path.write_bytes(data)\n"
        "changed = drill(backup)\n"
        "Backup.objects.filter(pk=backup.pk).update(sha256=hashlib.sha256(data).hexdigest(), good_at=timezone.now())\n"
        "backup.refresh_from_db()\n"
        "noted = drill(backup)\n"
        "backup.delete(); path.unlink(missing_ok=True)\n"
        "result = [first, changed, noted]"
    )
    first, changed, noted = found
    assert (first["state"], first["good"]) == ("passed", True)
    assert (changed["state"], changed["good"], list(changed["steps"])) == ("failed", False, ["fetch"])
    # Decrypting runs a little ahead, so that it may be seen when the file is opened.
    assert (noted["state"], noted["good"], list(noted["steps"])[1:] in (["open"], ["read"])) == ("failed", False, True)
    assert noted["verify_error"] == noted["error"]
    assert noted["left"] == []


def test_another_machine_s_key_says_nothing_about_the_backup(installation, passed):
    found = installation.ask(
        "import pyrage\n"
        "from ops.backup.errors import BackupError\n"
        f"backup = Backup.objects.get(pk={passed['id']!r})\n"
        "backup.good_at = timezone.now(); backup.save()\n"
        "try: drill(backup, identities=[str(pyrage.x25519.Identity.generate())]); result = None\n"
        "except BackupError as error: result = [str(error), Backup.objects.get(pk=backup.pk).good_at is not None,"
        " backup.drills.first().state]"
    )
    assert found[0].startswith("This backup opens with another key")
    assert found[1:] == [True, "failed"]


def test_a_drill_that_is_stopped_says_nothing_and_leaves_nothing(installation, passed):
    found = installation.ask(
        "from ops.backup.errors import BackupError\n"
        f"backup = Backup.objects.get(pk={passed['id']!r})\n"
        "backup.good_at = timezone.now(); backup.save()\n"
        "try: drill(backup, should_stop=lambda: True); result = None\n"
        "except BackupError as error: result = [str(error), Backup.objects.get(pk=backup.pk).good_at is not None,"
        " [path.name for path in (settings.DATA_DIR / 'drill').iterdir() if path.is_dir()]]"
    )
    assert found == ["The drill was stopped before it was done.", True, []]


def test_a_drill_whose_process_is_killed_ends_with_it_and_the_next_one_clears_up(installation, passed):
    installation.ask("BackupDrill.objects.all().delete()")
    command = subprocess.Popen(
        [sys.executable, "manage.py", "backup", "drill", passed["name"]], cwd=PROJECT_ROOT, env=installation.environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    folder = installation.data / "drill"
    until = time.monotonic() + 120
    while not any(path.is_dir() and (path / "keys").is_dir() for path in folder.iterdir()):
        assert time.monotonic() < until
        assert command.poll() is None
        time.sleep(0.02)
    os.kill(command.pid, signal.SIGKILL)
    command.wait()
    while inside := [pid for pid in processes_naming("backup_drill_inside") if _is_ours(pid, folder)]:
        assert time.monotonic() < until, inside
        time.sleep(0.05)
    assert [path for path in folder.iterdir() if path.is_dir()]
    assert installation.ask("result = list(BackupDrill.objects.values_list('state', flat=True))") == ["running"]
    found = drill_of(installation, passed["id"])
    assert (found["state"], found["good"], found["left"]) == ("passed", True, [])
    states = installation.ask("result = list(BackupDrill.objects.order_by('pk').values_list('state', 'error'))")
    assert states[0] == ["failed", "Its process ended while it ran; that says nothing about the backup."]


def _is_ours(pid: int, folder) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return str(folder).encode() in file.read()
    except OSError:
        return False


def test_the_job_says_how_it_went(installation, passed):
    job = installation.ask(
        "from ops.services.drills import drill_start\n"
        "from ops.services.jobs import run_job_now\n"
        f"job = run_job_now(drill_start(backup=Backup.objects.get(pk={passed['id']!r}), actor='person:ada'))\n"
        "result = [job.state, job.error, job.result, job.lines.count()]"
    )
    assert job[0] == "succeeded", job
    assert job[2]["state"] == "passed"
    assert job[3] == len(STEPS)


def test_nothing_outside_can_be_reached_from_inside():
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.5)
    port = listener.getsockname()[1]
    code = (
        "import socket, sys\n"
        "from ops.backup.drill_inside import cut_off\n"
        "if sys.argv[2] == 'cut': cut_off()\n"
        "import httpx\n"
        "try: httpx.get(f'http://127.0.0.1:{sys.argv[1]}/', timeout=0.3)\n"
        "except httpx.HTTPError as error: print(error)\n"
    )
    words, heard = [], []
    for how in ("cut", "open"):
        done = subprocess.run(
            [sys.executable, "-c", code, str(port), how], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True,
            env={**os.environ, "DJANGO_SETTINGS_MODULE": "controlplane.settings"},
        )  # fmt: skip
        words.append(done.stdout)
        try:
            listener.accept()[0].close()
            heard.append(True)
        except TimeoutError:
            heard.append(False)
    listener.close()
    assert "A drill reaches nothing outside" in words[0]
    assert heard == [False, True]


def test_the_hidden_command_runs_in_no_other_data_directory(installation):
    done = subprocess.run(
        [sys.executable, "manage.py", "backup_drill_inside", "restore"], cwd=PROJECT_ROOT, env=installation.environment,
        input='{"path": "/x", "identities": [], "scratch": "/somewhere"}\n', capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "another one" in done.stderr


@pytest.mark.e2e
def test_a_backup_of_postgresql_is_drilled_in_sqlite(tmp_path, postgres):
    database_with_tables(postgres, "drill")
    there = Installation(tmp_path / "pg", DATABASE_URL=postgres.url("drill"))
    try:
        found = there.ask("seed(); result = drill(make())")
    finally:
        there.close()
    assert found["state"] == "passed", found
    assert [one["ok"] for one in found["steps"].values()] == [True] * len(STEPS)
