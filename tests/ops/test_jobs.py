from __future__ import annotations

import threading
import time
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.db import OperationalError
from django.utils import timezone

from ops import database_away, job_kinds
from ops import tasks as ops_tasks
from ops.leases import WORKER
from ops.models import AuditEvent, Job
from ops.services import jobs
from ops.services.jobs import JobFailed, JobStopped, job_cancel, job_kind, job_start, run_job, run_job_now, sweep_jobs


@pytest.fixture
def sent(monkeypatch):
    """Ids of jobs that were sent to the workers."""
    ids = []
    monkeypatch.setattr(ops_tasks.run_job, "apply_async", lambda args, **options: ids.append(args[0]))
    return ids


def start(kind="t.job", **fields):
    return job_start(**{"kind": kind, "actor": "person:alice", "trigger": "api", **fields})


@pytest.mark.django_db
def test_a_job_is_sent_on_commit_and_runs_to_its_result(clean_registry, sent, django_capture_on_commit_callbacks):
    @job_kind("t.job", label="Count things")
    def work(job, *, upto):
        for n in range(1, upto + 1):
            job.progress(n, upto, f"step {n}")
        job.log("info", "token=abc123456 seen")
        return {"counted": upto, "api_key": "abc123456"}

    with django_capture_on_commit_callbacks(execute=True):
        job = start(params={"upto": 3})
        assert sent == []
    assert sent == [str(job.pk)]
    assert ops_tasks.run_job(str(job.pk)) is None
    job.refresh_from_db()
    assert (job.state, job.title, job.fence, job.attempts) == ("succeeded", "Count things", 1, 1)
    assert (job.progress_done, job.progress_total, job.percent) == (3, 3, 100)
    assert job.result == {"counted": 3, "api_key": "[hidden]"}
    assert job.finished_at >= job.started_at
    assert job.lines.get().text == "token=[hidden] seen"
    assert run_job(job.pk) is False
    assert AuditEvent.objects.filter(action="job.started", target_id=str(job.pk)).count() == 1


@pytest.mark.django_db
def test_an_unknown_kind_cannot_be_started(clean_registry):
    with pytest.raises(ValueError, match=r"no job kind 'nope'"):
        start("nope")


@pytest.mark.django_db
def test_once_gives_the_waiting_job_again(clean_registry, sent):
    job_kind("t.job", label="x")(lambda job, **params: None)
    first = start(params={"a": 1}, once=True)
    assert start(params={"a": 1}, once=True).pk == first.pk
    assert start(params={"a": 2}, once=True).pk != first.pk
    run_job_now(first)
    assert start(params={"a": 1}, once=True).pk != first.pk


@pytest.mark.django_db
def test_once_does_not_join_a_job_that_has_begun(clean_registry, sent):
    """It may have read already what the second call is about."""
    second: list[object] = []
    job_kind("t.job", label="x")(lambda job: second.append(start(once=True).pk) and None)
    first = start(once=True)
    run_job_now(first)
    assert second
    assert second[0] != first.pk


@pytest.mark.django_db
def test_an_exception_becomes_a_sentence_and_a_traceback_in_the_log(clean_registry, sent):
    @job_kind("t.job", label="x")
    def work(job):
        raise ConnectionError("no route; password=hunter2222")

    job = run_job_now(start())
    assert (job.state, job.error) == ("failed", "ConnectionError: no route; password=[hidden]")
    line = job.lines.get()
    assert line.level == "error"
    assert "Traceback" in line.text
    assert "tests/ops/test_jobs.py" in line.text
    assert "hunter2222" not in line.text
    assert AuditEvent.objects.filter(action="job.failed").count() == 1


@pytest.mark.django_db
def test_a_jobs_own_failure_has_no_traceback(clean_registry, sent):
    @job_kind("t.job", label="x")
    def work(job):
        raise JobFailed("The list was not complete.")

    job = run_job_now(start())
    assert (job.state, job.error, job.lines.count()) == ("failed", "The list was not complete.", 0)


