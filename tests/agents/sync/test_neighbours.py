"""What stands around sync: kinds of services and their tests, checks, jobs, tasks, leases."""

from __future__ import annotations

import os
import socket
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from agents import checks, jobs, kinds, tasks
from agents.backends.registry import BACKENDS
from agents.models import SyncRun
from agents.schedule import beat
from agents.services.backends import NoHomeserver, homeserver_of, open_homeserver, spec_of
from ops import leases
from ops.models import Service
from ops.registry import all_checks, service_kind
from ops.services.jobs import JobFailed
from tests.support.fake_homeserver import SERVER_NAME
from tests.support.stage import Stage

pytestmark = pytest.mark.django_db


def test_every_backend_is_a_kind_of_service() -> None:
    for name in ("letta", "openai", "anthropic", "demo"):
        kind = service_kind(name)
        assert kind is not None
        assert kind.role == "backend"
        assert name in BACKENDS
    homeserver = service_kind("homeserver")
    assert homeserver is not None
    assert homeserver.role == "homeserver"
    assert {"as_token", "hs_token", "password", "access_token"} <= {one.name for one in homeserver.fields if one.secret}


def test_a_homeserver_that_is_well(stage: Stage) -> None:
    result = kinds.test_homeserver(stage.homeserver())
    assert (result.status, result.version) == ("ok", "1")
    assert result.capabilities["server_name"] == SERVER_NAME


@pytest.mark.parametrize(
    ("trouble", "status", "words"),
    [("unreachable", "down", "does not answer"), ("token", "down", "token"), ("ping", "degraded", "does not reach us"), ("other", "down", "belongs to")],
)  # fmt: skip
def test_a_homeserver_that_is_not_well(stage: Stage, trouble: str, status: str, words: str) -> None:
    service = stage.homeserver()
    if trouble == "unreachable":
        service.base_url = "http://127.0.0.1:9"
    elif trouble == "token":
        stage.fake.token = "another-token"
    elif trouble == "ping":
        stage.fake.ping_fails = "M_CONNECTION_FAILED"
    else:
        service.options = {**service.options, "sender_localpart": "somebody"}
    result = kinds.test_homeserver(service)
    assert result.status == status
    assert words in result.sentence
    assert "as-token-of-the-tests" not in result.sentence


def test_a_backends_connection(stage: Stage) -> None:
    assert kinds.test_backend(stage.service()).status == "ok"
    assert kinds.test_backend(stage.service("letta", "letta", base_url="http://127.0.0.1:9")).status == "down"


def test_the_homeservers_name_is_asked_for_once(stage: Stage) -> None:
    service = stage.homeserver(options={})
    assert homeserver_of(service).server_name == SERVER_NAME
    asked = len(stage.fake.calls("whoami"))
    assert open_homeserver().server_name == SERVER_NAME
    assert len(stage.fake.calls("whoami")) == asked
    Service.objects.update(enabled=False)
    with pytest.raises(NoHomeserver):
        open_homeserver()


def test_agents_that_are_defined_here_travel_in_the_options(stage: Stage) -> None:
    from agents.services.agents import agent_define

    service = stage.service("defined", "scripted_defined")
    agent_define(service=service, name="Poet", system_prompt="Rhyme.", model="m", actor="op")
    assert spec_of(service).options["agents"] == [
        {"id": "poet", "name": "Poet", "description": "", "system_prompt": "Rhyme.", "model": "m"}
    ]


def test_checks_follow_the_services(stage: Stage) -> None:
    stage.homeserver()
    stage.service()
    assert {"homeserver.reachable", "backend.reachable", "sync.recent"} <= {check.id for check in all_checks()}
    assert checks.homeserver_reachable("homeserver").status == "pass"
    assert checks.backend_reachable(stage.service("demo", "demo").name).status == "pass"
    assert checks.backend_reachable("gone").status == "skip"
    stage.fake.ping_fails = "M_CONNECTION_FAILED"
    assert checks.homeserver_reachable("homeserver").status == "warn"
    stage.fake.token = "another"
    assert checks.homeserver_reachable("homeserver").status == "fail"


