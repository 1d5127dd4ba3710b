"""``manage.py up`` with its local Synapse: rooms, the first operator, kill -9 of either."""

from __future__ import annotations

import itertools
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time

import httpx
import pytest

from tests.peers.base import PROJECT_ROOT
from tests.up.running import processes_naming

pytestmark = pytest.mark.e2e

PASSWORD = "brass-cord-and-lamp"


def eventually(probe, seconds: float = 120.0):
    """The first true answer of ``probe``."""
    until = time.monotonic() + seconds
    while True:
        answer = probe()
        if answer or time.monotonic() > until:
            return answer
        time.sleep(0.1)


@pytest.fixture
def up(make_up, synapse_environment):
    return make_up(SWITCHBOARD_SYNAPSE_VENV=str(synapse_environment))


@pytest.fixture
def first_up(make_up, synapse_environment):
    """One that has never been started: it has not even a database."""
    return make_up(SWITCHBOARD_SYNAPSE_VENV=str(synapse_environment), fresh=True)


def homeserver_of(up) -> str:
    found = re.search(r"homeserver (http://127\.0\.0\.1:\d+)", up.output())
    assert found, up.output()
    return found.group(1)


def synapse_of(up) -> list[int]:
    return processes_naming(str(up.data / "synapse" / "homeserver.yaml"))


def test_rooms_operator_and_clean_stop(first_up):
    up = first_up
    up.start()
    text = up.output()
    assert "#agent_demo__demo_ada:switchboard.localhost" in text
    assert "switchboard.localhost, local" in " ".join(text.split())
    address = homeserver_of(up)
    # Registration is closed, and there is no federation.
    refused = httpx.post(f"{address}/_matrix/client/v3/register", json={"username": "x", "password": "y"}, timeout=10)
    assert refused.status_code in {401, 403}
    assert httpx.get(f"{address}/_matrix/key/v2/server", timeout=10).status_code == 404

    with httpx.Client(base_url=up.url, timeout=20) as browser:
        form = browser.get(up.setup_path())
        assert form.status_code == 200
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', form.text).group(1)
        fields = {"username": "maria", "display_name": "Maria", "password": PASSWORD, "again": PASSWORD}
        sent = browser.post(up.setup_path(), data={**fields, "csrfmiddlewaretoken": token}, headers={"Referer": up.url})
        assert sent.status_code == 302, sent.text
        done = browser.get(sent.headers["Location"])
        assert "@maria:switchboard.localhost" in done.text
        assert address in done.text
    assert up.get(up.setup_path()).status_code == 404

    login = httpx.post(
        f"{address}/_matrix/client/v3/login",
        json={"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "maria"}, "password": PASSWORD},
        timeout=20,
    ).json()
    headers = {"Authorization": f"Bearer {login['access_token']}"}

    asked = itertools.count()

    def invited():
        # Synapse keeps the answer to a first sync for two minutes, for whoever asks the same again.
        again = f"{address}/_matrix/client/v3/sync?timeout={next(asked)}"
        rooms = httpx.get(again, headers=headers, timeout=20).json()
        return len(rooms.get("rooms", {}).get("invite", {})) >= 7

    assert eventually(invited), up.output()
    code, seconds = up.stop()
    assert code == 0, up.output()
    assert seconds < 30
    assert not synapse_of(up)


def test_second_start_keeps_the_address_and_makes_nothing(up):
    up.start()
    address = homeserver_of(up)
    up.stop()
    files = {path: path.stat().st_mtime_ns for path in (up.data / "synapse").glob("*.yaml")}
    up.start()
    assert homeserver_of(up) == address
    assert "Synced" not in up.output()
    assert {path: path.stat().st_mtime_ns for path in files} == files


def test_killed_homeserver_comes_back(up):
    up.start()
    (pid,) = synapse_of(up)
    os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: "The local homeserver is back" in up.output(), 30), up.output()
    assert synapse_of(up) != [pid]
    assert httpx.get(f"{homeserver_of(up)}/health", timeout=5).status_code == 200


def test_kill_nine_takes_the_homeserver_along_and_the_next_start_works(up):
    up.start()
    up.kill9()
    assert eventually(lambda: not synapse_of(up), 10), "Synapse outlived us"
    up.start()
    assert httpx.get(f"{homeserver_of(up)}/health", timeout=5).status_code == 200


def test_a_homeserver_left_behind_is_stopped(up, synapse_environment):
    up.start()
    address = homeserver_of(up)
    up.stop()
    config = up.data / "synapse" / "homeserver.yaml"
    command = [
        str(synapse_environment / "bin" / "python"),
        "-m",
        "synapse.app.homeserver",
        "--config-path",
        str(config),
    ]
    stray = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        (up.data / "synapse" / "synapse.pid").write_text(f"{stray.pid}\n")

        def answers():
            try:
                return httpx.get(f"{address}/health", timeout=2).status_code == 200
            except httpx.HTTPError:
                return False

        assert eventually(answers)
        up.start()
        assert f"process {stray.pid}" in " ".join(up.output().split())
        assert stray.wait(60) is not None
        assert homeserver_of(up) == address
    finally:
        if stray.poll() is None:
            stray.kill()
            stray.wait(60)


def test_another_port_of_ours_reaches_the_registration(up):
    up.start()
    up.stop()
    up.arguments = ("--port", "0")
    up.start()
    said = (up.data / "synapse" / "registration.yaml").read_text()
    url = re.search(r"^url: (\S+)$", said, re.MULTILINE).group(1)
    assert url != up.url
    assert url in up.output()
    # Its test pings: good means that the homeserver reached us at the new port.
    assert re.search(r"^Homeserver +● good", up.output(), re.MULTILINE)


def test_an_answer_under_way_is_taken_up_by_the_next_start(up):
    up.start()
    asking = subprocess.Popen(
        [sys.executable, "manage.py", "say", "Slow Joe", "Take your time"],
        cwd=PROJECT_ROOT, env=up.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert eventually(lambda: turn_states(up) == ["running"], 20), turn_states(up)
        code, seconds = up.stop()
    finally:
        asking.kill()
        asking.wait(60)
    assert code == 0, up.output()
    assert seconds < 30
    assert "still running; the next start goes on" in " ".join(up.output().split())
    assert not synapse_of(up)
    up.start()
    assert eventually(lambda: turn_states(up) == ["done"], 90), turn_states(up)


def turn_states(up) -> list[str]:
    with sqlite3.connect(f"file:{up.data / 'switchboard.sqlite3'}?mode=ro", uri=True) as database:
        return [row[0] for row in database.execute("select state from chat_turn order by id")]
