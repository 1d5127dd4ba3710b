"""The whole way in an installation that runs: a failure, the alert, a kill, the repair, the recovery; and the pings outwards."""

from __future__ import annotations

import time

import pytest

from tests.up.running import Up

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]


def wait_for(hook, start, seconds=60.0):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = [title for title in hook.titles if title.startswith(start)]
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"No {start!r} among {hook.titles}")


def wait_until_noted(up, seconds=60.0):
    """Until the sender has written down what the receiver took: one killed before that sends it again (tests in test_telling.py)."""
    until = time.monotonic() + seconds
    while not up.ask("from ops.models import AlertMessage; result = AlertMessage.objects.filter(state='sent').count()"):
        assert time.monotonic() < until, "The message was taken, and nobody noted it as sent."
        time.sleep(0.1)


def test_a_failure_is_told_and_its_end_too_although_everything_is_killed_in_between(hook, tmp_path):
    up = Up(
        tmp_path / "up",
        "--no-homeserver",
        HEARTBEAT_URL=f"http://127.0.0.1:{hook.port}/ping",
        HEARTBEAT_INTERVAL="10",
    )
    try:
        up.start()
        up.manage(
            "shell",
            "-c",
            "from ops.services.alerts import channel_save; "
            f"channel_save(actor='test', name='hook', url='json://127.0.0.1:{hook.port}/in', only_checks=['logs.*'])",
        )
        up.manage("demo", "--break", "logs.oversize")
        up.manage("doctor", "logs.oversize", expect=2)
        assert wait_for(hook, "Not well") == ["Not well (warning): Log files stay small"]
        wait_until_noted(up)
        up.kill9()
        up.start()
        up.manage("repair", "logs.rotate", "--yes")
        assert len(wait_for(hook, "Well again after")) == 1
        assert len(wait_for(hook, "Not well")) == 1
        until = time.monotonic() + 90
        while not any(path == "/ping" for path, _ in hook.calls) and time.monotonic() < until:
            time.sleep(0.1)
        assert any(path == "/ping" for path, _ in hook.calls)
    finally:
        up.stop()
