"""A web server without any worker says so itself, through a real Redis and a real receiver."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from tests.peers.base import PROJECT_ROOT, free_port
from tests.up.running import clean_environment

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

# The program that deployments start, with a watch that looks more often.
WEB = """
import sys
import django; django.setup()
from ops.alerts import watch
watch.EVERY = 1.0
from daphne.cli import CommandLineInterface
CommandLineInterface().run(["-b", "127.0.0.1", "-p", sys.argv[1], "controlplane.asgi:application"])
"""


def test_a_web_server_without_workers_tells_that_there_are_none(redis_server, hook, tmp_path):
    redis_server.client().flushall()
    environment = clean_environment(
        DATA_DIR=str(tmp_path), REDIS_URL=redis_server.url, SWITCHBOARD_ENV_FILE=str(tmp_path / "settings.env")
    )

    def manage(*arguments):
        subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=PROJECT_ROOT,
            env=environment,
            check=True,
            capture_output=True,
        )

    manage("migrate", "--verbosity", "0")
    manage(
        "shell",
        "-c",
        f"from ops.services.alerts import channel_save; channel_save(actor='test', name='hook', url='json://127.0.0.1:{hook.port}/in')",
    )
    with (tmp_path / "output.txt").open("wb") as output:
        web = subprocess.Popen(
            [sys.executable, "-c", WEB, str(free_port())],
            cwd=PROJECT_ROOT,
            env=environment,
            stdout=output,
            stderr=output,
        )
    try:
        until = time.monotonic() + 90
        while not hook.titles and time.monotonic() < until:
            assert web.poll() is None, (tmp_path / "output.txt").read_text()[-3000:]
            time.sleep(0.2)
        time.sleep(3)
    finally:
        web.terminate()
        web.wait(60)
    assert hook.titles == ["Not well (critical): A worker takes tasks"], (tmp_path / "output.txt").read_text()[-3000:]