@pytest.mark.django_db
def test_wrong_parameters_fail_the_job_not_the_worker(clean_registry, sent):
    @job_kind("t.job", label="x")
    def work(job):
        return None

    job = run_job_now(start(params={"surprise": 1}))
    assert job.state == "failed"
    assert "surprise" in job.error


@pytest.mark.django_db
def test_a_queued_job_is_cancelled_at_once(clean_registry, sent):
    ran = []
    job_kind("t.job", label="x")(lambda job: ran.append(1))
    job = start()
    assert job_cancel(job=job, actor="person:bob") is True
    assert job.state == "cancelled"
    assert run_job(job.pk) is False
    assert job_cancel(job=job, actor="person:bob") is False
    assert ran == []


@pytest.mark.django_db
@pytest.mark.parametrize("how", ["returns", "raises"])
def test_a_running_job_obeys(clean_registry, sent, how):
    @job_kind("t.job", label="x")
    def work(job):
        assert job.should_stop() is False
        job_cancel(job=Job.objects.get(pk=job.job.pk), actor="person:bob")
        job._asked = 0.0
        if job.should_stop() and how == "raises":
            raise JobStopped
        return {"half": True}

    job = run_job_now(start())
    assert (job.state, job.cancel_requested) == ("cancelled", True)


@pytest.mark.django_db
def test_a_worker_that_was_taken_for_dead_cannot_write(clean_registry, sent):
    seen = {}

    @job_kind("t.job", label="x")
    def work(job):
        Job.objects.filter(pk=job.job.pk).update(fence=job.job.fence + 1)
        try:
            job.log("info", "too late")
        except job_kinds.JobLost:
            seen["lost"] = True
            raise

    job = start()
    run_job(job.pk)
    job.refresh_from_db()
    assert seen == {"lost": True}
    assert (job.state, job.lines.count()) == ("running", 0)


def running(kind, **fields):
    now = timezone.now()
    return Job.objects.create(
        **{
            "kind": kind,
            "title": kind,
            "actor": "a",
            "state": "running",
            "fence": 1,
            "attempts": 1,
            "worker": WORKER,
            "heartbeat_at": now,
            **fields,
        }
    )


@pytest.mark.django_db
def test_the_sweep_settles_jobs_of_dead_workers(clean_registry, sent, django_capture_on_commit_callbacks):
    job_kind("t.resumable", label="x", resumable=True, attempts=2)(lambda job: {"again": True})
    job_kind("t.once", label="x")(lambda job: None)
    long_ago = timezone.now() - timedelta(seconds=31)
    again = running("t.resumable", heartbeat_at=long_ago)
    worn_out = running("t.resumable", heartbeat_at=long_ago, attempts=2)
    failed = running("t.once", heartbeat_at=long_ago)
    stopped = running("t.once", heartbeat_at=long_ago, cancel_requested=True)
    alive = running("t.once")
    killed = running("t.once", worker=WORKER.rsplit(":", 1)[0] + ":1")
    with django_capture_on_commit_callbacks(execute=True):
        counts = sweep_jobs()
    assert counts == {"woken": 0, "requeued": 1, "failed": 3, "cancelled": 1}
    states = dict(Job.objects.values_list("pk", "state"))
    assert states == {
        again.pk: "queued",
        worn_out.pk: "failed",
        failed.pk: "failed",
        stopped.pk: "cancelled",
        alive.pk: "running",
        killed.pk: "failed",
    }
    assert sent == [str(again.pk)]
    failed.refresh_from_db()
    assert "died" in failed.error
    assert run_job(again.pk)
    again.refresh_from_db()
    assert (again.state, again.fence, again.attempts) == ("succeeded", 2, 2)
    assert sweep_jobs() == {"woken": 0, "requeued": 0, "failed": 0, "cancelled": 0}


