"""Restores between their states: what a dead process leaves, what is put aside, what can be taken back and what cannot."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.core.cache import cache
from django.utils import timezone

from ops.backup import hooks
from ops.locks import named_lock
from ops.models import AuditEvent, Job, Service
from ops.models.restore import Restore, RestoreState
from ops.services import restores
from ops.services.reconciling import reconcile
from ops.services.restore_planning import LOCK, key_of, settle_dead


def made(state: str, **more: Any) -> Restore:
    return Restore.objects.create(source="x", state=state, actor="test", **more)


def states(*rows: Restore) -> list[str]:
    return [Restore.objects.get(pk=row.pk).state for row in rows]


def test_what_a_dead_process_leaves_is_said_to_have_failed(house):
    applying, planning = made(RestoreState.APPLYING), made(RestoreState.PLANNING)
    old = made(RestoreState.PLANNING)
    Restore.objects.filter(pk=old.pk).update(created_at=timezone.now() - timedelta(minutes=121))
    planned, reconciling = made(RestoreState.PLANNED), made(RestoreState.RECONCILING)
    with named_lock(LOCK):
        assert settle_dead() == 1, "while one is being applied, only plans that nobody works at"
    assert states(applying, old) == [RestoreState.APPLYING, RestoreState.FAILED]
    assert settle_dead() == 1
    assert states(applying, planning, planned, reconciling) == ["failed", "planning", "planned", "reconciling"]
    applying.refresh_from_db()
    assert applying.error == "Its process ended while it ran. Nothing was changed: compare again, then apply."
    assert applying.finished_at is not None
    assert AuditEvent.objects.filter(action="restore.failed").count() == 2


def test_one_whose_job_goes_on_by_itself_is_left_and_so_is_ones_own(house):
    """There is one at a time that is being applied; whoever holds the lock knows that no other is."""
    job = Job.objects.create(kind="restore.apply", title="x", state="running")
    row, next_one = made("applying", job=job), made("planned")
    with named_lock(LOCK):
        for state in ("running", "queued"):
            Job.objects.filter(pk=job.pk).update(state=state)
            assert settle_dead(but=next_one) == 0, state
        Job.objects.filter(pk=job.pk).update(state="failed")
        assert settle_dead(but=row) == 0
        assert settle_dead(but=next_one) == 1
    assert states(row, next_one) == ["failed", "planned"]


@pytest.mark.parametrize("state", ["planning", "planned", "failed"])
def test_what_was_not_applied_can_be_put_aside_with_its_key(house, state):
    row = made(state)
    cache.set(f"restore-key:{row.pk}", "sealed", 60)
    done = restores.restore_discard(restore=row, actor="person:ada")
    assert (done.state, done.finished_at is not None) == (RestoreState.DISCARDED, True)
    assert cache.get(f"restore-key:{row.pk}") is None
    assert AuditEvent.objects.get(action="restore.discarded").actor == "person:ada"


@pytest.mark.parametrize("state", ["applying", "reconciling", "done", "undone", "discarded"])
def test_what_was_applied_cannot(house, state):
    row = made(state)
    with pytest.raises(restores.RestoreRefused, match="take it back instead"):
        restores.restore_discard(restore=row, actor="person:ada")
    assert states(row) == [state]


@pytest.mark.parametrize("state", ["planning", "planned", "applying", "failed", "undone", "discarded"])
def test_only_what_was_applied_can_be_taken_back(house, state):
    with pytest.raises(restores.RestoreRefused, match="Only a restore that was applied"):
        restores.restore_undo(restore=made(state), actor="command")


def test_without_a_safety_backup_nothing_can_be_taken_back(house):
    with pytest.raises(restores.RestoreRefused, match="no safety backup"):
        restores.restore_undo(restore=made("done"), actor="command")


def test_an_undo_is_of_the_same_kinds_and_marks_that_one_only(house, backup_of):
    service = Service.objects.create(name="before", kind="demo")
    path = backup_of()
    Service.objects.filter(pk=service.pk).update(name="changed")

    def apply() -> Restore:
        planned = restores.restore_plan(path=path, kinds=("settings",), actor="command")
        return restores.restore_apply(restore=planned, actor="command")

    first, second = apply(), apply()
    undo = restores.restore_undo(restore=first, actor="command")
    assert (undo.kinds, undo.undoes_id, undo.state) == (["settings"], first.pk, RestoreState.DONE)
    assert states(first, second) == [RestoreState.UNDONE, RestoreState.DONE]
    service.refresh_from_db()
    assert service.name == "changed"
    with pytest.raises(restores.RestoreRefused, match="this one is"):
        restores.restore_undo(restore=Restore.objects.get(pk=first.pk), actor="command")


def test_a_key_is_kept_sealed_and_only_where_one_was_typed(house):
    row = made("planned")
    assert key_of(row) is None
    restores.remember_key(row, ["AGE-SECRET-KEY-ONE", "AGE-SECRET-KEY-TWO"])
    assert key_of(row) == ["AGE-SECRET-KEY-ONE", "AGE-SECRET-KEY-TWO"]
    assert "AGE-SECRET" not in str(cache.get(f"restore-key:{row.pk}"))
    restores.remember_key(row, None)
    assert key_of(row) == ["AGE-SECRET-KEY-ONE", "AGE-SECRET-KEY-TWO"], "going on without typing it again"


def test_steps_that_failed_or_wait_are_done_again_and_others_are_not(house, monkeypatch):
    done: list[str] = []

    def step(name: str) -> Any:
        def look(work: hooks.Reconcile) -> dict[str, Any]:
            done.append(name)
            if name == "waits" and done.count(name) == 1:
                raise hooks.NotYet("It starts later.")
            if name == "fails" and done.count(name) == 1:
                raise RuntimeError("Refused.")
            return {"sentence": f"{name} {work.extra.get('sentence', '')}", "kinds": list(work.kinds)}

        return look

    monkeypatch.setattr(hooks, "_reconciles", {name: step(name) for name in ("well", "waits", "fails")})
    row = made("reconciling", kinds=["people"], report={"before.well": {"sentence": "noted"}})
    reconcile(row, actor="test", progress=lambda *said: None)
    assert row.state == RestoreState.DONE
    assert row.report["outside.well"] == {"label": "well", "sentence": "well noted", "kinds": ["people"]}
    assert row.report["outside.waits"] == {"label": "waits", "sentence": "It starts later.", "waits": True}
    assert row.report["outside.fails"]["error"] == "Refused."
    assert [one["code"] for one in row.findings] == ["restore.reconcile_failed"]
    assert "could be brought together: fails." in AuditEvent.objects.get(action="restore.finished").message
    reconcile(row, actor="test", progress=lambda *said: None)
    assert done == ["well", "waits", "fails", "waits", "fails"]
    assert "waits" not in row.report["outside.waits"]
