"""``up`` with a real Synapse: a homeserver that hangs is restarted through it, and it begins anew or ends when it is asked to."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.ops.doctor.processes.house import Asked
from tests.peers.install import ensure_synapse
from tests.up.running import Up

pytestmark = [pytest.mark.e2e, pytest.mark.faults]


@dataclass
class Home:
    up: Up
    asked: Asked

    def synapse(self) -> int:
        return int((self.up.data / "synapse" / "synapse.pid").read_text())


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    up = Up(tmp_path_factory.mktemp("restarts"), SWITCHBOARD_SYNAPSE_VENV=str(ensure_synapse()), SYNC_INTERVAL="3600")
    up.start()
    one = Home(up, Asked(up.environment, up.folder))
    try:
        yield one
    finally:
        one.asked.close()
        if up.process is not None and up.process.poll() is None:
            up.stop()


def test_a_homeserver_that_hangs_is_restarted_through_up(home: Home) -> None:
    before = home.synapse()
    os.kill(before, signal.SIGSTOP)
    done = home.asked.ask(
        "result = [mend('service.restart', 'service:homeserver'), mend('service.restart', 'service:homeserver')]"
    )
    assert done[0]["state"] == "succeeded", done
    assert list(done[0]["receipt"].values()) == ["answers again"]
    assert done[1]["state"] == "unneeded"
    assert home.synapse() != before
    assert not os.path.exists(f"/proc/{before}")
    assert "The local homeserver is back." in home.up.output()


def test_up_begins_anew_in_the_same_process(home: Home) -> None:
    assert home.up.process is not None
    pid = home.up.process.pid
    done = home.asked.ask(
        "before = there('up')[0]['pid']\nstarted = Process.objects.get(role='up').started_at\n"
        "result = [before, mend('service.recycle', 'role:up', force=True), mend('service.recycle', 'role:up')]"
    )
    assert done[0] == pid
    assert done[1]["state"] == "succeeded", done
    assert done[2]["state"] == "unneeded"
    home.asked.wait(
        "row = Process.objects.get(role='up')\nresult = [row.pid, row.started_at > started, row.ready_after_seconds, row.ended_at]",
        lambda row: row[1] and row[2] is not None,
    )
    assert home.up.process.poll() is None
    assert home.up.get("/readyz").status_code == 200
    assert "Restarting, as proof asked." in home.up.output()
    assert home.up.manage("healthcheck", "--service", "up") == "up: well\n"
    assert home.asked.wait(
        "result = look('svc.down', 'api.down', 'worker.alive')", lambda f: set(f.values()) == {"pass"}
    )


def test_up_that_is_evicted_ends_for_good(home: Home) -> None:
    assert home.up.process is not None
    home.asked.ask(
        "from ops.processes.services import process_drain\n"
        "result = process_drain(process=Process.objects.get(role='up'), actor='proof', evict=True)"
    )
    assert home.up.process.wait(60) == 0
    row = home.asked.ask("row = Process.objects.get(role='up')\nresult = [row.ended_at is not None, row.end_reason]")
    assert row == [True, "Asked to end by proof."]
    said = home.asked.ask("result = mend('stack.start')")
    assert said["state"] == "refused"
    assert "make up" in said["error"]