@pytest.mark.django_db
def test_the_sweep_wakes_jobs_whose_task_was_lost(clean_registry, sent):
    job_kind("t.job", label="x")(lambda job: None)
    job = start()
    assert sweep_jobs()["woken"] == 0
    Job.objects.update(created_at=timezone.now() - timedelta(seconds=16))
    assert sweep_jobs()["woken"] == 1
    assert sent == [str(job.pk)]


@pytest.mark.django_db
def test_a_broker_that_is_down_does_not_stop_a_job_from_being_made(
    clean_registry, monkeypatch, django_capture_on_commit_callbacks
):
    def refuse(args, **options):
        raise ConnectionError("broker down")

    monkeypatch.setattr(ops_tasks.run_job, "apply_async", refuse)
    job_kind("t.job", label="x")(lambda job: None)
    with django_capture_on_commit_callbacks(execute=True):
        job = start()
    assert Job.objects.get(pk=job.pk).state == "queued"


@pytest.mark.django_db(transaction=True)
def test_a_long_step_keeps_its_lease_and_two_workers_do_not_run_it_twice(clean_registry, sent, monkeypatch):
    monkeypatch.setattr(job_kinds, "HEARTBEAT_SECONDS", 0.05)
    ran = []
    gate = threading.Event()

    @job_kind("t.job", label="x")
    def work(job):
        ran.append(1)
        before = Job.objects.get(pk=job.job.pk).heartbeat_at
        gate.set()
        until = time.monotonic() + 90
        while Job.objects.get(pk=job.job.pk).heartbeat_at == before and time.monotonic() < until:
            time.sleep(0.02)
        return {"renewed": Job.objects.get(pk=job.job.pk).heartbeat_at > before}

    job = start(queue=False)
    assert sent == []
    first = threading.Thread(target=jobs.run_job, args=(job.pk,))
    first.start()
    assert gate.wait(60)
    assert run_job(job.pk) is False
    first.join(60)
    job.refresh_from_db()
    assert (job.state, job.result, ran) == ("succeeded", {"renewed": True}, [1])


@pytest.mark.django_db(transaction=True)
def test_a_real_worker_takes_the_job(clean_registry):
    from celery import current_app
    from celery.contrib.testing.worker import start_worker

    job_kind("t.job", label="x")(lambda job, *, n: {"thread": threading.current_thread().name, "n": n})
    main = threading.current_thread().name
    with start_worker(current_app, pool="threads", concurrency=2, perform_ping_check=False, shutdown_timeout=30):
        job = start(params={"n": 4})
        until = time.monotonic() + 90
        while not job.is_final and time.monotonic() < until:
            time.sleep(0.05)
            job.refresh_from_db()
    assert job.state == "succeeded"
    assert job.result["n"] == 4
    assert job.result["thread"] != main


@pytest.mark.django_db(transaction=True)
def test_how_a_job_ended_is_written_when_the_database_is_back(clean_registry, sent, monkeypatch):
    @job_kind("t.job", label="Loses the database")
    def work(job):
        raise OperationalError("server closed the connection unexpectedly")

    finish, tries = job_kinds.JobHandle.finish, []

    def away(self, state, **fields):
        tries.append(state)
        if len(tries) < 3:
            raise OperationalError("connection refused")
        return finish(self, state, **fields)

    with pytest.raises(OperationalError):  # a file does not come back by itself
        database_away.when_back(lambda: away(None, "a file"))
    tries.clear()
    monkeypatch.setattr(job_kinds.JobHandle, "finish", away)
    monkeypatch.setattr(database_away, "_PAUSE", 0.0)
    there = SimpleNamespace(vendor="postgresql", in_atomic_block=False, close=lambda: None)
    monkeypatch.setattr(database_away, "connection", there)
    job = start()
    assert run_job(job.pk)
    job.refresh_from_db()
    assert tries == ["failed"] * 3
    assert job.state == "failed"
    assert "server closed the connection" in job.error
