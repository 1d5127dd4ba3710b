from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.utils import timezone

from ops.doctor import repairs
from ops.doctor.repairs import RepairFailed, RepairRefused
from ops.locks import LockHeld, named_lock
from ops.models import AuditEvent, Issue, IssueState, Job, NamedLock, RepairRun, RepairRunState
from ops.registry import ServiceField
from ops.runner import run_checks
from ops.services.jobs import run_job
from ops.services.repairs import (
    repair_plan,
    repair_policy_set,
    repair_start,
    repair_undo,
    run_automatic_repairs,
    sweep_repairs,
)

pytestmark = pytest.mark.django_db(transaction=True)


def start(**fields):
    return repair_start(**{"repair_id": "lamp.switch", "actor": "person:ada", "trigger": "admin", **fields})


@pytest.fixture
def issue(lamp):
    lamp.broken = {"agent:1", "agent:2"}
    run_checks()
    return Issue.objects.get()


def test_a_plan_shows_the_difference_and_changes_nothing(lamp, issue):
    planned = repair_plan(repair_id="lamp.switch", actor="person:ada")
    assert planned.to_dict()["changes"] == [
        {"target": "agent:1", "what": "lamp", "before": "off", "after": "on"},
        {"target": "agent:2", "what": "lamp", "before": "off", "after": "on"},
    ]
    assert lamp.applied == 0
    assert not RepairRun.objects.exists()


def test_it_mends_proves_it_and_can_be_undone(lamp, issue):
    run = start(issue=issue)
    assert (run.state, run.receipt, run.checks_before, run.checks_after) == (
        RepairRunState.SUCCEEDED,
        {"switched": 2},
        {"lamp.on": "fail"},
        {"lamp.on": "pass"},
    )
    issue.refresh_from_db()
    assert issue.state == IssueState.RESOLVED
    again = start()
    assert (again.state, lamp.applied) == (RepairRunState.UNNEEDED, 1)
    repair_undo(run=run, actor="person:bob")
    run.refresh_from_db()
    assert (run.state, run.undone_by, lamp.broken) == (RepairRunState.UNDONE, "person:bob", {"agent:1", "agent:2"})
    assert Issue.objects.exclude(state=IssueState.RESOLVED).count() == 1
    with pytest.raises(RepairRefused, match="undone already"):
        repair_undo(run=run, actor="person:bob")
    assert set(AuditEvent.objects.values_list("action", flat=True)) >= {"repair.done", "repair.undone"}


def test_one_object_of_many(lamp, issue):
    run = start(target="agent:2", issue=issue)
    assert (run.state, run.checks_after, lamp.broken) == ("succeeded", {"lamp.on": "pass"}, {"agent:1"})
    issue.refresh_from_db()
    assert (issue.state, issue.affected_count) == (IssueState.OPEN, 1)


def test_a_failure_takes_back_what_was_done_and_says_so(lamp, issue):
    lamp.fail_apply = RepairFailed("The fuse blew.")
    run = start(issue=issue)
    assert run.state == RepairRunState.FAILED
    assert run.error == "The fuse blew. What had been done was taken back."
    assert lamp.broken == {"agent:1", "agent:2"}
    issue.refresh_from_db()
    assert issue.state == IssueState.OPEN
    with pytest.raises(RepairRefused, match="nothing to undo"):
        repair_undo(run=run, actor="person:ada")


def test_secrets_are_masked_in_what_is_shown(lamp, issue, clean_doctor):
    repairs.register_repair(
        "lamp.key",
        title="Change the key",
        repair_class="C",
        button="Change",
        explain="Changes the key.",
        fields=[ServiceField("api_key", "Key", secret=True, required=True)],
        plan=lambda work: repairs.Plan("The key would change.", (repairs.Change("lamp", "api_key", "old", "new"),)),
        apply=lambda work: {"token": "abc123456789"},
    )
    with pytest.raises(RepairRefused, match=r"Key \(api_key\) is missing"):
        start(repair_id="lamp.key")
    with pytest.raises(RepairRefused, match="does not know colour"):
        start(repair_id="lamp.key", params={"api_key": "x", "colour": "red"})
    run = start(repair_id="lamp.key", params={"api_key": "topsecret123"})
    run.refresh_from_db()
    assert "abc123456789" not in str(run.receipt)
    with pytest.raises(RepairRefused, match="cannot be undone"):
        repair_undo(run=run, actor="person:ada")


