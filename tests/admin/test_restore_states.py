"""Restores that end otherwise than expected: two at once, cancelled, refused, left by their worker. Their pages say so, and what to do."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from agents.models import Agent
from agents.services.agents import agent_pause
from ops.backup.errors import NoRoom
from ops.locks import named_lock
from ops.models import Job, Restore, RestoreState
from ops.services.backup_schedule import tick
from ops.services.backups import backup_now
from ops.services.drills import drill_now
from ops.services.jobs import JobLost, job_cancel, run_job
from ops.services.restores import RestoreRefused, restore_apply_start, restore_undo_start
from tests.admin.restores import applied, cancelled_after, compare, page, run_all


def test_two_operators_take_the_same_restore_back(house: Client) -> None:
    row, address = applied(house)
    undo = reverse("admin:ops_restore_deed", args=[row.pk, "undo"])
    first = house.post(undo, {"typed": "undo"})
    assert undo not in page(house, address)
    assert "being taken back" in page(house, address)
    second = house.post(undo, {"typed": "undo"})
    assert second["Location"] == address
    with pytest.raises(RestoreRefused, match="taken back already, as person:ada"):
        restore_undo_start(restore=row, actor="person:bob")
    assert row.undone_through.count() == 1
    assert "nothing more is asked" in page(house, first["Location"])


def test_two_who_take_it_back_at_the_same_moment_get_one_undo(house: Client, monkeypatch: Any) -> None:
    row, _ = applied(house)
    from ops.services import restores

    plan_of_undo = restores.restore_plan_of_undo

    def meanwhile(restore: Restore, actor: str) -> Restore:
        monkeypatch.setattr(restores, "restore_plan_of_undo", plan_of_undo)
        restore_undo_start(restore=restore, actor="person:otto")
        return plan_of_undo(restore, actor)

    monkeypatch.setattr(restores, "restore_plan_of_undo", meanwhile)
    with pytest.raises(RestoreRefused, match="as person:otto asked for"):
        restore_undo_start(restore=row, actor="person:ada")
    assert [(one.actor, one.state) for one in row.undone_through.order_by("created_at")] == [
        ("person:otto", RestoreState.PLANNING),
        ("person:ada", RestoreState.DISCARDED),
    ]


def test_an_undo_that_failed_is_not_called_taken_back(house: Client) -> None:
    row, address = applied(house)
    undo = restore_undo_start(restore=row, actor="person:ada")
    Job.objects.filter(pk=undo.job_id).update(state="failed", error="The file is gone.")
    Restore.objects.filter(pk=undo.pk).update(state=RestoreState.FAILED, error="The file is gone.")
    text = page(house, address)
    assert "taken back" not in text
    assert reverse("admin:ops_restore_deed", args=[row.pk, "undo"]) in text


def test_a_comparison_that_is_cancelled_says_so_and_can_be_made_again(house: Client) -> None:
    backup = backup_now(actor="person:ada")
    house.post(reverse("admin:ops_restore_start"), {"backup": str(backup.pk), "everything": "yes"})
    row = Restore.objects.get()
    job_cancel(job=row.job, actor="person:ada")
    address = reverse("admin:ops_restore_change", args=[row.pk])
    assert f"{reverse('admin:ops_restore_start')}?backup={backup.pk}" in page(house, address)
    tick()
    row.refresh_from_db()
    assert (row.state, row.error) == (RestoreState.DISCARDED, "It was cancelled. Nothing was changed.")
    assert "It was cancelled" in page(house, address)


@pytest.mark.parametrize("after", ["restore_planning.stage", "restores.stage", "restores._safety"])
def test_cancelling_stops_a_restore_while_nothing_was_changed(house: Client, monkeypatch: Any, after: str) -> None:
    backup = backup_now(actor="person:ada")
    agent_pause(agent=Agent.objects.get(), actor="person:ada")
    cancelled_after(monkeypatch, f"ops.services.{after}")
    row, address = compare(house, backup)
    if after != "restore_planning.stage":
        house.post(reverse("admin:ops_restore_deed", args=[row.pk, "apply"]), {"typed": "restore"})
        run_all()
    row.refresh_from_db()
    assert (row.state, row.job.state) == (RestoreState.DISCARDED, "cancelled")
    assert "It was cancelled. Nothing was changed." in page(house, reverse("admin:ops_job_change", args=[row.job_id]))
    assert f"?backup={backup.pk}" in page(house, address)
    assert Agent.objects.get().paused
    assert "It was cancelled. Nothing was changed." in page(house, address)


def test_the_page_of_a_job_says_what_cancelling_a_restore_means(house: Client) -> None:
    backup = backup_now(actor="person:ada")
    row, _ = compare(house, backup)
    house.post(reverse("admin:ops_restore_deed", args=[row.pk, "apply"]), {"typed": "restore"})
    row.refresh_from_db()
    cancel = reverse("admin:ops_job_deed", args=[row.job_id, "cancel"])
    assert "It ends at once; it has not begun yet." in page(house, cancel)
    Job.objects.filter(pk=row.job_id).update(state="running", started_at=row.created_at)
    text = page(house, cancel)
    assert "as long as no row was replaced" in text
    assert "a new job goes on from there" not in text


def test_a_worker_that_lost_its_job_leaves_the_restore_to_the_next_one(house: Client, monkeypatch: Any) -> None:
    backup = backup_now(actor="person:ada")
    agent_pause(agent=Agent.objects.get(), actor="person:ada")
    row, _ = compare(house, backup)
    house.post(reverse("admin:ops_restore_deed", args=[row.pk, "apply"]), {"typed": "restore"})
    row.refresh_from_db()
    from ops.services import restores

    safety = restores._safety

    def taken_over(restore: Restore, actor: str) -> None:
        monkeypatch.setattr(restores, "_safety", safety)
        raise JobLost("Another worker has taken this job over; this one stops.")

    monkeypatch.setattr(restores, "_safety", taken_over)
    run_job(row.job_id)
    row.refresh_from_db()
    assert (row.state, row.error) == (RestoreState.APPLYING, "")
    Job.objects.filter(pk=row.job_id).update(state="queued")
    run_job(row.job_id)
    row.refresh_from_db()
    assert row.state == RestoreState.DONE, row.error


def test_an_apply_that_was_refused_says_why(house: Client) -> None:
    backup = backup_now(actor="person:ada")
    row, address = compare(house, backup)
    with named_lock("restore.applying"):
        house.post(reverse("admin:ops_restore_deed", args=[row.pk, "apply"]), {"typed": "restore"})
        run_all()
    text = page(house, address)
    assert "Not applied" in text
    assert "Another restore is being applied at the moment" in text
    assert reverse("admin:ops_restore_deed", args=[row.pk, "apply"]) in text


def test_a_restore_that_nobody_finishes_is_gone_on_with_by_a_button(house: Client) -> None:
    row, address = applied(house)
    Restore.objects.filter(pk=row.pk).update(state=RestoreState.RECONCILING, finished_at=None)
    Job.objects.filter(pk=row.job_id).update(state="failed")
    go_on = reverse("admin:ops_restore_deed", args=[row.pk, "go_on"])
    with named_lock("restore.applying"):
        assert go_on not in page(house, address)
    text = page(house, address)
    assert "Not finished" in text
    assert go_on in text
    house.post(go_on)
    run_all()
    row.refresh_from_db()
    assert row.state == RestoreState.DONE


@pytest.mark.parametrize("state", RestoreState.values)
def test_what_cannot_be_applied_says_why(house: Client, state: str) -> None:
    row = Restore.objects.create(source="somewhere", state=state, actor="person:ada")
    if state == RestoreState.PLANNED:
        assert restore_apply_start(restore=row, actor="person:ada").job is not None
        return
    said = {
        "planning": "It is still being compared. Look at it again.",
        "applying": "It is being applied already. Look at it again.",
        "reconciling": "It was applied already, and is being brought together with the outside. Look at it again.",
        "done": "It was applied already. Look at it again.",
        "failed": "It failed, and nothing was changed: compare again.",
        "discarded": "It was discarded, and nothing was changed: compare again.",
        "undone": "It was applied, and taken back since: compare again.",
    }
    with pytest.raises(RestoreRefused, match=f"^{said[state]}$"):
        restore_apply_start(restore=row, actor="person:ada")


def test_no_room_is_said_of_what_was_asked_for(house: Client, monkeypatch: Any) -> None:
    backup = backup_now(actor="person:ada")
    row, _ = compare(house, backup)
    monkeypatch.setattr("ops.disk_guard.reserve_bytes", lambda: 10**18)
    row, address = compare(house, backup)
    assert row.error.startswith("There is no room to compare the backup: ")
    text = page(house, address)
    assert row.error in text
    assert "Backups wait" not in text
    assert 'aria-current="step">Look what would change' in text
    with pytest.raises(NoRoom, match="There is no room for a backup: "):
        backup_now(actor="person:ada")
    with pytest.raises(NoRoom, match="Backups wait: "):
        backup_now(actor="schedule", reason="schedule")
    with pytest.raises(NoRoom, match="There is no room for a drill: "):
        drill_now(backup=backup, actor="person:ada")
    with pytest.raises(NoRoom, match="Drills wait: "):
        drill_now(backup=backup, actor="schedule")


def test_a_worker_that_says_nothing_any_more_is_said_to(house: Client) -> None:
    backup = backup_now(actor="person:ada")
    row, address = compare(house, backup)
    job = reverse("admin:ops_job_change", args=[row.job_id])
    for ago, silent in ((5, False), (20, True)):
        Job.objects.filter(pk=row.job_id).update(state="running", heartbeat_at=timezone.now() - timedelta(seconds=ago))
        for where in (address, job):
            assert ("Its worker was last heard of" in page(house, where)) == silent


def test_what_was_made_before_a_change_is_not_what_is_suggested(house: Client) -> None:
    safety = backup_now(actor="person:ada", reason="safety")
    start = reverse("admin:ops_restore_start")
    assert f'value="{safety.pk}" checked' in page(house, start), "there is no other"
    backup = backup_now(actor="person:ada")
    later = backup_now(actor="person:ada", reason="safety")
    text = page(house, start)
    assert f'value="{backup.pk}" checked' in text
    assert f'value="{later.pk}" required' in text