def test_the_check_of_sync(stage: Stage, settings: Any) -> None:
    assert checks.sync_recent().status == "skip"
    stage.homeserver()
    stage.service()
    assert checks.sync_recent().status == "warn"
    stage.sync()
    assert checks.sync_recent().status == "pass"
    SyncRun.objects.update(state="failed", error="the homeserver is down")
    assert "the homeserver is down" in checks.sync_recent().sentence
    SyncRun.objects.update(state="stopped")
    assert checks.sync_recent().status == "pass", "what it asks has checks of its own"
    SyncRun.objects.update(state="failed")
    Service.objects.filter(kind="homeserver").update(status="down")
    assert checks.sync_recent().status == "skip", "one cause, one red check"
    SyncRun.objects.update(state="done", started_at=timezone.now() - timedelta(hours=2))
    assert checks.sync_recent().status == "fail"


class Handle:
    """What a job is given."""

    actor = "op"

    def __init__(self) -> None:
        self.steps: list[tuple[int, int, str]] = []
        self.lines: list[tuple[str, str]] = []

    def progress(self, done: int, total: int, text: str = "") -> None:
        self.steps.append((done, total, text))

    def log(self, level: str, line: str) -> None:
        self.lines.append((level, line))

    def should_stop(self) -> bool:
        return False


def test_sync_as_a_job(stage: Stage) -> None:
    stage.homeserver()
    stage.service()
    stage.lists("scripts", "Ada")
    handle: Any = Handle()
    result = jobs.sync_job(handle)
    assert result["applied"]["agent.create"] == 1
    assert handle.steps[-1][0] == handle.steps[-1][1] == 7
    stage.lists("scripts", "Ada", "Bea")
    stage.fake.fail("register", times=1, status=401, errcode="M_UNKNOWN_TOKEN")
    with pytest.raises(JobFailed, match="token"):
        jobs.sync_job(handle)
    assert handle.lines[0][0] == "error"
    with pytest.raises(JobFailed, match="nosuch"):
        jobs.sync_job(handle, service="nosuch")


def test_recreating_as_a_job(stage: Stage) -> None:
    stage.agent()
    handle: Any = Handle()
    stage.fake.lose_account(stage.mapping().account.user_id)
    assert jobs.recreate_job(handle, mapping=stage.mapping().pk)["account"] == "registered"
    stage.fake.fail("register", times=3, status=502)
    with pytest.raises(JobFailed, match="does not answer"):
        jobs.recreate_job(handle, mapping=stage.mapping().pk)
    assert stage.mapping().status == "trouble"
    with pytest.raises(JobFailed, match="no longer"):
        jobs.recreate_job(handle, mapping=999)


def test_tasks(stage: Stage, settings: Any) -> None:
    stage.service()
    stage.lists("scripts", "Ada")
    tasks.sync.run()
    tasks.prune.run()
    assert SyncRun.objects.get().trigger == "beat"
    SyncRun.objects.create(error=leases.WORKER, lease_until=timezone.now() + timedelta(minutes=1))
    tasks.sync.run()
    assert SyncRun.objects.count() == 2, "one that is running is not waited for"
    settings.SYNC_INTERVAL = 1
    assert beat()["agents.sync"]["schedule"] == 5.0


def test_a_worker_knows_whether_another_of_its_host_is_dead() -> None:
    host, pid, start = leases.WORKER.rsplit(":", 2)
    assert (host, int(pid)) == (socket.gethostname(), os.getpid())
    assert leases.holder_is_dead(leases.WORKER) is False
    assert leases.holder_is_dead(f"{host}:{pid}:{int(start) + 1}") is True, "the pid was given to another"
    assert leases.holder_is_dead(f"{host}:999999999:{start}") is True
    assert leases.holder_is_dead(f"elsewhere:{pid}:1") is False, "of other hosts nothing is known"
    for odd in ("", "x", "::", f"{host}:abc:1", f"{host}:{pid}:"):
        assert leases.holder_is_dead(odd) is False
