"""While rows are put back nothing is taken up, taken in or written by anybody else; afterwards everything goes on by itself."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import OperationalError, connections
from django.test import AsyncClient
from django.utils import timezone

from agents.models import SyncRun, SyncState
from chat.matrix import gaps, views
from chat.models import Delivery, Message, Person, Turn, TurnState
from chat.services.messages import message_send
from chat.socket import commands
from controlplane.celery import app
from ops import quiet
from ops.leases import WORKER
from ops.models import NamedLock, RestoreEpoch
from ops.quiet import Quiet, StillBusy
from ops.services.jobs import job_start, run_job
from tests.support.stage import Stage

pytestmark = pytest.mark.django_db(transaction=True)

REASON = "A backup is being restored"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(quiet, "CACHE_SECONDS", 0.0)
    quiet.look_again()
    yield
    quiet.look_again()


@contextmanager
def somebody_restores() -> Iterator[None]:
    """Another thread holds everybody still, as another process would."""
    begun, over = threading.Event(), threading.Event()

    def hold() -> None:
        try:
            with quiet.quiet(REASON):
                begun.set()
                over.wait(60)
        finally:
            connections.close_all()

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert begun.wait(60)
        yield
    finally:
        over.set()
        thread.join(60)


@pytest.fixture
def house(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Stage:
    stage.enters(stage.agent())
    return stage


def test_turns_and_deliveries_wait_and_go_on_afterwards(house: Stage):
    agent = house.fresh()
    house.says(agent, "Hello")
    with somebody_restores():
        assert quiet.is_quiet() == REASON
        turn = Turn.objects.get()
        from chat.turns.run import run_turn

        run_turn(turn.pk)
        assert Turn.objects.get().state == TurnState.QUEUED
    assert quiet.is_quiet() == ""
    house.run_turns()
    assert Turn.objects.get().state == TurnState.DONE
    delivery = Delivery.objects.get()
    Delivery.objects.filter(pk=delivery.pk).update(state="queued", not_before=timezone.now())
    with somebody_restores():
        from chat.deliveries.run import run_delivery

        run_delivery(delivery.pk)
        assert Delivery.objects.get().state == "queued"
    house.run_deliveries()
    assert Delivery.objects.get().state == "sent"


def test_a_homeserver_is_told_to_send_its_transaction_again(house: Stage):
    room = house.room()
    event = house.fake.person_says(str(room.room_id), "@alice:fake.test", "In between")
    body = json.dumps({"events": [event]}).encode()
    token = room.homeserver.credentials["hs_token"]
    gaps.raise_epoch(room.homeserver, "test")
    asked = len(house.fake.calls())
    with somebody_restores():
        answer = views._guarded(lambda: views._take_transaction(token, body, "7"))
        assert answer.status_code == 503
        assert answer._has_been_logged, "nothing failed that the log would have to tell"
        assert not Message.objects.exists()
        assert len(house.fake.calls()) == asked, "nor is the homeserver asked for what came before"
    assert views._guarded(lambda: views._take_transaction(token, body, "7")).status_code == 200
    assert Message.objects.filter(external_id=event["event_id"]).count() == 1


def test_people_and_programs_are_told_to_come_back(house: Stage, client: Any, caplog: Any):
    person = Person.objects.create_user("ada", password="x")
    client.force_login(person)
    with somebody_restores():
        for path in ("/api/v1/chat/conversations", "/api/v1/services"):
            answer = client.post(path, "{}", content_type="application/json")
            assert answer.status_code == 503
            assert answer["Retry-After"] == str(quiet.RETRY_AFTER)
            assert answer["Content-Type"] == "application/problem+json"
            assert answer.json()["code"] == "installation.quiet"
            assert REASON in answer.json()["detail"]
        answer = client.post("/v1/chat/completions", "{}", content_type="application/json")
        assert (answer.status_code, answer["X-Should-Retry"]) == (503, "true")
        assert REASON in answer.json()["error"]["message"]
        page = client.post("/account/login/", {"login": "ada"})
        assert page.status_code == 503
        assert REASON in page.content.decode()
        # As it is served, by an asynchronous server.
        served = async_to_sync(AsyncClient().post)("/api/v1/services", "{}", content_type="application/json")
        assert (served.status_code, served.json()["code"]) == (503, "installation.quiet")
        # A homeserver knows its own errors only.
        told = client.put("/_matrix/app/v1/transactions/7", "{}", content_type="application/json")
        assert told["Content-Type"].startswith("application/json")
        assert "errcode" in told.json()
        assert client.get("/api/v1/chat/conversations").status_code == 200
        with pytest.raises(Quiet):
            message_send(agent=house.fresh(), text="Hello", person=person)
        code, sentence, _ = commands.trouble(Quiet(REASON))
        assert (code, sentence.startswith(REASON)) == ("installation.quiet", True)
    # Nothing failed: errors in the log would open an issue after each restore.
    assert [one.getMessage() for one in caplog.records if "Service Unavailable" in one.getMessage()] == []


def test_jobs_and_scheduled_tasks_wait(house: Stage, monkeypatch: pytest.MonkeyPatch):
    ran: list[str] = []
    from ops import job_kinds

    monkeypatch.setattr(job_kinds, "_kinds", dict(job_kinds._kinds))
    job_kinds.job_kind("lab.still", label="Still")(lambda job: ran.append("job"))
    job = job_start(kind="lab.still", actor="test", queue=False)

    @app.task(name="lab.still_task", shared=False)
    def task() -> None:
        ran.append("task")

    with somebody_restores():
        assert not run_job(job.pk)
        task()
        task.apply()
        assert ran == []
    assert run_job(job.pk)
    task()
    assert ran == ["job", "task"]


def test_it_ends_with_its_process(house: Stage):
    host, _, _ = WORKER.rpartition(":")
    gone = f"{host}:1/abc"  # our own pid, begun at another time: a process that is no more
    NamedLock.objects.create(name=f"quiet:{REASON}", holder=gone, expires_at=timezone.now() + timedelta(hours=1))
    assert quiet.is_quiet() == ""
    NamedLock.objects.update(holder="elsewhere:1:1/abc")
    assert quiet.is_quiet() == REASON
    NamedLock.objects.update(expires_at=timezone.now())
    assert quiet.is_quiet() == ""
    # Its lock could not be renewed while it wrote, and its process is there.
    NamedLock.objects.update(holder=f"{WORKER}/abc", expires_at=timezone.now() - timedelta(minutes=30))
    assert quiet.is_quiet() == REASON


def test_a_sync_under_way_is_waited_for_and_never_cut_off(house: Stage, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(quiet, "JOBS_SECONDS", 0.3)
    monkeypatch.setattr(quiet, "DRAIN_SECONDS", 0.1)
    run = SyncRun.objects.create(
        state=SyncState.RUNNING, actor="test", trigger="command", lease_until=timezone.now() + timedelta(minutes=1)
    )
    with pytest.raises(StillBusy, match="1 of running syncs"), quiet.quiet(REASON):
        pytest.fail("it has begun")
    assert quiet.is_quiet() == ""
    SyncRun.objects.filter(pk=run.pk).update(state=SyncState.DONE)
    with quiet.quiet(REASON):
        with quiet.quiet("Something within"):
            assert quiet.is_quiet() == REASON
            quiet.refuse_when_quiet()
        assert quiet.held_here(), "the outer one goes on"
        assert quiet.is_quiet() == REASON
        quiet.refuse_when_quiet()

        def down() -> str:
            raise OperationalError("the database is gone")

        with monkeypatch.context() as patch:
            patch.setattr(quiet, "_look", down)
            assert quiet.is_quiet() == REASON, "what was known last counts"
    assert not NamedLock.objects.filter(name__startswith="quiet:").exists()


def test_every_process_drops_what_it_remembers_when_rows_were_put_back(house: Stage, monkeypatch: pytest.MonkeyPatch):
    forgotten: list[int] = []

    def fails() -> None:
        raise RuntimeError("It forgets nothing.")

    monkeypatch.setattr(quiet, "_after", [fails, lambda: forgotten.append(1)])
    quiet.is_quiet()
    forgotten.clear()
    quiet.is_quiet()
    assert not forgotten
    RestoreEpoch.objects.update_or_create(pk=1, defaults={"number": 41})
    quiet.is_quiet()
    quiet.is_quiet()
    assert forgotten == [1]


def test_a_holder_that_lost_its_database_holds_nobody_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """It lives, and could not take its row away. On SQLite it may be writing for hours, which keeps it from renewing."""
    over = timezone.now() - timedelta(minutes=1)
    NamedLock.objects.create(name=quiet.PREFIX + REASON, holder=f"{WORKER}/lost", fence=1, expires_at=over)
    quiet.look_again()
    assert quiet.is_quiet() == REASON
    monkeypatch.setattr(quiet, "connection", SimpleNamespace(vendor="postgresql"))
    quiet.look_again()
    assert quiet.is_quiet() == ""
