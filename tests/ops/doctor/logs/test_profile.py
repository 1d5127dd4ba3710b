"""Profiles: they find what a process does, cost little, and reach another process through rows."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading
import time

import pytest

from ops.logbook import errands
from ops.logbook.profile import collapsed, flame, sample, speedscope
from ops.models import Job, JobState, LiveSetting
from ops.services.jobs import run_job_now
from ops.services.logbook import profile_start


def burn(until):
    while not until.is_set():
        sum(n * n for n in range(500))


@pytest.fixture
def busy():
    end = threading.Event()
    threads = [threading.Thread(target=burn, args=(end,), name="burner-1", daemon=True)]
    threads.append(threading.Thread(target=end.wait, name="sleeper-1", daemon=True))
    for thread in threads:
        thread.start()
    yield
    end.set()
    for thread in threads:
        thread.join()


def test_what_works_is_found_and_what_waits_is_not(busy):
    # Until it has looked so often: how long that takes is the machine's matter.
    looks = itertools.count()
    result = sample(60.0, should_stop=lambda: next(looks) >= 20)
    assert result["samples"] == 20
    assert any("burn" in row["function"] and row["total"] > 10 for row in result["top"])
    assert any("burn" in line for line in collapsed(result).splitlines())
    assert "sleeper" not in collapsed(result)
    threads = {row["name"]: row for row in result["threads"]}
    assert threads["burner"]["working"] > 0
    assert threads["sleeper"]["working"] == 0
    assert threads["burner"]["cpu_seconds"] > 0
    scope = speedscope(result, "test")
    assert scope["profiles"][0]["type"] == "sampled"
    assert len(scope["profiles"][0]["samples"]) == len(scope["profiles"][0]["weights"])
    json.dumps(scope)
    boxes = flame(result["stacks"])
    assert boxes[0]["depth"] == 0
    assert sum(box["width"] for box in boxes if box["depth"] == 0) == pytest.approx(100, abs=3)
    assert all(box["left"] + box["width"] <= 100.1 for box in boxes)


def test_looking_costs_little_and_says_how_much(busy):
    result = sample(1.0)
    assert 0 < result["overhead_percent"] < 100


def test_a_profile_of_a_worker_is_a_job_with_the_result(db):
    job = profile_start(process="", seconds=1, actor="test")
    run_job_now(job)
    job.refresh_from_db()
    assert job.state == JobState.SUCCEEDED, job.error
    assert job.result["profile"]["samples"] > 0
    assert "cost" in job.result["sentence"]


def test_a_process_that_is_not_there_fails_the_job_with_a_sentence(db, monkeypatch):
    monkeypatch.setattr(errands, "PATIENCE", 0.1)
    job = profile_start(process="nowhere:1:1", seconds=1, actor="test")
    run_job_now(job)
    job.refresh_from_db()
    assert job.state == JobState.FAILED
    assert "did not answer" in job.error
    assert not LiveSetting.objects.exists()


_OTHER = """
import os, sys, threading, time
os.environ["DJANGO_SETTINGS_MODULE"] = "controlplane.settings"
import django
django.setup()
from ops.logbook.pump import Logbook
def spin_in_the_other_process():
    while True:
        sum(n * n for n in range(500))
threading.Thread(target=spin_in_the_other_process, daemon=True).start()
book = Logbook("worker", process="other:1:1")
book.start()
print("ready", flush=True)
sys.stdin.readline()
book.stop()
"""


@pytest.mark.django_db(transaction=True)
def test_another_process_is_profiled_without_a_restart():
    from django.db import connection

    if connection.vendor == "sqlite":
        name = str(connection.settings_dict["NAME"])
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    code = _OTHER.replace(
        "django.setup()",
        f"from django.conf import settings\nsettings.DATABASES['default']['NAME'] = {name!r}\ndjango.setup()",
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
    )
    try:
        assert other.stdout.readline().strip() == "ready"
        job = profile_start(process="other:1:1", seconds=2, actor="test")
        started = time.monotonic()
        run_job_now(job)
        job = Job.objects.get(pk=job.pk)
        assert job.state == JobState.SUCCEEDED, job.error
        assert time.monotonic() - started < 120
        assert "spin_in_the_other_process" in collapsed(job.result["profile"])
        assert not LiveSetting.objects.filter(key__startswith="profile.").exists()
    finally:
        other.stdin.close()
        other.wait(60)