def test_a_destructive_one_wants_its_word(lamp, issue):
    repairs.register_repair(
        "lamp.smash",
        title="Smash the lamps",
        repair_class="D",
        button="Smash",
        explain="Smashes the lamps.",
        plan=lamp.repair.plan,
        apply=lamp.repair.apply,
        undo=lamp.repair.undo,
        confirm_word=lambda work: "smash 2",
    )
    assert repair_plan(repair_id="lamp.smash", actor="x").confirm_word == "smash 2"
    with pytest.raises(RepairRefused, match="Type 'smash 2'"):
        start(repair_id="lamp.smash", typed="smash")
    assert not RepairRun.objects.exists()
    assert start(repair_id="lamp.smash", typed=" smash 2 ").state in ("succeeded", "unproven")
    with pytest.raises(ValueError, match="needs an undo"):
        repairs.register_repair(
            "lamp.crush",
            title="Crush",
            repair_class="D",
            button="Crush",
            explain="Crushes.",
            plan=lamp.repair.plan,
            apply=lamp.repair.apply,
        )


def test_one_run_at_a_time_on_one_target(lamp, issue):
    entered, go = threading.Event(), threading.Event()
    plain = lamp.repair.apply

    def slow(work):
        entered.set()
        assert go.wait(60)
        return plain(work)

    repairs.unregister_repair("lamp.switch")
    repairs.register_repair(
        "lamp.switch",
        title="Switch",
        repair_class="A",
        button="Switch",
        explain="Slowly.",
        plan=lamp.repair.plan,
        apply=slow,
        undo=lamp.repair.undo,
    )
    thread = threading.Thread(target=start)
    thread.start()
    assert entered.wait(60)
    with pytest.raises(LockHeld):
        start()
    go.set()
    thread.join(60)
    assert RepairRun.objects.count() == 1
    assert lamp.applied == 1


def test_a_long_one_runs_as_a_job_and_plans_anew(lamp, issue):
    repairs.unregister_repair("lamp.switch")
    repairs.register_repair(
        "lamp.switch",
        title="Switch",
        repair_class="A",
        button="Switch",
        explain="Takes long.",
        plan=lamp.repair.plan,
        apply=lamp.repair.apply,
        undo=lamp.repair.undo,
        long=True,
    )
    run = start(issue=issue)
    assert (run.state, lamp.applied) == (RepairRunState.QUEUED, 0)
    lamp.broken = {"agent:2"}
    assert run_job(run.job_id)
    run.refresh_from_db()
    assert (run.state, run.changes_count, Job.objects.get().state) == ("succeeded", 1, "succeeded")
    assert start(trigger="command").job_id is None


def test_unattended_only_when_turned_on_and_not_for_ever(lamp, issue):
    assert run_automatic_repairs() == 0
    repair_policy_set(repair_id="lamp.switch", automatic=True, actor="person:ada")
    for _ in range(5):
        lamp.broken = {"agent:1"}
        run_checks()
        run_automatic_repairs()
        Issue.objects.update(flaps=0)
    assert lamp.applied == 3
    repair_policy_set(repair_id="lamp.switch", automatic=False, actor="person:ada")
    RepairRun.objects.update(created_at=timezone.now() - timedelta(hours=2))
    assert run_automatic_repairs() == 0


def test_a_run_whose_process_died_is_settled(lamp, issue):
    run = RepairRun.objects.create(
        repair_id="lamp.switch", repair_class="A", state=RepairRunState.RUNNING, actor="x", worker="gone:1:2"
    )
    with named_lock("repair:lamp.switch:", ttl=60):
        assert sweep_repairs() == 0
    NamedLock.objects.all().delete()
    assert sweep_repairs() == 1
    run.refresh_from_db()
    assert run.state == RepairRunState.FAILED
    assert "died" in run.error


def test_an_unknown_one_says_which_was_meant(lamp):
    with pytest.raises(ValueError, match=r"Did you mean lamp\.switch"):
        repair_plan(repair_id="lamp.swich", actor="x")
