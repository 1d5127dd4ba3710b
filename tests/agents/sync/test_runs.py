"""One sync at a time: dry, forced, stopped, waited for, and taken over from a process that is gone."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from agents.models import Agent, SyncRun, SyncState
from agents.services import sync as sync_service
from agents.services.sync import SyncBusy, UnknownService, prune_sync_runs, sync_agents
from tests.agents.sync.test_apply import assert_whole
from tests.support.stage import Stage, in_threads

pytestmark = pytest.mark.django_db


def test_a_dry_run_changes_nothing(house: Stage) -> None:
    house.lists("scripts", "Ada")
    report = house.sync(dry_run=True)
    assert report.plan.counts["agent.create"] == 1
    assert report.run_id is None
    assert report.to_dict()["steps"][0]["kind"] == "space.create"
    assert (SyncRun.objects.count(), Agent.objects.count(), len(house.fake.requests)) == (0, 0, 0)


def test_a_suspicious_plan_stops_and_force_applies_it(house: Stage) -> None:
    house.lists("scripts", *"ABCDEFGH")
    house.sync()
    house.lists("scripts", "A")
    report = house.sync()
    assert (report.state, report.plan.stopped) == (SyncState.STOPPED, ["scripts"])
    assert SyncRun.objects.first().state == SyncState.STOPPED
    assert Agent.objects.filter(state="active").count() == 8
    assert house.sync(force=True).applied == {"agent.archive": 7, "space.remove": 7}
    assert house.sync().plan.stopped == []


def test_one_service_only(house: Stage) -> None:
    house.service("other")
    house.lists("scripts", "Ada")
    house.lists("other", "Bea")
    house.sync(service_name="other")
    assert [agent.name for agent in Agent.objects.all()] == ["Bea"]
    with pytest.raises(UnknownService, match="nosuch"):
        house.sync(service_name="nosuch")


def test_progress_is_told_and_it_stops_when_asked(house: Stage) -> None:
    house.lists("scripts", "Ada", "Bea", "Cy")
    told: list[tuple[int, int, str]] = []
    house.sync(progress=lambda *step: told.append(step), should_stop=lambda: len(told) > 8)
    assert told[0][2] == "Make the space Letta Agents"
    assert [one[0] for one in told] == list(range(1, len(told) + 1))
    assert Agent.objects.count() < 3
    house.sync()
    assert_whole(house, "Ada", "Bea", "Cy")


def test_a_running_sync_is_waited_for(house: Stage) -> None:
    running = SyncRun.objects.create(error=sync_service.WORKER, lease_until=timezone.now() + timedelta(minutes=1))
    with pytest.raises(SyncBusy):
        house.sync(wait=0)
    SyncRun.objects.filter(pk=running.pk).update(state=SyncState.DONE)
    assert house.sync(wait=0).state == SyncState.DONE


@pytest.mark.parametrize("how", ["dead process", "expired lease"])
def test_a_crashed_runs_lock_is_taken_over_at_once(house: Stage, how: str) -> None:
    host, pid, start = sync_service.WORKER.rsplit(":", 2)
    dead = SyncRun.objects.create(
        error=f"{host}:{pid}:{int(start) - 1}" if how == "dead process" else "elsewhere:1:1",
        lease_until=timezone.now() + timedelta(seconds=60 if how == "dead process" else -1),
    )
    assert house.sync(wait=0).state == SyncState.DONE
    dead.refresh_from_db()
    assert dead.state == SyncState.FAILED
    assert "gone" in dead.error


def test_old_quiet_runs_are_forgotten(house: Stage) -> None:
    house.sync()
    quiet, loud = house.sync(), house.sync(service_name="scripts")
    SyncRun.objects.filter(pk=loud.run_id).update(findings=[{"code": "x"}])
    SyncRun.objects.update(started_at=timezone.now() - timedelta(hours=2))
    prune_sync_runs()
    assert not SyncRun.objects.filter(pk=quiet.run_id).exists()
    assert SyncRun.objects.filter(pk=loud.run_id).exists()
    SyncRun.objects.update(started_at=timezone.now() - timedelta(days=15))
    prune_sync_runs()
    assert SyncRun.objects.count() == 0


@pytest.mark.django_db(transaction=True)
def test_syncs_at_the_same_time_take_turns(house: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    house.lists("scripts", *(f"A{number}" for number in range(6)))
    from agents.sync import apply

    monkeypatch.setattr(apply, "PARALLEL", 4)
    reports = in_threads(3, lambda number: sync_agents(actor=f"t{number}", wait=60))
    assert [report.state for report in reports] == [SyncState.DONE] * 3
    assert sum(bool(report.applied) for report in reports) == 1
    assert_whole(house, *(f"A{number}" for number in range(6)))


@pytest.mark.django_db(transaction=True)
def test_a_slow_sync_keeps_its_lease_and_one_that_lost_it_stops(house: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync_service, "RENEW_EVERY", 0.02)
    house.lists("scripts", "Ada", "Bea")
    leases: list[Any] = []
    taken = threading.Event()

    def progress(done: int, total: int, text: str) -> None:
        run = SyncRun.objects.get()
        if done == 2:
            leases.append(run.lease_until)
            while SyncRun.objects.get().lease_until == leases[0]:
                taken.wait(0.01)
            leases.append(SyncRun.objects.get().lease_until)
            SyncRun.objects.update(state=SyncState.FAILED, error="taken over")
            while threading.active_count() and any(
                thread.name == "sync-lease" and thread.is_alive() for thread in threading.enumerate()
            ):
                taken.wait(0.01)

    report = house.sync(progress=progress)
    assert leases[1] > leases[0]
    assert report.state == SyncState.FAILED
    assert report.applied.get("agent.create", 0) < 2
    assert SyncRun.objects.get().error == "taken over", "the run that was taken over is not written to any more"
