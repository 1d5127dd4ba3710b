"""``manage.py up`` without a homeserver, as a process: start, stop, second start, refusals, kill -9."""

from __future__ import annotations

import signal
import socket
import sqlite3
import time

import httpx
import pytest

from controlplane.up.errors import EXIT_CODES
from tests.up.running import processes_naming

pytestmark = pytest.mark.e2e


def table_counts(path, only: str = "") -> dict[str, int]:
    """Rows of every table that a start which changes nothing must leave alone, or of one; empty tables are left out."""
    moving = {"ops_heartbeat", "ops_logline", "ops_process", "ops_namedlock", "agents_syncrun", "django_session"}
    with sqlite3.connect(path) as database:
        names = [row[0] for row in database.execute("select name from sqlite_master where type = 'table'")]
        wanted = [only] if only else [name for name in names if name not in moving and "check" not in name]
        counts = {name: database.execute(f'select count(*) from "{name}"').fetchone()[0] for name in wanted}
    return {name: count for name, count in counts.items() if count}


def test_starts_serves_and_stops(make_up):
    up = make_up("--no-homeserver", fresh=True)
    up.start()
    assert up.get("/readyz").status_code == 200
    assert up.get("/livez").status_code == 200
    # The worker has reported before beat's first tick, which comes after ten seconds.
    until = time.monotonic() + 90
    while not table_counts(up.data / "switchboard.sqlite3", "ops_heartbeat") and time.monotonic() < until:
        time.sleep(0.05)
    assert table_counts(up.data / "switchboard.sqlite3", "ops_heartbeat") == {"ops_heartbeat": 1}
    text = up.output()
    assert "● Database:" in text
    assert "Ada" in text
    assert "agents have no rooms" in " ".join(text.split())
    assert up.setup_path() in text
    wide = [line for line in text.splitlines() if len(line) > 80]
    # Addresses and paths are never broken; log lines go to standard error.
    assert [line for line in wide if "http" not in line and str(up.data) not in line and line[:2] != "20"] == []
    # SECRET_KEY and tokens never reach the terminal.
    for key in (up.data / "keys").iterdir():
        assert key.read_text().strip() not in text
    code, seconds = up.stop()
    assert code == 0, up.output()
    assert seconds < 30
    assert "Stopped" in up.output()
    assert not processes_naming(str(up.data))
    with pytest.raises(httpx.ConnectError):
        up.get("/livez")


def test_terminate_is_as_clean_as_ctrl_c(make_up):
    up = make_up("--no-homeserver", "--no-sync")
    up.start()
    code, seconds = up.stop(signal.SIGTERM)
    assert code == 0
    assert seconds < 30


def test_a_second_start_is_quick_and_changes_nothing(make_up):
    up = make_up("--no-homeserver")
    up.start()
    link = up.setup_path()
    up.stop()
    before = table_counts(up.data / "switchboard.sqlite3")
    keys = {path.name: path.read_text() for path in (up.data / "keys").iterdir()}
    seconds = up.start()
    assert up.setup_path() == link
    assert "Services from the settings" not in up.output()
    assert "migrations applied" not in up.output()
    up.stop()
    assert table_counts(up.data / "switchboard.sqlite3") == before
    assert {path.name: path.read_text() for path in (up.data / "keys").iterdir()} == keys
    # The target is 5 s; other tests may share the machine.
    assert seconds < 60


def test_a_second_up_on_the_same_data_is_refused(make_up):
    first = make_up("--no-homeserver", "--no-sync")
    first.start()
    second = make_up("--no-homeserver", folder=first.folder)
    second.output_path = first.folder / "second.txt"
    assert second.spawn().wait(120) == EXIT_CODES["running"]
    said = " ".join(second.output().split())
    assert "already runs on this data directory" in said
    assert str(first.process.pid) in said
    assert first.get("/readyz").status_code == 200


def test_a_taken_port_is_named(make_up):
    up = make_up("--no-homeserver")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", up.port))
        taken.listen()
        assert up.spawn().wait(120) == EXIT_CODES["port"]
    said = " ".join(up.output().split())
    assert f"Port {up.port} on 127.0.0.1 is taken" in said
    assert "PORT" in said


def test_port_zero_takes_a_free_one_and_other_commands_know_it(make_up):
    up = make_up("--no-homeserver", "--no-sync", "--port", "0")
    up.start()
    link = up.manage("setup_link").strip()
    assert link.endswith(up.setup_path())
    assert not link.startswith(up.url), "the port of the environment is not the one that was taken"
    assert httpx.get(link, timeout=10).status_code == 200


def test_a_wrong_setting_stops_the_start(make_up):
    up = make_up("--no-homeserver", MATRIX_INVITE="alice")
    assert up.spawn().wait(120) == EXIT_CODES["settings"]
    assert "switchboard.E005" in up.output()
    assert "'alice' is not a Matrix id" in up.output()


def test_an_odd_setting_is_said_and_does_not_stop(make_up):
    up = make_up("--no-homeserver", "--no-sync", MATRIX_HOMESERVER_ULR="http://x", LETTA_TOKEN="changeme")
    up.start()
    said = " ".join(up.output().split())
    assert "MATRIX_HOMESERVER_ULR is not a setting" in said
    assert "switchboard.W001" in said


def test_kill_nine_leaves_nothing_that_the_next_start_does_not_mend(make_up):
    up = make_up("--no-homeserver")
    up.start()
    up.kill9()
    up.start()
    assert up.get("/readyz").status_code == 200
    code, _ = up.stop()
    assert code == 0
